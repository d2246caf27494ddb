//! How the files of the new deployment node differ from those of the old one, by name: the next pass makes them alike.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::site::Trees;
use std::rc::Rc;

/// The trees that both nodes have.
pub struct FilesDiffer {
    pub trees: Rc<Trees>,
    /// Whether the site was flipped: people may work on the new node since.
    pub flipped: bool,
}

impl Topic for FilesDiffer {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("files");
        let (old, new) = (&self.trees.pushes.host, &self.trees.takes.host);
        let differences = self.trees.differences().await?;
        for tree in differences.missing {
            let mend = "take it out of migrate:prepare:deployment:paths, or make it there";
            notes.block(old, format!("there is no {tree}"), mend);
        }
        for (tree, names) in differences.named {
            let mend = format!("all of it becomes as it is on {old}; what shall stay on {new} belongs into exclude");
            let found = format!("{tree} differs from {old}: {names}");
            if self.flipped {
                notes.doubt(new, format!("the site was flipped, and {found}"), mend);
            } else {
                notes.warn(new, found, mend);
            }
        }
        Ok(notes.findings)
    }
}
