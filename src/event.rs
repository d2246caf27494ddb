//! What a run tells while it goes: the words of the bus, the progress lines and the reports.
//!
//! Invariant: an event is complete in itself; a reader who missed the one before can still show it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's topic, for example `topology`.
    pub topic: String,
    /// The server, service or node it was found on.
    pub subject: String,
    /// What was found, and what was expected.
    pub found: String,
    /// The command or pillar key that mends it.
    pub mend: String,
    /// Whether the flip refuses because of it.
    pub blocking: bool,
    /// Names this one finding; another wording, and so another state of things, has another.
    pub id: String,
    /// Whether somebody may take it on themselves.
    pub forceable: bool,
    /// Why somebody did.
    pub forced: Option<String>,
}

/// What happened to a step, or to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    Begun,
    Resumed,
    Started,
    Done,
    Unchanged,
    Failed,
    Released,
    Committed,
    Aborting,
    Undone,
    Kept,
    Finished,
    Warning,
    /// A second process watches the run.
    Guarding,
}

/// One line of progress.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub run: String,
    pub phase: String,
    pub happening: Happening,
    /// The step, or nothing when it is about the run.
    pub step: Option<String>,
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// Milliseconds that the step took, once it ended.
    pub milliseconds: Option<f64>,
    pub detail: Value,
}

/// Reads the machine's steady clock, which nobody sets, in seconds: only differences mean anything.
pub fn steady() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Reads the wall clock, in seconds since the Unix epoch.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
