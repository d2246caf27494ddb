//! The guard: a second process that takes a run back when the first one dies, or hangs with the source fenced.
//!
//! Invariant: it goes back through the same steps as the run itself, whichever phase that is (a command first finishes the
//! run that died before it), and it touches no run but that of the process it watches. A run that died is taken over under the lock; one
//! that only hangs keeps the lock, so nothing of its journal is written, and the decision row alone settles who wins. It
//! stays as long as the process does, and longer where a primary is out of sight.

use super::{Phase, abort_within, finish_or_abort, transfer::ids};
use crate::database::Servers;
use crate::engine::{self, Report};
use crate::error::{Error, Result};
use crate::event::{self, Event, Happening};
use crate::journal::{Journal, Lock, RunState, StepState, runs};
use crate::outside::Outside;
use crate::settings::{Settings, Side};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often primaries that did not answer are asked again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the journal is looked at for a fence that outlives its time.
const TICK: Duration = Duration::from_millis(250);

/// Watches a process that carries out a phase; returns what had to be done, or nothing.
///
/// # Errors
/// Where the process cannot be watched, or the run cannot be taken back.
pub async fn watch(phase: Phase, process: i32, settings: &Settings, outside: &Outside) -> Result<Option<Report>> {
    let servers = Servers::new(settings);
    for side in [Side::Old, Side::New] {
        servers.primary(side).warm().await?;
    }
    let mut died = death_of(process)?;
    // By this process's own clock: the wall's may jump.
    let mut fenced: Option<(String, Instant)> = None;
    let mut rescued: Option<Report> = None;
    outside.tell(Event {
        run: String::new(),
        phase: phase.name().to_owned(),
        happening: Happening::Guarding,
        step: None,
        at: event::now(),
        milliseconds: None,
        detail: json!({"process": process}),
    });
    loop {
        tokio::select! {
            // What is left of it by then is finished as of any other.
            _ = &mut died => return Ok(take_over(process, &servers, settings, outside).await?.or(rescued)),
            () = tokio::time::sleep(TICK) => {
                // A journal that cannot be read for a moment is looked at again: nobody else watches.
                if Lock::was_last_taken_by(&settings.state_dir, process) && let Ok(Some(run)) = overdue(settings, &mut fenced) {
                    // A fence that was on its way all the time finds the source's own row, and does nothing.
                    if let Some(report) = rescued.as_ref().filter(|report| report.run == run.run)
                        && (!unsettled(report) || opened(report, &run, &servers).await)
                    {
                        continue;
                    }
                    let graph = Phase::named(&run.phase)?.graph_on(settings, &servers, outside, true)?;
                    let report = engine::rescue(&graph, run, abort_within(settings), outside).await;
                    // The target is out of sight: as long as nobody else decides, it is looked for at once again. What
                    // could not be taken back is tried again in a window's time.
                    if matches!(report.error, Some(Error::NotUndone(_))) {
                        fenced = None;
                    }
                    rescued = Some(report);
                }
            }
        }
    }
}

/// Tells whether people may still wait behind a fence: the target could not say how it was decided, or something could not
/// be taken back.
fn unsettled(report: &Report) -> bool {
    matches!(report.error, Some(Error::Undecided(_) | Error::NotUndone(_)))
}

/// Tells whether the source is open though not everything could be taken back: the rest is worth no second try beside a
/// process that may wake up, and is taken back once that is gone.
async fn opened(report: &Report, run: &RunState, servers: &Servers) -> bool {
    let source = if run.phase == Phase::Flip.name() { Side::Old } else { Side::New };
    let stuck = matches!(report.error, Some(Error::NotUndone(_)));
    stuck && servers.primary(source).status_for_rescue().await.is_ok_and(|status| !status.read_only)
}

