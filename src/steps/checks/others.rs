//! Whether another machine is at work: two controllers share no lock, and what one switches at the CDN the other takes back.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use crate::journal::runs;
use std::path::PathBuf;
use std::rc::Rc;

/// Seconds for which an undecided run of nobody here is taken for one that goes on: from its row to its end none takes longer.
const RECENT: u64 = 600;

/// The runs that stand undecided on the target, and whose journal is not here.
pub struct OthersAtWork {
    pub target: Rc<Server>,
    pub state_dir: PathBuf,
}

impl Topic for OthersAtWork {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("others");
        let Ok(open) = self.target.undecided().await else { return Ok(notes.findings) };
        let ours: Vec<String> = runs(&self.state_dir)?.into_iter().map(|run| run.run).collect();
        for (run, _) in open.into_iter().filter(|(run, seconds)| !ours.contains(run) && *seconds < RECENT) {
            notes.doubt(
                &self.target.name,
                // Without a figure that moves, for what was found is what may be forced.
                format!("run {run} of another machine began lately, and is not decided"),
                "wait for it; where its machine is gone: salt-run migrate.abort",
            );
        }
        Ok(notes.findings)
    }
}
