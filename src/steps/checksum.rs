//! The tables of a source beside those of one of its replicas, range by range, each pair of ranges at one position.
//!
//! Invariant: what was compared is written down before the next range, so that whoever comes after a crash goes on there.

use super::deed::Deed;
use crate::database::{Bound, Pinned, Range, Server, Sum, Table};
use crate::error::{Error, Result};
use crate::event::now;
use crate::journal::{Lock, Permit};
use crate::proof::{Proof, digest};
use crate::step::Earlier;
use futures_util::future::try_join;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// For how long one pair of snapshots is kept: both servers keep old row versions that long.
const SITTING: Duration = Duration::from_secs(60);
/// How long one range should take, and between what limits its rows are sought.
const RANGE: Duration = Duration::from_millis(300);
const ROWS: (u64, u64) = (500, 200_000);
/// How long it works on a table before it looks whether the replica keeps up.
const BREATH: Duration = Duration::from_millis(500);
/// How many rows of a range that differs are named.
const NAMED: usize = 20;
/// For how long somebody's half comparison is worth going on with.
const STALE: f64 = 24.0;

/// One comparison.
pub struct TablesAlike {
    pub source: Rc<Server>,
    pub replica: Rc<Server>,
    /// Which tables, as `schema.table`; all where it is empty.
    pub only: Vec<String>,
    pub state_dir: PathBuf,
    /// Milliseconds that the replica may be behind before it is let catch up.
    pub max_lag: u64,
    /// Whether it is part of a run, which holds the lock of all already.
    pub in_run: bool,
}

/// How far a comparison is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub tables: BTreeMap<String, TableProgress>,
    /// The positions at which ranges were compared.
    pub positions: Vec<String>,
    pub differences: Vec<Difference>,
    /// Tables that were left out, and why.
    pub left_out: BTreeMap<String, String>,
    pub seconds: f64,
    /// When the first range was compared, in seconds since the Unix epoch: so old is the whole.
    #[serde(default)]
    pub began: f64,
}

/// How far a table is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableProgress {
    pub rows: u64,
    pub ranges: u64,
    /// The last key that was compared.
    pub upto: Option<Bound>,
    pub whole: bool,
}

/// Something that is not the same on both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub table: String,
    /// `changed`, `missing` or `extra`, as the replica has it; `rows` where rows have no key; `definition`; `table`.
    pub what: String,
    pub range: Range,
    /// The key of the row, or what differs.
    pub place: String,
}

/// The subject of the record.
pub fn subject(source: &str, replica: &str) -> String {
    format!("checksum.{source}.{replica}")
}

/// Stands for two servers and the tables of them that are looked at, all where none are named.
pub fn hash(source: &Server, replica: &Server, only: &[String]) -> String {
    digest(&json!([source.place(), replica.place(), only]))
}

fn half(source: &str, replica: &str) -> String {
    format!("checksum-half.{source}.{replica}")
}

/// Forgets what was compared of two servers, as a whole or in part.
///
/// # Errors
/// As [`Proof::forget`].
pub fn forget(state_dir: &Path, source: &str, replica: &str) -> Result<()> {
    Proof::forget(state_dir, &subject(source, replica))?;
    Proof::forget(state_dir, &half(source, replica))
}

impl Deed for TablesAlike {
    type Evidence = Progress;

    const KEPT: &'static str = "it only looked";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Progress> {
        self.compared(permit).await
    }
}

impl TablesAlike {
    /// Names the folder of whoever compares these two: one at a time.
    pub fn folder(&self) -> PathBuf {
        self.state_dir.join("checksum").join(&self.replica.name)
    }