/// Finishes the run of a process that is gone. As long as it cannot be seen how that was decided, or a primary cannot be
/// opened because it does not answer, it looks again once both primaries do. Nobody who comes with a command meanwhile
/// finds the lock taken; where that sees no more, it is still looked for.
async fn take_over(process: i32, servers: &Servers, settings: &Settings, outside: &Outside) -> Result<Option<Report>> {
    // It never began, or somebody else went on after it.
    if !Lock::was_last_taken_by(&settings.state_dir, process) {
        return Ok(None);
    }
    let mut run = None;
    let mut tried_in_sight = false;
    loop {
        match take_over_once(run.as_deref(), servers, settings, outside).await {
            Ok(None) => return Ok(None),
            Ok(Some(report)) => {
                // What cannot be undone with both in sight, a second time, is something else, and people are told.
                let stuck = tried_in_sight && matches!(report.error, Some(Error::NotUndone(_)));
                if stuck || !unsettled(&report) {
                    return Ok(Some(report));
                }
                run = Some(report.run);
                tried_in_sight = true;
            }
            // Whoever holds it may see as little.
            Err(Error::HeldByAnother(_)) if run.is_some() => {}
            Err(error) => return Err(error),
        }
        loop {
            tokio::time::sleep(AGAIN).await;
            if finished(run.as_deref(), settings) {
                return Ok(None);
            }
            let (old, new) = (servers.primary(Side::Old), servers.primary(Side::New));
            if old.status_for_rescue().await.is_ok() && new.status_for_rescue().await.is_ok() {
                break;
            }
            tried_in_sight = false;
        }
    }
}

/// Tells whether a run has come to its end; what cannot be read for a moment has not.
fn finished(run: Option<&str>, settings: &Settings) -> bool {
    let open = |found: &RunState| found.finished.is_none() && Some(found.run.as_str()) == run;
    runs(&settings.state_dir).is_ok_and(|found| !found.iter().any(open))
}

/// Finishes the run under the lock, that one where it is known already; nothing where there is none that needs it.
async fn take_over_once(
    run: Option<&str>,
    servers: &Servers,
    settings: &Settings,
    outside: &Outside,
) -> Result<Option<Report>> {
    let until = Instant::now() + abort_within(settings);
    let _lock = loop {
        match Lock::take(&settings.state_dir, "the guard") {
            Ok(lock) => break lock,
            // Somebody was quicker, or a child of the dead process still holds it.
            Err(Error::HeldByAnother(_)) if Instant::now() < until => tokio::time::sleep(TICK).await,
            Err(error) => return Err(error),
        }
    };
    let Some(journal) = Journal::unfinished(&settings.state_dir)? else { return Ok(None) };
    if run.is_some_and(|run| run != journal.state().run) {
        return Ok(None);
    }
    let phase = Phase::named(&journal.state().phase)?;
    // Nobody waits behind a fence of any other.
    if !matches!(phase, Phase::Flip | Phase::Revert) {
        return Ok(None);
    }
    let graph = phase.graph_on(settings, servers, outside, true)?;
    let why = "the process that carried the run died, and the guard took it back";
    Ok(Some(finish_or_abort(&graph, journal, why, settings, outside).await))
}

/// Finds the run whose fence has stood longer than the window may last, without a decision.
fn overdue(settings: &Settings, since: &mut Option<(String, Instant)>) -> Result<Option<RunState>> {
    // The one that is not finished, as for whoever goes on with it: of two the later name may be that of a clock that jumped.
    let run = runs(&settings.state_dir)?.into_iter().rev().find(|run| run.finished.is_none());
    let fences = |run: &RunState| {
        let fence = run.steps.get(ids::FENCE);
        !run.committed && matches!(fence, Some(StepState::Started { .. } | StepState::Done { .. }))
    };
    let Some(run) = run.filter(fences) else {
        *since = None;
        return Ok(None);
    };
    let first = match since {
        Some((fenced, first)) if *fenced == run.run => *first,
        _ => since.insert((run.run.clone(), Instant::now())).1,
    };
    Ok((first.elapsed() > Duration::from_millis(settings.databases.deadlines.window)).then_some(run))
}

/// Tells when a process is gone, however it went.
fn death_of(process: i32) -> Result<oneshot::Receiver<()>> {
    let gone =
        |error: rustix::io::Errno| Error::remote("guard", format!("process {process} cannot be watched: {error}"));
    let process = Pid::from_raw(process).ok_or_else(|| Error::remote("guard", "no process to watch"))?;
    let handle = pidfd_open(process, PidfdFlags::empty()).map_err(gone)?;
    let (told, death) = oneshot::channel();
    std::thread::spawn(move || {
        while poll(&mut [PollFd::new(&handle, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
        let _ = told.send(());
    });
    Ok(death)
}
