//! The comparison of a source's data with a replica's.
//!
//! Invariant: it has a lock and a journal of its own, for it may take hours and hinders nobody; only while it pins a
//! replica to a position does it hold the lock of all.

use crate::database::Server;
use crate::engine::{self, Force, Graph, Report, Role};
use crate::error::{Error, Result};
use crate::journal::Lock;
use crate::outside::Outside;
use crate::settings::Settings;
use crate::steps::{Once, TablesAlike};
use std::rc::Rc;
use std::time::Duration;

/// Compares the tables of two servers; one that died is gone on with.
///
/// # Errors
/// [`Error::Settings`] where both are one server; whatever hindered the comparison.
pub async fn checksum(
    settings: &Settings,
    outside: &Outside,
    source: Rc<Server>,
    replica: Rc<Server>,
    only: Vec<String>,
) -> Result<Report> {
    if source.name == replica.name {
        return Err(Error::Settings {
            path: "replica".into(),
            found: replica.name.clone(),
            expected: "another server than the source".into(),
            hint: "for example: salt-run migrate.checksum old-db1 new-db1".into(),
        });
    }
    let compared = tables(settings, source, replica, only, false);
    let folder = compared.folder();
    let _lock = Lock::take(&folder, "migrate_mysql.checksum")?;
    // What died is gone on with by its record; its journal has nothing to take back.
    let _ = std::fs::remove_dir_all(folder.join("journal"));
    let mut graph = Graph::new("checksum");
    graph.add("compared", Role::Fact, Once(compared));
    let within = Duration::from_millis(settings.databases.deadlines.abort);
    engine::apply(&graph.checked()?, &folder.join("journal"), &settings.hash, within, &Force::default(), outside).await
}

/// Describes a comparison, by itself or as part of a run.
pub(super) fn tables(
    settings: &Settings,
    source: Rc<Server>,
    replica: Rc<Server>,
    only: Vec<String>,
    in_run: bool,
) -> TablesAlike {
    let (state_dir, max_lag) = (settings.state_dir.clone(), settings.databases.max_lag);
    TablesAlike { source, replica, only, state_dir, max_lag, in_run }
}
