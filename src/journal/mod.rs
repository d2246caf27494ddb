//! What a run did, line by line, on disk before it matters.
//!
//! Invariant: a `started` record is on disk before its permit exists, and nothing else makes a permit. A line that a
//! crash tore is as if it had never been written. The file holds no secret, and only its owner reads it.

mod fold;
mod lock;

pub use fold::{Outcome, RunState, StepState};
pub use lock::Lock;

use crate::drill;
use crate::error::{Error, Result};
use crate::event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The run exists.
    Begun { run: String, phase: String, settings_hash: String },
    /// Somebody took a finding on themselves.
    Forced { finding: String, reason: String },
    /// The step's fact was already as wanted.
    Unchanged { step: String, fact: Value, evidence: Value },
    /// The step may now change the world from `old` to `new`.
    Started { step: String, old: Value, new: Value },
    /// The step's fact is now `fact`.
    Done { step: String, fact: Value, evidence: Value },
    /// A held step came to rest at `fact`.
    Released { step: String, fact: Value },
    /// The step did not reach what it should.
    Failed { step: String, problem: String },
    /// The run can only go forward from here.
    Committed { step: String },
    /// The run is going back.
    Aborting { why: String },
    /// The step's fact is `fact` again.
    Undone { step: String, fact: Value },
    /// The step's fact was left as it is, on purpose.
    Kept { step: String, why: String },
    /// The run is over.
    Finished { outcome: Outcome },
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: f64,
    #[serde(flatten)]
    record: Record,
}

/// The right to change the world for one step of one run.
///
/// Only the journal makes one, from a durable `started` record.
#[derive(Debug)]
pub struct Permit {
    run: String,
    /// Nothing where the run is another process's, which may start any step at any moment.
    started: Option<BTreeSet<String>>,
}

impl Permit {
    /// Names the run that may write.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Tells whether the run may ever have started another step, by what is durably written.
    pub fn started(&self, step: &str) -> bool {
        self.started.as_ref().is_none_or(|started| started.contains(step))
    }
}

/// The journal of one run, open for writing.
pub struct Journal {
    /// Nothing where the run is another process's, and only its state is known here.
    file: Option<File>,
    /// How long the file is up to its last whole record.
    whole: u64,
    /// That something may stand behind it, of a record that could not be written.
    torn: bool,
    state: RunState,
}

impl Journal {
    /// Opens a new run's journal.
    ///
    /// # Errors
    /// [`Error::Journal`] where the folder or file cannot be made.
    pub fn begin(state_dir: &Path, phase: &str, settings_hash: &str) -> Result<Self> {
        let folder = folder(state_dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| io(&folder, &error))?;
        let run = format!("{phase}-{:.0}", event::now() * 1000.0);
        let path = folder.join(format!("{run}.jsonl"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io(&path, &error))?;
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|error| io(&folder, &error))?;
        let mut journal = Self { file: Some(file), whole: 0, torn: false, state: RunState::default() };
        journal.write(Record::Begun { run, phase: phase.to_owned(), settings_hash: settings_hash.to_owned() }, true)?;
        Ok(journal)
    }

    /// Opens the journal of the one run that is not finished, if there is one. The caller holds the lock.
    pub fn unfinished(state_dir: &Path) -> Result<Option<Self>> {
        for path in paths(state_dir)?.into_iter().rev() {
            let (state, whole) = read(&path)?;
            if state.run.is_empty() || state.finished.is_some() {
                continue;
            }
            let file = OpenOptions::new().append(true).open(&path).map_err(|error| io(&path, &error))?;
            file.set_len(whole).map_err(|error| io(&path, &error))?;
            // Whoever goes on builds upon it, and the one that died may not have waited for the disk.
            file.sync_all().map_err(|error| io(&path, &error))?;
            return Ok(Some(Self { file: Some(file), whole, torn: false, state }));
        }
        Ok(None)
    }

    /// Takes what another process's journal says; nothing can be written to it.
    pub fn of_another(state: RunState) -> Self {
        Self { file: None, whole: 0, torn: false, state }
    }

    /// Tells how far the run got.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Appends a record that a later record or a look at the world can replace.
    pub fn note(&mut self, record: Record) -> Result<()> {
        self.write(record, false)
    }

    /// Appends a record and waits until it is on disk.
    pub fn keep(&mut self, record: Record) -> Result<()> {
        self.write(record, true)
    }

    /// Makes a `started` record durable and returns the permit that it makes.
    pub fn start(&mut self, step: &str, old: &Value, new: &Value) -> Result<Permit> {
        self.keep(Record::Started { step: step.to_owned(), old: old.clone(), new: new.clone() })?;
        self.permit(step).ok_or_else(|| Error::Journal(format!("{step} was not started")))
    }

    /// Returns the permit of a step whose `started` record was read back, if there is one.
    pub fn permit(&self, step: &str) -> Option<Permit> {
        let started: BTreeSet<String> = self.state.started().map(str::to_owned).collect();
        started
            .contains(step)
            .then(|| Permit { run: self.state.run.clone(), started: self.file.is_some().then_some(started) })
    }

    fn write(&mut self, record: Record, durable: bool) -> Result<()> {
        let next = self.state.next(&record)?;
        let line = Line { at: event::now(), record };
        let mut text = serde_json::to_string(&line).map_err(|error| Error::Journal(error.to_string()))?;
        text.push('\n');
        let Some(file) = &mut self.file else {
            return Err(Error::Journal("it belongs to another process".into()));
        };
        // What a full disk left of an earlier record would damage all that come after it.
        if self.torn {
            file.set_len(self.whole).map_err(|error| Error::Journal(error.to_string()))?;
        }
        self.torn = true;
        file.write_all(text.as_bytes())
            .and_then(|()| if durable { file.sync_data() } else { Ok(()) })
            .map_err(|error| Error::Journal(error.to_string()))?;
        self.torn = false;
        self.whole += text.len() as u64;
        self.state = next;
        drill::record_written(self.state.records);
        Ok(())
    }
}

/// Reads every run, the oldest first, without the lock.
pub fn runs(state_dir: &Path) -> Result<Vec<RunState>> {
    paths(state_dir)?
        .iter()
        .map(|path| read(path).map(|(state, _)| state))
        .filter(|run| !matches!(run, Ok(state) if state.run.is_empty()))
        .collect()
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("runs")
}

fn paths(state_dir: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder(state_dir);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(&folder, &error)),
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    paths.sort_by_key(|path| {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.rsplit_once('-').and_then(|(_, at)| at.parse::<u64>().ok()).unwrap_or_default()
    });
    Ok(paths)
}

/// Reads a journal up to its last whole line; returns the state and the length up to there.
fn read(path: &Path) -> Result<(RunState, u64)> {
    let mut text = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut text)).map_err(|error| io(path, &error))?;
    let mut state = RunState::default();
    let mut whole = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let torn = line.last() != Some(&b'\n');
        match serde_json::from_slice::<Line>(line) {
            Ok(line) if !torn => {
                state = state.next(&line.record)?;
                state.at(&line.record, line.at);
            }
            // Only the last line can be torn by a crash: what follows a bad one would rest on sand.
            _ if whole + line.len() == text.len() => break,
            _ => {
                return Err(Error::Journal(format!(
                    "{}: line {} is damaged; restore it from a backup",
                    path.display(),
                    number + 1
                )));
            }
        }
        whole += line.len();
    }
    Ok((state, whole as u64))
}

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::Journal(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
