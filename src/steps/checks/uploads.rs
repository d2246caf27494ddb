//! What of the files that people wrote the other side still lacks.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::site::Trees;
use std::rc::Rc;

/// Trees of such files.
pub struct UploadsLacking {
    pub trees: Rc<Trees>,
    /// Whether nobody carries them after this.
    pub last: bool,
}

const CARRY: &str = "carry them, or see that nobody needs them";

impl Topic for UploadsLacking {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("uploads");
        let (theirs, ours) = (&self.trees.pushes.host, &self.trees.takes.host);
        let mend = "salt-run state.orchestrate migrate.prepare";
        let lacking = match self.trees.lacking().await {
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
        match lacking {
            None => {
                notes.block(ours, format!("nothing that carries files is on it, or on {theirs}"), mend);
            }
            Some(lacking) if lacking.paths.is_empty() => {}
            Some(lacking) if self.last => {
                let found = format!("it lacks files that {theirs} has, or has them older: {lacking}");
                notes.doubt(ours, found, CARRY);
            }
            Some(lacking) => {
                let found = format!("it lacks files that {theirs} has, and gets them before anybody waits: {lacking}");
                notes.warn(ours, found, "nothing; where they are many, prepare brings them by day");
            }
        }
        for tree in self.trees.absent().await? {
            let mend = "make it there, or take it out of migrate:uploads";
            notes.block(theirs, format!("there is no {tree}"), mend);
        }
        Ok(notes.findings)
    }
}
