//! Settings → graph, one file per phase. Order lives only here.
//!
//! [`command`] is what every command of every phase goes through: settings, lock, the run that died, then the phase.

mod break_glass;
mod carried;
mod checksum;
mod cleanup;
mod databases;
mod deployment;
pub mod edge;
mod give_up;
mod guard;
pub mod loss;
mod orphans;
mod people;
mod prepare;
mod rehearsal;
pub mod remap;
mod role;
pub mod signoff;
mod testing;
mod transfer;

use crate::database::Servers;
use crate::engine::{self, Force, Graph, Plan, Report};
use crate::error::{Error, Result};
use crate::journal::{Journal, Lock, RunState, runs};
use crate::outside::Outside;
use crate::settings::{Settings, Side};
use std::time::Duration;

pub use checksum::checksum;
pub use cleanup::{KEPT, deserted};
pub use give_up::{Gone, takes_nothing_along};
pub use guard::watch;
pub use loss::Loss;
pub use prepare::{project, volumes};
pub use rehearsal::rehearse;
pub use testing::announcement;
pub use transfer::ids;

/// A phase of the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The new side's servers.
    Prepare,
    /// The new side as a mirror that people may try.
    Test,
    /// From the old side to the new.
    Flip,
    /// And all the way back, after writes too.
    Revert,
    /// Back without the new primary, which is gone.
    RevertWithLoss,
    /// The end of runs that nobody carries any more, by what the servers say.
    TakeBack,
    /// What was made for the move goes, and the old side after it.
    Cleanup,
    /// Copies of CDN services, for the tests.
    Copy,
    /// And their end.
    RemoveCopies,
    /// CDN versions made ready ahead of the day.
    Stage,
    /// And put on the CDN's staging network, to be tried.
    Trial,
}

impl Phase {
    /// Finds a phase by its name.
    ///
    /// # Errors
    /// [`Error::Settings`] where no phase has the name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "prepare" => Ok(Self::Prepare),
            "test" => Ok(Self::Test),
            "cleanup" => Ok(Self::Cleanup),
            "flip" => Ok(Self::Flip),
            "revert" => Ok(Self::Revert),
            loss::NAME => Ok(Self::RevertWithLoss),
            orphans::NAME => Ok(Self::TakeBack),
            "copy" => Ok(Self::Copy),
            "remove-copies" => Ok(Self::RemoveCopies),
            "stage" => Ok(Self::Stage),
            "trial" => Ok(Self::Trial),
            other => Err(Error::Settings {
                path: "phase".into(),
                found: format!("{other:?}"),
                expected: "prepare, test, flip, revert or cleanup".into(),
                hint: "for example: salt-run migrate.plan flip".into(),
            }),
        }
    }

    /// Returns the phase's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Test => "test",
            Self::Cleanup => "cleanup",
            Self::Flip => "flip",
            Self::Revert => "revert",
            Self::RevertWithLoss => loss::NAME,
            Self::TakeBack => orphans::NAME,
            Self::Copy => "copy",
            Self::RemoveCopies => "remove-copies",
            Self::Stage => "stage",
            Self::Trial => "trial",
        }
    }

    /// Builds the phase's graph.
    ///
    /// # Errors
    /// A defect of the graph.
    pub fn graph(self, settings: &Settings, outside: &Outside, guarded: bool) -> Result<Graph> {
        let servers = match self {
            Self::Flip => Servers::new(&rehearsal::within_budget(settings)?),
            _ => Servers::new(settings),
        };
        self.graph_on(settings, &servers, outside, guarded)
    }

    fn graph_on(self, settings: &Settings, servers: &Servers, outside: &Outside, guarded: bool) -> Result<Graph> {
        let graph = self.unsigned(settings, servers, outside, guarded)?;
        match self {
            Self::Flip | Self::Cleanup => {
                signoff::gated(graph, || self.unsigned(settings, servers, outside, guarded), self.name(), settings)
            }
            _ => Ok(graph),
        }
    }

    /// Builds the graph without the question whether people agree to it.
    fn unsigned(self, settings: &Settings, servers: &Servers, outside: &Outside, guarded: bool) -> Result<Graph> {
        match self {
            Self::Prepare => prepare::graph(self.name(), settings, servers, outside),
            Self::Test => testing::graph(self.name(), settings, servers, outside),
            Self::Flip => transfer::graph(self.name(), settings, servers, outside, Side::Old, guarded),
            Self::Revert => transfer::graph(self.name(), settings, servers, outside, Side::New, guarded),
            // A run of it that goes on has its words in its journal.
            Self::RevertWithLoss => loss::graph(settings, servers, outside, &Loss::default()),
            Self::TakeBack => orphans::graph(settings, servers),
            Self::Cleanup => cleanup::graph(self.name(), settings, servers, outside),
            _ => self.of_edge(settings, outside, None),
        }
    }

    /// Builds the graph of a phase at the CDN alone: of every service, or of one.
    fn of_edge(self, settings: &Settings, outside: &Outside, only: Option<&str>) -> Result<Graph> {
        edge::known(settings, only)?;
        let mut graph = Graph::new(self.name());
        match self {
            Self::Prepare
            | Self::Test
            | Self::Flip
            | Self::Revert
            | Self::RevertWithLoss
            | Self::TakeBack
            | Self::Cleanup => {
                return self.graph(settings, outside, false);
            }
            Self::Copy => edge::add_copies(&mut graph, settings, outside, only)?,
            Self::RemoveCopies => edge::add_removals(&mut graph, settings, outside, only)?,
            Self::Stage => return edge::staging(self.name(), settings, outside, only, false),
            Self::Trial => return edge::staging(self.name(), settings, outside, only, true),
        };
        graph.checked()
    }
}

