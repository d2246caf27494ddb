//! How the files of the new deployment node differ from those of the old one, by name: the next pass makes them alike.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::site::Trees;
use std::rc::Rc;

/// The trees that both nodes have.
pub struct FilesDiffer(pub Rc<Trees>);

impl Topic for FilesDiffer {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("files");
        let (old, new) = (&self.0.pushes.host, &self.0.takes.host);
        for (tree, names) in self.0.differences().await? {
            let mend = format!("all of it becomes as it is on {old}; what shall stay on {new} belongs into exclude");
            notes.warn(new, format!("{tree} differs from {old}: {names}"), mend);
        }
        Ok(notes.findings)
    }
}
