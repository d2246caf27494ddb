//! The end of runs whose controller is gone, journal and all: by the decision row, and by what the servers say.
//!
//! Invariant: first the databases, through the row; then everything else, by the phase that makes the declared state of
//! the side that serves. What there was before that run is known to its journal alone, so it is not guessed.

use super::{Phase, abort_within};
use crate::database::Servers;
use crate::engine::{self, Force, Graph, Report, Role, Verdict};
use crate::error::{Error, Result};
use crate::journal::{Journal, runs};
use crate::outside::Outside;
use crate::settings::{Settings, Side};
use crate::steps::{Ended, Orphans};

/// The phase's name in journals.
pub const NAME: &str = "take-back";
const STEP: &str = "orphans";

/// Builds the graph of the databases' part.
///
/// # Errors
/// [`Error::Journal`] where the journals cannot be read.
pub fn graph(settings: &Settings, servers: &Servers) -> Result<Graph> {
    let over = runs(&settings.state_dir)?.into_iter().filter(|run| run.finished.is_some()).map(|run| run.run);
    let step = Orphans {
        old: servers.primary(Side::Old),
        new: servers.primary(Side::New),
        over: over.collect(),
        quarantine: settings.databases.quarantine_domain,
    };
    let mut graph = Graph::new(NAME);
    graph.add(STEP, Role::Fact, step);
    graph.checked()
}

/// Ends them, and brings the rest in line with the side that serves; nothing where there is none. The caller holds the lock.
///
/// # Errors
/// [`Error::Undecided`] where a primary does not answer; [`Error::NotUndone`] with what is left.
pub async fn end(settings: &Settings, outside: &Outside, begun: Option<Journal>) -> Result<Option<Report>> {
    let graph = graph(settings, &Servers::new(settings))?;
    let within = abort_within(settings);
    let report = match begun {
        Some(journal) => engine::resume(&graph, journal, within, outside).await?,
        None => engine::apply(&graph, &settings.state_dir, &settings.hash, within, &Force::default(), outside).await?,
    };
    match report.verdict {
        Verdict::Unchanged => return Ok(None),
        Verdict::Done => {}
        Verdict::Aborted | Verdict::Stopped => return Ok(Some(report)),
    }
    let ended: Vec<Ended> =
        report.evidence.get(STEP).cloned().and_then(|told| serde_json::from_value(told).ok()).unwrap_or_default();
    let Some(last) = ended.last() else { return Ok(Some(report)) };
    // A flip that was taken back leaves the site on the old side, as a revert does.
    let phase = if last.from_old == last.back { Phase::Revert } else { Phase::Flip };
    let rest = phase.graph(settings, outside, false)?;
    let carried = engine::apply(&rest, &settings.state_dir, &settings.hash, within, &Force::default(), outside).await;
    match carried {
        Ok(carried) if carried.verdict == Verdict::Unchanged => Ok(Some(report)),
        Ok(carried) => Ok(Some(carried)),
        Err(error) => {
            let (serving, next) = match phase {
                Phase::Revert => ("old", "salt-run migrate.revert"),
                _ => ("new", "salt-run migrate.flip"),
            };
            Err(Error::NotUndone(format!(
                "the databases are settled, and the {serving} side serves; for the rest type {next} ({error})"
            )))
        }
    }
}
