//! The end of a flip that never reached its commit point, and whose new side is gone for good.
//!
//! Invariant: only what stands on the new side is given up, only where the promotion was never sent (else that side may
//! hold writes: see `loss.rs`), and only once the old primary serves.

use super::{Phase, transfer::ids};
use crate::database::Servers;
use crate::engine::{Left, Report, Verdict};
use crate::error::{Error, Result};
use crate::journal::{Journal, Outcome, Record, RunState, StepState};
use crate::settings::{Settings, Side};

/// What somebody vouches for.
#[derive(Debug, Clone, PartialEq)]
pub struct Gone {
    /// The server that is off, by name.
    pub off: String,
    pub reason: String,
}

impl Gone {
    /// Holds what is said against what can be seen.
    ///
    /// # Errors
    /// [`Error::Settings`] where it is not the new primary, where that answers, or where no reason is given.
    pub async fn claimed(&self, settings: &Settings) -> Result<()> {
        let new = Servers::new(settings).primary(Side::New);
        let wrong = |path: &str, found: String, expected: &str, hint: &str| {
            Err(Error::Settings { path: path.into(), found, expected: expected.into(), hint: hint.into() })
        };
        if self.off != new.name {
            let hint = format!("salt-run migrate.abort is_off={} reason='…', once somebody made sure of it", new.name);
            return wrong("is_off", format!("{:?}", self.off), &format!("{}, or nothing", new.name), &hint);
        }
        if self.reason.trim().is_empty() {
            let hint = "reason='its host burnt, and the disk with it'";
            return wrong("reason", "nothing".into(), "why it does not come back, for journal and report", hint);
        }
        match new.status().await {
            Ok(_) => {
                wrong("is_off", format!("{}, which answers", new.name), "one that is off", "salt-run migrate.abort")
            }
            Err(_) => Ok(()),
        }
    }
}

/// Describes the site as it is without the new side's hosts; its databases stay, and are asked in vain.
pub fn without_hosts(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    for node in settings.nodes.new.values_mut() {
        node.minion = None;
    }
    settings
}

/// Ends the run whose way back stands still at what is gone; another one stays as it is reported.
///
/// # Errors
/// Where the old primary cannot be asked, or the journal not be written.
pub async fn end(settings: &Settings, report: Report, gone: &Gone) -> Result<Report> {
    let Some(mut journal) = Journal::unfinished(&settings.state_dir)? else { return Ok(report) };
    let state = journal.state();
    let open = |state: &StepState| matches!(state, StepState::Started { .. } | StepState::Done { .. });
    let rest: Vec<String> = state.steps.iter().filter(|(_, state)| open(state)).map(|(id, _)| id.clone()).collect();
    if !takes_nothing_along(state) || !rest.iter().all(|id| stands_on_the_new_side(id)) {
        return Ok(report);
    }
    if Servers::new(settings).primary(Side::Old).status().await?.read_only {
        return Ok(report);
    }
    journal.keep(Record::Forced { finding: format!("{} is off", gone.off), reason: gone.reason.clone() })?;
    journal.keep(Record::Finished { outcome: Outcome::GivenUp })?;
    let why = format!("it stands on the side that is gone: {}", gone.reason);
    let left = rest.into_iter().map(|step| Left { step, why: why.clone() }).collect();
    let error = Some(Error::Interrupted(format!("the new side was given up: {}", gone.reason)));
    Ok(Report { verdict: Verdict::Stopped, error, left, ..report })
}

/// Tells whether a run is a flip that never asked for the promotion, so that nobody wrote on the new side.
pub fn takes_nothing_along(run: &RunState) -> bool {
    // One that was taken back has lost against the decision to go back.
    let never =
        matches!(run.steps.get(ids::PROMOTION), None | Some(StepState::Unchanged { .. } | StepState::Undone { .. }));
    run.phase == Phase::Flip.name() && !run.committed && never
}

/// Tells by its id where a step's fact is: `notice.new`, `source.new-db2`.
fn stands_on_the_new_side(id: &str) -> bool {
    let (topic, place) = id.split_once('.').unwrap_or((id, ""));
    topic != "edge" && (place == "new" || place.starts_with("new-")) || id == "decision"
}

#[cfg(test)]
mod tests {
    use super::stands_on_the_new_side;

    #[test]
    fn only_what_is_on_the_new_side_is_given_up() {
        for id in ["notice.new", "source.new-db2", "domain.new-db1", "tables.new-db1", "decision"] {
            assert!(stands_on_the_new_side(id), "{id}");
        }
        for id in ["notice.old", "fence", "edge.new-site", "role-at-boot.old-db1", "freeze", "break-glass"] {
            assert!(!stands_on_the_new_side(id), "{id}");
        }
    }
}
