//! Whether a backup of the new side came back lately.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::proof::Proof;
use crate::steps::backup_subject;
use std::path::PathBuf;

/// The record of a backup that was restored.
pub struct BackupCameBack {
    pub server: String,
    pub state_dir: PathBuf,
    pub hours: f64,
}

impl Topic for BackupCameBack {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("backup");
        let mend = "salt-run migrate.prepare takes one, and restores it";
        match Proof::read(&self.state_dir, &backup_subject(&self.server))? {
            None => notes.doubt(&self.server, "no backup of it was ever restored".to_owned(), mend),
            Some(proof) if !proof.fresh(self.hours) => {
                let hours = proof.age() / 3600.0;
                let found =
                    format!("its last backup that was restored is {hours:.0} hours old; {} is the limit", self.hours);
                notes.doubt(&self.server, found, mend);
            }
            Some(_) => {}
        }
        Ok(notes.findings)
    }
}
