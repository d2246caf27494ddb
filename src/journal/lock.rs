//! One run at a time.
//!
//! Invariant: the lock is the kernel's and dies with its holder; the text in the file only says who that is.

use crate::error::{Error, Result};
use crate::event;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock for a command.
    ///
    /// # Errors
    /// [`Error::HeldByAnother`] with who holds it, and since when.
    pub fn take(state_dir: &Path, command: &str) -> Result<Self> {
        let journal = |error: std::io::Error| Error::Journal(format!("{}: {error}", state_dir.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(journal)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(state_dir.join("lock"))
            .map_err(journal)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(journal)?;
            return Err(Error::HeldByAnother(holder.trim().to_owned()));
        }
        let since = event::now();
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{command}, process {}, since {since:.0} (Unix time)", std::process::id()))
            .map_err(journal)?;
        Ok(Self { _file: file })
    }

    /// Tells who holds the lock, if anybody does.
    pub fn holder(state_dir: &Path) -> Option<String> {
        let mut file = File::open(state_dir.join("lock")).ok()?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder).ok()?;
        Some(holder)
    }

    /// Tells whether a process was the last to take the lock, whether or not it lives.
    pub fn was_last_taken_by(state_dir: &Path, process: i32) -> bool {
        let last = fs::read_to_string(state_dir.join("lock")).unwrap_or_default();
        last.contains(&format!(", process {process}, "))
    }
}
