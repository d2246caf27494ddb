//! The search through trees of files: in parallel, each file once.
//!
//! Invariant: what is not read is counted, and named where a person must look; memory is bounded by the largest file
//! that is read, on each thread, and by what was found.

use super::map::globs;
use super::search::Search;
use super::{Hit, Verdict};
use crate::error::{Error, Result};
use ignore::{WalkBuilder, WalkState};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a file begins that is none of text: what tools like this look at.
const HEAD: usize = 64 << 10;

/// Trees, and what of them is searched.
pub struct Tree {
    pub roots: Vec<PathBuf>,
    /// Path patterns that are left out.
    pub ignore: Vec<String>,
    /// Path patterns that alone are searched, where there are any.
    pub only: Vec<String>,
    /// Bytes.
    pub max_file_size: u64,
}

/// What was not searched.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Skipped {
    pub binary: u64,
    pub symlinks: u64,
    pub too_large: Vec<String>,
    pub unreadable: BTreeMap<String, String>,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Found {
    pub hits: Vec<Hit>,
    pub files: u64,
    pub bytes: u64,
    pub skipped: Skipped,
}

impl Found {
    /// Adds what another search found.
    pub fn add(&mut self, other: Self) {
        self.hits.extend(other.hits);
        self.files += other.files;
        self.bytes += other.bytes;
        self.skipped.binary += other.skipped.binary;
        self.skipped.symlinks += other.skipped.symlinks;
        self.skipped.too_large.extend(other.skipped.too_large);
        self.skipped.unreadable.extend(other.skipped.unreadable);
    }

    /// Puts the hits into order; what two roots share is counted once.
    pub fn ordered(mut self) -> Self {
        self.hits.sort_by(|a, b| (&a.path, a.line, a.column, &a.token).cmp(&(&b.path, b.line, b.column, &b.token)));
        self.hits.dedup_by(|a, b| (&a.path, a.line, a.column, &a.token) == (&b.path, b.line, b.column, &b.token));
        self
    }

    /// Counts the hits of a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.hits.iter().filter(|hit| hit.verdict == verdict).count()
    }
}

impl Tree {
    /// Searches the trees; `stop` ends the search early.
    ///
    /// # Errors
    /// [`Error::Settings`] where a root is not there: a search of nothing must not look like one that found nothing.
    pub fn search(&self, search: &Search, stop: &AtomicBool) -> Result<Found> {
        let missing = self.roots.iter().find(|root| !root.exists());
        if let Some(root) = missing {
            return Err(Error::Settings {
                path: "roots".into(),
                found: root.display().to_string(),
                expected: "a directory or a file that is there".into(),
                hint: "name the trees: roots='[\"/srv\"]', or set migrate:addresses:roots".into(),
            });
        }
        let Some((first, others)) = self.roots.split_first() else { return Ok(Found::default()) };
        let mut walk = WalkBuilder::new(first);
        others.iter().for_each(|root| _ = walk.add(root));
        let ignored = globs(&self.ignore)?;
        let only = (!self.only.is_empty()).then(|| globs(&self.only)).transpose()?;
        walk.standard_filters(false).follow_links(false).filter_entry(move |entry| !ignored.is_match(entry.path()));
        walk.threads(std::thread::available_parallelism().map_or(2, usize::from).min(8));
        let found = Mutex::new(Found::default());
        walk.build_parallel().run(|| {
            let mut worker = Worker { search, tree: self, whole: &found, own: Found::default(), buffer: Vec::new() };
            let only = only.clone();
            Box::new(move |entry| {
                if stop.load(Ordering::Relaxed) {
                    return WalkState::Quit;
                }
                match entry {
                    Ok(entry) => {
                        let kind = entry.file_type();
                        if kind.is_some_and(|kind| kind.is_symlink()) {
                            worker.own.skipped.symlinks += 1;
                        } else if kind.is_some_and(|kind| kind.is_file())
                            && only.as_ref().is_none_or(|only| only.is_match(entry.path()))
                        {
                            worker.file(entry.path());
                        }
                    }
                    Err(error) => {
                        worker.own.skipped.unreadable.insert(error.to_string(), "it could not be entered".into());
                    }
                }
                WalkState::Continue
            })
        });
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted("the search was ended early".into()));
        }
        Ok(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).ordered())
    }
}

/// One thread of a search.
struct Worker<'a> {
    search: &'a Search,
    tree: &'a Tree,
    whole: &'a Mutex<Found>,
    own: Found,
    buffer: Vec<u8>,
}

impl Worker<'_> {
    fn file(&mut self, path: &Path) {
        match self.read(path) {
            Ok(Some(length)) => {
                self.own.files += 1;
                self.own.bytes += length as u64;
                self.own.hits.extend(self.search.text(&path.to_string_lossy(), &self.buffer[..length]));
            }
            Ok(None) => {}
            Err(error) => _ = self.own.skipped.unreadable.insert(path.display().to_string(), error.to_string()),
        }
    }

    /// Reads a file into the buffer, and tells its length; nothing where it is not to be searched.
    fn read(&mut self, path: &Path) -> std::io::Result<Option<usize>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        if size > self.tree.max_file_size {
            self.own.skipped.too_large.push(path.display().to_string());
            return Ok(None);
        }
        let (mut length, mut looked) = (0, false);
        loop {
            // One byte more than it should have shows that it grew; a file of the kernel's tells no size.
            let room = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1).max(length + 1);
            if self.buffer.len() < room {
                self.buffer.resize(room.max(HEAD), 0);
            }
            let read = match file.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            length += read;
            // The head tells whether it is text.
            if !looked && memchr::memchr(0, &self.buffer[..length.min(HEAD)]).is_some() {
                self.own.skipped.binary += 1;
                return Ok(None);
            }
            looked |= length >= HEAD;
            if read == 0 || length as u64 > self.tree.max_file_size {
                return Ok(Some(length));
            }
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let own = std::mem::take(&mut self.own);
        self.whole.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(own);
    }
}
