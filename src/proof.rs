//! Records of ours about what leaves nothing to look at: a comparison, a sign-off, a rehearsal, a backup.
//!
//! Invariant: a record is whole or not there, and says what it is about by a hash; who asks for a proof of something else
//! finds none.

use crate::error::{Error, Result};
use crate::event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    pub subject: String,
    /// Of what was proved.
    pub hash: String,
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// What was seen in the act.
    pub evidence: Value,
}

impl Proof {
    /// Makes a record of now.
    pub fn new(subject: &str, hash: String, evidence: Value) -> Self {
        Self { subject: subject.to_owned(), hash, at: event::now(), evidence }
    }

    /// Reads the record about a subject, where there is one.
    ///
    /// # Errors
    /// [`Error::Journal`] where it is there and cannot be read.
    pub fn read(state_dir: &Path, subject: &str) -> Result<Option<Self>> {
        let path = place(state_dir, subject);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| Error::Journal(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Journal(format!("{}: {error}", path.display()))),
        }
    }

    /// Puts the record in the place of an older one about the same subject.
    ///
    /// # Errors
    /// [`Error::Journal`] where it cannot be written.
    pub fn keep(&self, state_dir: &Path) -> Result<()> {
        let path = place(state_dir, &self.subject);
        let half = path.with_extension("half");
        let folder = folder(state_dir);
        let text = serde_json::to_string(self).map_err(|error| Error::Journal(error.to_string()))?;
        let written = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).and_then(|()| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&half, &path)?;
            fs::File::open(&folder)?.sync_all()
        });
        written.map_err(|error| Error::Journal(format!("{}: {error}", path.display())))
    }

    /// Forgets the record about a subject; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Journal`] where it cannot be removed.
    pub fn forget(state_dir: &Path, subject: &str) -> Result<()> {
        let path = place(state_dir, subject);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Journal(format!("{}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Tells how many seconds ago it was made.
    pub fn age(&self) -> f64 {
        (event::now() - self.at).max(0.0)
    }

    /// Tells whether it is no older than some hours.
    pub fn fresh(&self, hours: f64) -> bool {
        self.age() <= hours * 3600.0
    }
}

/// Hashes a value.
pub fn digest(value: &Value) -> String {
    Sha256::digest(value.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("proofs")
}

fn place(state_dir: &Path, subject: &str) -> PathBuf {
    // A subject may be called by a name of the pillar.
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    folder(state_dir).join(format!("{}.json", subject.chars().map(plain).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_read_back_and_forgotten() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Proof::read(state.path(), "comparison").unwrap(), None);
        let proof = Proof::new("sign-off.flip.a/b", digest(&json!([1])), json!({"note": "x"}));
        proof.keep(state.path()).unwrap();
        assert_eq!(Proof::read(state.path(), "sign-off.flip.a/b").unwrap(), Some(proof.clone()));
        assert!(proof.fresh(0.01));
        // A time whose last digit a quick reader loses.
        let odd = Proof { at: 1_796_008_784.994_870_7, ..proof };
        odd.keep(state.path()).unwrap();
        assert_eq!(Proof::read(state.path(), "sign-off.flip.a/b").unwrap(), Some(odd));
        Proof::forget(state.path(), "sign-off.flip.a/b").unwrap();
        Proof::forget(state.path(), "sign-off.flip.a/b").unwrap();
        assert_eq!(Proof::read(state.path(), "sign-off.flip.a/b").unwrap(), None);
    }

    #[test]
    fn a_record_that_is_damaged_is_no_record_of_nothing() {
        let state = tempfile::tempdir().unwrap();
        Proof::new("x", "h".into(), json!(1)).keep(state.path()).unwrap();
        fs::write(place(state.path(), "x"), "{").unwrap();
        assert!(matches!(Proof::read(state.path(), "x"), Err(Error::Journal(_))));
    }
}
