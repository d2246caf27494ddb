//! Failures on order, to rehearse the way back: `SALTEXT_MIGRATE_DRILL` in the environment of the command.
//!
//! `crash-after:N` kills the process after the N-th journal record; `fail-before:STEP` and `fail-after:STEP` make a
//! step fail before or after its effect; `panic-after:STEP` strikes as a defect of ours would.
//! Invariant: without the variable nothing here does anything.

use crate::error::{Error, Result};

/// When, about a step's effect, a failure is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// Dies here if the drill says so.
pub fn record_written(records: u64) {
    if order().is_some_and(|(what, which)| what == "crash-after" && which.parse() == Ok(records)) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Fails here if the drill says so.
pub fn step(step: &str, moment: Moment) -> Result<()> {
    let wanted = if moment == Moment::Before { "fail-before" } else { "fail-after" };
    match order() {
        Some((what, which)) if what == "panic-after" && which == step && moment == Moment::After => {
            std::panic::panic_any(format!("drill panic-after {step}"))
        }
        Some((what, which)) if what == wanted && which == step => {
            Err(Error::remote("drill", format!("{wanted} {step}")))
        }
        _ => Ok(()),
    }
}

fn order() -> Option<(String, String)> {
    let order = std::env::var("SALTEXT_MIGRATE_DRILL").ok()?;
    order.split_once(':').map(|(what, which)| (what.to_owned(), which.to_owned()))
}