/// Looks at the world and says what a phase would change. It takes no lock and writes nothing.
///
/// # Errors
/// Whatever hinders looking.
pub async fn plan(phase: Phase, settings: &Settings, outside: &Outside) -> Result<Plan> {
    engine::plan(&phase.graph(settings, outside, true)?).await
}

/// Goes back without the new primary; a run that died is finished first where that needs no new primary.
///
/// # Errors
/// Whatever stood in the way before the first step.
pub async fn revert_with_loss(settings: &Settings, outside: &Outside, loss: &Loss) -> Result<Report> {
    let _lock = Lock::take(&settings.state_dir, "migrate.revert")?;
    let Some(journal) = Journal::unfinished(&settings.state_dir)? else {
        return loss::apply(settings, outside, loss, None).await;
    };
    let state = journal.state();
    let promotes = state.committed || state.started().any(|step| step == transfer::ids::PROMOTION);
    let given_up = match Phase::named(&state.phase)? {
        Phase::Flip => promotes,
        // It could only be taken back by the primary that is gone.
        Phase::Revert => !promotes,
        _ => false,
    };
    if given_up {
        return loss::apply(settings, outside, loss, Some(journal)).await;
    }
    finish(journal, Phase::RevertWithLoss, settings, outside, false).await
}

/// Carries a phase out; a run that died is finished or taken back first, and where it was another phase's, `ended` is told how.
/// `guarded` says that a guard was started.
///
/// # Errors
/// Whatever stood in the way before the first step.
pub async fn apply(
    phase: Phase,
    settings: &Settings,
    outside: &Outside,
    guarded: bool,
    force: &Force,
    ended: &mut Option<Report>,
) -> Result<Report> {
    let _lock = Lock::take(&settings.state_dir, &format!("migrate.{}", phase.name()))?;
    if let Some(journal) = Journal::unfinished(&settings.state_dir)? {
        let report = finish(journal, phase, settings, outside, guarded).await?;
        let same = report.phase == phase.name();
        if same || !report.over() {
            return Ok(report);
        }
        *ended = Some(report);
    }
    let graph = phase.graph(settings, outside, guarded)?;
    engine::apply(&graph, &settings.state_dir, &settings.hash, abort_within(settings), force, outside).await
}

/// Looks at the CDN and says what a phase there would change, at every service or at one.
///
/// # Errors
/// Whatever hinders looking.
pub async fn plan_edge(phase: Phase, settings: &Settings, outside: &Outside, only: Option<&str>) -> Result<Plan> {
    engine::plan(&phase.of_edge(settings, outside, only)?).await
}

/// Carries a phase out at the CDN alone, at every service or at one; a run that died is finished whole first.
///
/// # Errors
/// Whatever stood in the way before the first step.
pub async fn apply_edge(phase: Phase, settings: &Settings, outside: &Outside, only: Option<&str>) -> Result<Report> {
    let _lock = Lock::take(&settings.state_dir, &format!("migrate_fastly.{}", phase.name()))?;
    if let Some(journal) = Journal::unfinished(&settings.state_dir)? {
        let state = journal.state();
        if matches!(Phase::named(&state.phase)?, Phase::Flip | Phase::Revert) {
            return Err(Error::HeldByAnother(format!("run {} is not finished", state.run)));
        }
        let report = finish(journal, phase, settings, outside, false).await?;
        if report.phase == phase.name() || !report.over() {
            return Ok(report);
        }
    }
    let graph = phase.of_edge(settings, outside, only)?;
    engine::apply(&graph, &settings.state_dir, &settings.hash, abort_within(settings), &Force::default(), outside).await
}