    /// Compares whatever was not compared yet.
    ///
    /// # Errors
    /// Whatever hinders looking; a difference is none.
    pub async fn compared(&self, permit: &Permit) -> Result<Progress> {
        let hidden = self.source.out_of_sight().await?;
        if hidden > 0 {
            let problem = format!(
                "{hidden} databases are hidden from the migration's account, so a comparison would say nothing of them: \
                 GRANT SELECT on every database of the site, as docs/what-it-needs.md says"
            );
            return Err(Error::remote(&self.source.name, problem));
        }
        let source = self.source.tables().await?;
        // A table that was made just now is on its way; a replica that stands is told of by the pin.
        let written = self.source.binlog_position().await?;
        self.replica.has(&written, self.max_lag).await?;
        let replica = self.replica.tables().await?;
        let wanted = self.wanted(&source, &replica)?;
        let mut progress = self.begun()?;
        let others: BTreeMap<String, &Table> = replica.iter().map(|table| (table.full(), table)).collect();
        let here: BTreeSet<String> = source.iter().map(Table::full).collect();
        for table in replica.iter().filter(|table| wanted(table) && !here.contains(&table.full())) {
            progress.differs(table, "extra", Range::default(), "the whole table");
        }
        let mut sitting: Option<(Pinned, Instant)> = None;
        let mut rows = ROWS.0;
        for table in source.iter().filter(|table| wanted(table)) {
            let Some(other) = others.get(&table.full()) else {
                progress.differs(table, "missing", Range::default(), "the whole table");
                continue;
            };
            if let Some(why) = table.unfit().or_else(|| other.unfit()) {
                progress.left_out.insert(table.full(), why);
                continue;
            }
            if let Some(difference) = table.differs(other) {
                progress.differs(table, "definition", Range::default(), &difference);
                continue;
            }
            self.compare(permit, table, &mut progress, &mut sitting, &mut rows).await?;
        }
        self.keep(&progress, true)?;
        Ok(progress)
    }

    /// Reads where somebody left off.
    fn begun(&self) -> Result<Progress> {
        let half = Proof::read(&self.state_dir, &half(&self.source.name, &self.replica.name))?;
        let known = half.filter(|half| half.fresh(STALE) && half.hash == self.hash());
        let mut begun: Progress = known.and_then(|half| serde_json::from_value(half.evidence).ok()).unwrap_or_default();
        // What differed may have been mended: it is looked at again.
        for found in std::mem::take(&mut begun.differences) {
            begun.tables.remove(&found.table);
        }
        if begun.tables.is_empty() {
            begun.began = now();
        }
        Ok(begun)
    }

    /// Stands for the two and the tables that are looked at.
    pub fn hash(&self) -> String {
        hash(&self.source, &self.replica, &self.only)
    }

    /// Writes down how far it is, or that it is whole.
    fn keep(&self, progress: &Progress, whole: bool) -> Result<()> {
        let (source, replica) = (&self.source.name, &self.replica.name);
        let name = if whole { subject(source, replica) } else { half(source, replica) };
        let evidence = serde_json::to_value(progress).map_err(|error| Error::Journal(error.to_string()))?;
        if whole {
            // A look at some tables is no proof of all.
            if self.only.is_empty() {
                let proof = Proof::new(&name, self.hash(), evidence);
                Proof { at: progress.began, ..proof }.keep(&self.state_dir)?;
            }
            return Proof::forget(&self.state_dir, &half(source, replica));
        }
        Proof::new(&name, self.hash(), evidence).keep(&self.state_dir)
    }

