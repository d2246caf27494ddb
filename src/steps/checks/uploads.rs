//! What of the files that people wrote the other side still lacks.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::site::{Look, Trees};
use std::rc::Rc;

/// Trees of such files.
pub struct UploadsLacking {
    pub trees: Rc<Trees>,
    /// Whether nobody carries them after this.
    pub last: bool,
}

const PREPARE: &str = "salt-run state.orchestrate migrate.prepare";
const CARRY: &str = "carry them, or see that nobody needs them";

impl Topic for UploadsLacking {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("uploads");
        let (theirs, ours) = (&self.trees.pushes.host, &self.trees.takes.host);
        let lacking = match self.trees.lacking(if self.last { Look::All } else { Look::Some }).await {
            Err(error) => {
                let found = format!("whether it has all files of {theirs} cannot be seen: {error}");
                if self.last {
                    notes.doubt(ours, found, CARRY);
                } else {
                    notes.block(ours, found, "see that both minions answer");
                }
                return Ok(notes.findings);
            }
            Ok(lacking) => lacking,
        };
        let Some(lacking) = lacking else {
            notes.block(ours, format!("nothing that carries files is on it, or on {theirs}"), PREPARE);
            return Ok(notes.findings);
        };
        for tree in &lacking.missing {
            notes.block(theirs, format!("there is no {tree}"), "make it there, or take it out of migrate:uploads");
        }
        if !lacking.outside.is_empty() {
            let found = format!(
                "links lead out of what is carried, and what is behind them stays where it is: {}",
                lacking.outside.join(", ")
            );
            let mend = "name those folders in paths too, or see that nobody needs them";
            if self.last { notes.doubt(theirs, found, mend) } else { notes.warn(theirs, found, mend) }
        }
        if self.last && !lacking.paths.is_empty() {
            let named = lacking.named();
            notes.doubt(ours, format!("it lacks files that {theirs} has, or has them older: {named}"), CARRY);
        } else if self.last && !lacking.all {
            let found =
                format!("whether it has all files of {theirs} could not be seen: they are too many for a message");
            notes.doubt(ours, found, CARRY);
        } else if !lacking.paths.is_empty() {
            let named = lacking.named();
            let found = format!("it lacks files that {theirs} has, and gets them before anybody waits: {named}");
            notes.warn(ours, found, "nothing; where they are many, prepare brings them by day");
        }
        if !self.last && !lacking.all {
            let found = format!("files are not as on {theirs}, too many to look at all of them");
            notes.warn(ours, found, "have prepare bring them by day, then look again");
        }
        // Behind a flip that is as it should be.
        if !self.last && !lacking.kept.is_empty() {
            let found = format!("files are not as on {theirs}, and newer, so they stay: {}", lacking.named_kept());
            notes.warn(ours, found, "look at them; `touch` on the one that is right has it win");
        }
        Ok(notes.findings)
    }
}