/// Takes the run that died back, where it is not committed; one of another machine by what the servers say. What stands
/// on a new side that is `gone` for good may stay there.
///
/// # Errors
/// Where the servers cannot be asked, or something stood in the way.
pub async fn abort(settings: &Settings, outside: &Outside, gone: Option<&Gone>) -> Result<Option<Report>> {
    let _lock = Lock::take(&settings.state_dir, "migrate.abort")?;
    if let Some(gone) = gone {
        gone.claimed(settings).await?;
    }
    let Some(journal) = Journal::unfinished(&settings.state_dir)? else {
        return orphans::end(settings, outside, None).await;
    };
    if journal.state().phase == orphans::NAME {
        return orphans::end(settings, outside, Some(journal)).await;
    }
    if gone.is_some() && !takes_nothing_along(journal.state()) {
        return Err(Error::Settings {
            path: "is_off".into(),
            found: format!("run {}, which is none", journal.state().run),
            expected:
                "a flip that never asked for its promotion: of any other the new side may have what nobody else has"
                    .into(),
            hint: "salt-run migrate.status says what to type".into(),
        });
    }
    let mut graph = graph_of(&journal, settings, outside, false)?;
    if gone.is_some() {
        // Hosts that are gone with it hold up nothing of the old side's.
        graph = Phase::named(&journal.state().phase)?.graph(&give_up::without_hosts(settings), outside, false)?;
    }
    let report = finish_or_abort(&graph, journal, "asked for by migrate.abort", settings, outside).await;
    match gone {
        Some(gone) if !report.over() => give_up::end(settings, report, gone).await.map(Some),
        _ => Ok(Some(report)),
    }
}

/// What is known without asking any server.
pub struct Standing {
    pub holder: Option<String>,
    pub last: Option<RunState>,
}

/// Reads the journals and the lock.
///
/// # Errors
/// [`Error::Journal`] where they cannot be read.
pub fn standing(settings: &Settings) -> Result<Standing> {
    Ok(Standing { holder: Lock::holder(&settings.state_dir), last: runs(&settings.state_dir)?.pop() })
}

/// Finishes a run that died: the same phase goes on, another one goes back unless it is committed.
async fn finish(
    journal: Journal,
    phase: Phase,
    settings: &Settings,
    outside: &Outside,
    guarded: bool,
) -> Result<Report> {
    let graph = graph_of(&journal, settings, outside, guarded)?;
    let (run, committed) = (journal.state().run.clone(), journal.state().committed);
    if graph.phase == phase.name() || committed {
        // The guard of the run that died went with it; this process's own may be on its way. Who only goes back needs none,
        // and where there is none, as where a primary is gone, nobody waits behind a fence for it.
        if guarded
            && !committed
            && journal.state().aborting.is_none()
            && let Err(error) = outside.guard_ready().await
        {
            return Ok(finish_or_abort(&graph, journal, &error.to_string(), settings, outside).await);
        }
        return engine::resume(&graph, journal, abort_within(settings), outside).await;
    }
    let why = format!("run {run} was not finished, and migrate.{} was asked for", phase.name());
    Ok(finish_or_abort(&graph, journal, &why, settings, outside).await)
}

/// Takes a run back, or finishes it where it turns out to be committed.
async fn finish_or_abort(graph: &Graph, journal: Journal, why: &str, settings: &Settings, outside: &Outside) -> Report {
    engine::abort(graph, journal, why, abort_within(settings), outside).await
}

fn graph_of(journal: &Journal, settings: &Settings, outside: &Outside, guarded: bool) -> Result<Graph> {
    let state = journal.state();
    let graph = Phase::named(&state.phase)?.graph(settings, outside, guarded)?;
    // Behind the commit point there is only the way forward, and a server that is gone for good must not stand in it: all
    // may be other than it was, but for the primaries.
    let still = |step: &String| !step.starts_with("tables.") || graph.nodes().iter().any(|node| node.id == *step);
    if state.settings_hash != settings.hash && !(state.committed && state.steps.keys().all(still)) {
        return Err(Error::Settings {
            path: "migrate".into(),
            found: "another pillar than the one of the unfinished run".into(),
            expected: format!("the pillar with which {} began (hash {:.12})", state.run, state.settings_hash),
            hint: "put the pillar back as it was, finish or abort that run, then change the pillar".into(),
        });
    }
    Ok(graph)
}

fn abort_within(settings: &Settings) -> Duration {
    Duration::from_millis(settings.databases.deadlines.abort)
}
