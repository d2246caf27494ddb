//! Changes in the site's own trees that nobody committed: they move, and somebody should know.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::site::Worker;

/// The git trees of the old deployment node.
pub struct Uncommitted {
    pub node: Worker,
    pub paths: Vec<String>,
}

impl Topic for Uncommitted {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("uncommitted");
        for (tree, changes) in self.node.uncommitted(&self.paths).await? {
            let found = format!("{changes} changes in {tree} that nobody committed");
            notes.warn(&self.node.host, found, "commit them, or know that they move as they are");
        }
        Ok(notes.findings)
    }
}
