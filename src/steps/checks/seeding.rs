//! Whether the old side can be copied while it runs, and what it lacks for the way back.

use super::room::holding;
use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use crate::outside::Outside;
use crate::settings::Family;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The old servers, and the one that is copied.
pub struct Copyable {
    pub old: Vec<Rc<Server>>,
    pub from: Rc<Server>,
    /// What the pillar says of the servers.
    pub family: Family,
    pub outside: Outside,
    /// The minion of the one that is copied, and where it puts a copy first.
    pub host: String,
    pub clone_folder: String,
    pub seconds: u64,
    pub megabytes_per_second: u64,
    /// By new server: the `server_id` that it is given.
    pub ids: BTreeMap<String, u32>,
    /// The new servers that are told of no certificate, where connections are to be verified.
    pub uncertified: Vec<String>,
    /// For how long both sides must keep their binlogs after the flip.
    pub soak_hours: u64,
}

const KEPT: [&str; 2] = ["binlog_expire_logs_seconds", "expire_logs_days"];

impl Topic for Copyable {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("seeding");
        let mut known: BTreeMap<u32, String> = BTreeMap::new();
        for server in &self.old {
            match server.status().await {
                Ok(status) => {
                    known.entry(status.server_id).or_insert_with(|| server.name.clone());
                    if status.family != self.family.name() && server.name == self.from.name {
                        let (is, said) = (&status.family, self.family.name());
                        notes.block(
                            &server.name,
                            format!("it is {is}, and the new databases would be configured as {said}"),
                            format!("set migrate:prepare:databases:family: {}", is.to_lowercase()),
                        );
                        return Ok(notes.findings);
                    }
                    if server.name == self.from.name {
                        let remarks = server.dialect().await?.remarks(&status);
                        for remark in remarks.into_iter().filter(|remark| remark.blocking) {
                            notes.block(&server.name, remark.found, remark.mend);
                        }
                    }
                    if !status.log_bin && server.name == self.from.name {
                        notes.block(
                            &server.name,
                            "log_bin is off, so nobody can follow it",
                            "set log_bin in its configuration and restart it",
                        );
                    }
                    if !status.log_replica_updates && server.name == self.from.name && status.channel.is_some() {
                        notes.block(
                            &server.name,
                            format!(
                                "{} is off, and it is a replica: its copies could not go on from it",
                                server.dialect().await?.words().replica_updates
                            ),
                            "copy the primary: leave migrate:prepare:databases:from out",
                        );
                    }
                }
                Err(error) => notes.block(&server.name, error.to_string(), "start the server, or open the way to it"),
            }
        }
        for node in &self.uncertified {
            notes.doubt(
                &format!("new-{node}"),
                "migrate:databases:tls wants verified connections, and its options name no ssl_cert: nobody could connect to it",
                format!(
                    "bring a certificate and its key to the host, and name them in migrate:prepare:databases:servers:{node}:options"
                ),
            );
        }
        for (node, id) in &self.ids {
            let name = format!("new-{node}");
            match known.insert(*id, name.clone()) {
                Some(first) if first != name => notes.block(
                    &name,
                    format!("its server_id {id} is also that of {first}"),
                    format!("migrate:prepare:databases:servers:{node}:server_id gives it another"),
                ),
                _ => {}
            }
        }
        if self.from.status().await.is_err() {
            return Ok(notes.findings);
        }
        let hidden = self.from.out_of_sight().await?;
        if hidden > 0 {
            notes.block(
                &self.from.name,
                format!("{hidden} databases are hidden from the migration's account, so nobody can say whether they are copied well"),
                "GRANT SELECT on every database of the site, as docs/what-it-needs.md says",
            );
        }
        for found in self.from.unsafe_to_copy().await? {
            let what = format!("{} tables of {}, for example {}", found.tables, found.engine, found.example);
            let alter = format!("ALTER TABLE {} ENGINE=InnoDB", found.example);
            match self.family {
                Family::MariaDb => notes.doubt(
                    &self.from.name,
                    what,
                    format!("{alter}; else writers of such tables wait while they are copied, and a crash of a replica breaks them"),
                ),
                Family::MySql => notes.block(&self.from.name, what, format!("{alter}: a copy has such tables without their rows")),
            }
        }
        self.retention(&mut notes).await?;
        if let Some(plugin) = self.from.lacks_to_be_copied().await? {
            notes.block(
                &self.from.name,
                format!("the plugin {plugin}, by which it copies itself, is not active"),
                format!("INSTALL PLUGIN {plugin} SONAME 'mysql_{plugin}.so'; its copies have it too"),
            );
        }
        if self.family == Family::MySql {
            self.room(&mut notes).await?;
        }
        Ok(notes.findings)
    }
}

/// What must be left on a file system beside a copy, in bytes: a server whose disk is full stands still.
const LEFT: u64 = 1 << 30;

impl Copyable {
    /// A copy stands on the disk of the one that is copied until it was sent.
    async fn room(&self, notes: &mut Notes) -> Result<()> {
        let bytes = self.from.size().await?;
        let disk = holding(&self.outside, &self.host, &self.clone_folder, self.seconds).await;
        // Who does not tell is another check's to name; and the worker looks again.
        if let Some(disk) = disk.filter(|disk| disk.free < bytes + bytes / 10 + LEFT) {
            notes.block(
                &self.from.name,
                format!("{}, where {} is, has no room for a copy of it and 1 GiB more", disk.mount, self.clone_folder),
                "make room there, or name a folder elsewhere in migrate:prepare:databases:clone_folder, which its own user may enter and nobody else",
            );
        }
        Ok(())
    }

    async fn retention(&self, notes: &mut Notes) -> Result<()> {
        let variables = self.from.variables(&KEPT).await?;
        let number = |name: &str| variables.get(name).and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
        let kept = if number(KEPT[0]) > 0.0 { number(KEPT[0]) } else { number(KEPT[1]) * 86_400.0 };
        // Nought keeps everything.
        if kept <= 0.0 {
            return Ok(());
        }
        let bytes = self.from.size().await?;
        // Sent, prepared, and caught up with: three times its way, and an hour for people.
        let needed = 3 * bytes / (self.megabytes_per_second * 1_000_000) + 3_600;
        if kept < needed as f64 {
            let what = format!(
                "its binlogs are kept for {kept:.0} s, and a copy of {} MB at {} MB/s needs {needed} s until it has caught up",
                bytes / 1_000_000,
                self.megabytes_per_second
            );
            let mend = format!("SET GLOBAL {}={} until the flip is over", KEPT[0], needed.max(self.soak_hours * 3_600));
            notes.block(&self.from.name, what, mend);
        }
        Ok(())
    }
}