    fn wanted<'a>(&'a self, source: &[Table], replica: &[Table]) -> Result<impl Fn(&Table) -> bool + 'a> {
        let known: BTreeSet<String> = source.iter().chain(replica).map(Table::full).collect();
        if let Some(unknown) = self.only.iter().find(|name| !known.contains(*name)) {
            return Err(Error::Settings {
                path: "tables".into(),
                found: unknown.clone(),
                expected: "tables of the site, as database.table".into(),
                hint: format!("salt-run migrate.checksum {} {} compares all", self.source.name, self.replica.name),
            });
        }
        Ok(|table: &Table| self.only.is_empty() || self.only.contains(&table.full()))
    }

    async fn compare(
        &self,
        permit: &Permit,
        table: &Table,
        progress: &mut Progress,
        sitting: &mut Option<(Pinned, Instant)>,
        rows: &mut u64,
    ) -> Result<()> {
        let mut at = progress.tables.get(&table.full()).cloned().unwrap_or_default();
        let mut breath = Instant::now();
        while !at.whole {
            let pinned = match sitting {
                Some((pinned, since)) if since.elapsed() < SITTING => &*pinned,
                _ => {
                    // Nobody moves a server whose channel stands still for a moment.
                    let _lock =
                        (!self.in_run).then(|| Lock::take(&self.state_dir, "migrate_mysql.checksum")).transpose()?;
                    let pinned = self.source.pin(permit, &self.replica).await?;
                    progress.positions.push(pinned.position.clone());
                    &sitting.insert((pinned, Instant::now())).0
                }
            };
            let clock = Instant::now();
            let upto = table.bound(&pinned.source, at.upto.as_ref(), *rows).await?;
            let range = Range { after: at.upto.clone(), upto };
            let (here, there) = try_join(table.sum(&pinned.source, &range), table.sum(&pinned.replica, &range)).await?;
            if here != there {
                self.name_rows(table, &range, pinned, (&here, &there), progress).await?;
            }
            at.rows += here.rows;
            at.ranges += 1;
            at.whole = range.upto.is_none();
            at.upto = range.upto;
            let took = clock.elapsed();
            let fitting = *rows as f64 * RANGE.as_secs_f64() / took.as_secs_f64().max(0.001);
            *rows = (fitting as u64).clamp((*rows / 4).max(ROWS.0), (*rows * 4).min(ROWS.1));
            progress.seconds += took.as_secs_f64();
            progress.tables.insert(table.full(), at.clone());
            let breathe = breath.elapsed() >= BREATH;
            if breathe || at.whole {
                self.keep(progress, false)?;
            }
            if breathe {
                self.let_catch_up().await?;
                breath = Instant::now();
            }
        }
        Ok(())
    }

    /// Waits until the replica is no further behind than it may be.
    async fn let_catch_up(&self) -> Result<()> {
        let position = self.source.binlog_position().await?;
        let until = Instant::now() + Duration::from_secs(60);
        while !self.replica.has(&position, self.max_lag).await? {
            if Instant::now() >= until {
                return Err(Error::Deadline {
                    what: format!("{}: catching up in the middle of a comparison", self.replica.name),
                    limit_ms: 60_000,
                });
            }
        }
        Ok(())
    }

    /// Finds the rows of a range that differ.
    async fn name_rows(
        &self,
        table: &Table,
        range: &Range,
        pinned: &Pinned,
        (here, there): (&Sum, &Sum),
        progress: &mut Progress,
    ) -> Result<()> {
        if !table.has_key() {
            let counts = format!("{} rows at the source, {} at the replica", here.rows, there.rows);
            progress.differs(table, "rows", range.clone(), &counts);
            return Ok(());
        }
        let (ours, theirs) = try_join(table.each(&pinned.source, range), table.each(&pinned.replica, range)).await?;
        let keys: BTreeSet<&Bound> = ours.keys().chain(theirs.keys()).collect();
        let what = |key: &Bound| match (ours.get(key), theirs.get(key)) {
            (Some(ours), Some(theirs)) => (ours != theirs).then_some("changed"),
            (Some(_), None) => Some("missing"),
            _ => Some("extra"),
        };
        let found: Vec<(&Bound, &str)> = keys.into_iter().filter_map(|key| Some((key, what(key)?))).collect();
        for (key, what) in found.iter().take(NAMED) {
            progress.differs(table, what, range.clone(), &key.join(", "));
        }
        if found.is_empty() {
            progress.differs(table, "rows", range.clone(), "somewhere in this range");
        }
        if found.len() > NAMED {
            progress.differs(table, "rows", range.clone(), &format!("and {} more rows", found.len() - NAMED));
        }
        Ok(())
    }
}

impl Progress {
    fn differs(&mut self, table: &Table, what: &str, range: Range, place: &str) {
        let difference = Difference { table: table.full(), what: what.to_owned(), range, place: place.to_owned() };
        if !self.differences.contains(&difference) {
            self.differences.push(difference);
        }
    }
}
