//! The remap and its way back: one step over all files, with a journal of its own beside the manifests.
//!
//! Invariant: a remap that died is taken back before another begins; a file that somebody changed since is left alone.

use crate::addresses::{Contents, Manifest};
use crate::engine::{self, Force, Graph, Report, Role, Verdict};
use crate::error::{Error, Result};
use crate::journal::{Journal, Lock};
use crate::outside::Outside;
use crate::steps::Rewritten;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of the manifests and of their journal.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("addresses")
}

/// Rewrites every file of a manifest, or none.
///
/// # Errors
/// Whatever stood in the way before the first file.
pub async fn apply(manifest: &Manifest, state_dir: &Path, outside: &Outside) -> Result<Report> {
    let folder = folder(state_dir);
    let _lock = Lock::take(&folder, "migrate_addresses.remap")?;
    take_back(&folder, outside).await?;
    manifest.keep(&folder)?;
    run("remap", manifest, manifest.contents(true), &folder, outside).await
}

/// Takes back what a remap replaced: the files that are still as it wrote them. The others are named.
///
/// # Errors
/// Whatever stood in the way before the first file.
pub async fn restore(manifest: &Manifest, state_dir: &Path, outside: &Outside) -> Result<Report> {
    let folder = folder(state_dir);
    let _lock = Lock::take(&folder, "migrate_addresses.restore")?;
    take_back(&folder, outside).await?;
    run("restore", manifest, ours(manifest), &folder, outside).await
}

/// The files that are as a remap wrote them, each with the content it had before.
pub fn ours(manifest: &Manifest) -> Contents {
    let (now, after) = (manifest.observe(), manifest.contents(true));
    let mut to = manifest.contents(false);
    to.retain(|path, _| now.get(path) == after.get(path));
    to
}

/// The files that somebody changed since a remap wrote them.
pub fn foreign(manifest: &Manifest) -> Vec<String> {
    let now = manifest.observe();
    let known = |path: &String, content: &String| {
        manifest.files.get(path).is_some_and(|rewrite| *content == rewrite.before || *content == rewrite.after)
    };
    now.iter().filter(|(path, content)| !known(path, content)).map(|(path, _)| path.clone()).collect()
}

async fn run(phase: &str, manifest: &Manifest, to: Contents, folder: &Path, outside: &Outside) -> Result<Report> {
    // The manifest's id is the run's settings: a resume finds it by that.
    engine::apply(&graph(phase, manifest, to)?, folder, &manifest.id, WITHIN, &Force::default(), outside).await
}

/// How long going back is tried.
const WITHIN: Duration = Duration::from_secs(60);

fn graph(phase: &str, manifest: &Manifest, to: Contents) -> Result<Graph> {
    let mut graph = Graph::new(phase);
    graph.add("rewritten", Role::Fact, Rewritten { manifest: manifest.clone(), to });
    graph.checked()
}

/// Takes back a remap, or a restore, that died in the middle.
async fn take_back(folder: &Path, outside: &Outside) -> Result<()> {
    let Some(journal) = Journal::unfinished(folder)? else { return Ok(()) };
    let state = journal.state();
    let manifest = Manifest::read(folder, Some(&state.settings_hash))?;
    let graph = graph(&state.phase, &manifest, manifest.contents(state.phase == "remap"))?;
    let report =
        engine::abort(&graph, journal, "it was not finished, and another was asked for", WITHIN, outside).await;
    match (report.verdict, report.error) {
        (Verdict::Stopped, Some(error)) => Err(error),
        (Verdict::Stopped, None) => Err(Error::NotUndone(manifest.id)),
        _ => Ok(()),
    }
}
