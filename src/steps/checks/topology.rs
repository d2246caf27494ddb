//! Who follows whom: each hop is proved by the identity of both ends.

use super::{Notes, Topic};
use crate::database::dialect::Words;
use crate::database::{Server, Status};
use crate::error::Result;
use crate::event::Finding;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The chain as it must stand before a transfer: everybody reads, over some hops, from the one writable primary.
pub struct Topology {
    pub servers: Vec<Rc<Server>>,
    pub from: Rc<Server>,
    pub to: Rc<Server>,
    /// Whether the pillar has servers speak TLS.
    pub tls: bool,
}

impl Topic for Topology {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("topology");
        let mut statuses: BTreeMap<&str, Status> = BTreeMap::new();
        for (server, status) in
            join_all(self.servers.iter().map(|server| async move { (server, server.status().await) })).await
        {
            match status {
                Ok(status) => {
                    statuses.insert(&server.name, status);
                }
                Err(error) => notes.block(
                    &server.name,
                    error.to_string(),
                    "start the server, open the way to it, or correct migrate:databases",
                ),
            }
        }
        let mut ids: BTreeMap<u32, &str> = BTreeMap::new();
        let mut uuids: BTreeMap<&str, &str> = BTreeMap::new();
        for server in &self.servers {
            let Some(status) = statuses.get(server.name.as_str()) else { continue };
            if let Some(first) = ids.insert(status.server_id, &server.name) {
                notes.block(
                    &server.name,
                    format!("server_id {} is also that of {first}", status.server_id),
                    "give each server its own server_id",
                );
            }
            if let Some(uuid) = status.own.uuid.as_deref()
                && let Some(first) = uuids.insert(uuid, &server.name)
            {
                notes.block(
                    &server.name,
                    format!("server_uuid {uuid} is also that of {first}"),
                    "remove auto.cnf from the copy's data folder and restart it: it gets a UUID of its own",
                );
            }
            let words = server.dialect().await?.words();
            let is_from = server.name == self.from.name;
            if is_from && status.read_only {
                notes.block(
                    &server.name,
                    "it is read-only, and it is the primary to move from",
                    "see who fenced it: salt-run migrate.status",
                );
            }
            if !is_from && !status.read_only {
                notes.block(
                    &server.name,
                    "it accepts writes beside the primary",
                    format!("{} there, and see what was written", words.close_by_hand),
                );
            }
            self.hop(&mut notes, server, words, status, &statuses);
        }
        let crosses = !self.from.address.is_loopback() || !self.to.address.is_loopback();
        if crosses && !self.tls {
            let what =
                "all that the site writes crosses between the clouds in clear, and nobody proves to be who they are";
            notes.warn("migrate:databases:tls", what, "give the servers certificates, and name their authority in ca");
        }
        self.strangers(&mut notes, &ids).await?;
        Ok(notes.findings)
    }
}

impl Topology {
    fn hop(
        &self,
        notes: &mut Notes,
        server: &Server,
        words: &Words,
        status: &Status,
        statuses: &BTreeMap<&str, Status>,
    ) {
        if !status.other_channels.is_empty() {
            notes.block(
                &server.name,
                format!("further replication channels: {}", status.other_channels.join(", ")),
                "end and reset what is not needed",
            );
        }
        let Some(channel) = &status.channel else {
            if server.name != self.from.name {
                notes.block(&server.name, "it follows nobody", "point it to its source, as migrate:databases declares");
            }
            return;
        };
        if server.name == self.from.name {
            notes.block(
                &server.name,
                format!("the primary itself follows {}", channel.source),
                format!("{} there, if nothing needs it", words.end_by_hand),
            );
            return;
        }
        let Some(source) = self.servers.iter().find(|source| source.place() == channel.source) else {
            notes.block(
                &server.name,
                format!("it follows {}, which migrate:databases does not name", channel.source),
                "correct the pillar or the server's source",
            );
            return;
        };
        if !channel.healthy() {
            let found = format!(
                "replication from {} stands: receiving {}, applying {}, {}",
                source.name, channel.receiving, channel.applying, channel.error
            );
            let mend = "mend the error, then start replication again; where that is about a GTID, the server has a \
                        transaction of its own: see what it is, and seed it anew";
            notes.block(&server.name, found, mend);
        }
        if let Some(theirs) = statuses.get(source.name.as_str())
            && theirs.server_id != channel.source_id
        {
            let found = format!(
                "at {} it reads from server_id {}, but {} is {}",
                channel.source, channel.source_id, source.name, theirs.server_id
            );
            notes.block(&server.name, found, "find out which server answers at that address");
        }
        if channel.tls && !self.tls {
            notes.warn(
                &server.name,
                format!(
                    "it reads from {} over TLS, and would read in clear from wherever it is pointed to",
                    source.name
                ),
                "name the authority in migrate:databases:tls:ca",
            );
        }
        if channel.delay > 0 {
            notes.block(
                &server.name,
                format!("it is delayed by {} s on purpose", channel.delay),
                words.undelay_by_hand,
            );
        }
        if !channel.filters.is_empty() {
            notes.block(
                &server.name,
                format!("replication filters: {}", channel.filters.join(", ")),
                "remove the filters: what they drop is lost by the flip",
            );
        }
    }

    async fn strangers(&self, notes: &mut Notes, ids: &BTreeMap<u32, &str>) -> Result<()> {
        for id in self.from.replica_ids().await? {
            if !ids.contains_key(&id) {
                notes.warn(
                    &self.from.name,
                    format!("a replica with server_id {id} that migrate:databases does not name"),
                    "tell its owner: after the flip it must follow the new primary",
                );
            }
        }
        for id in self.to.replica_ids().await.unwrap_or_default() {
            if !ids.contains_key(&id) {
                notes.warn(
                    &self.to.name,
                    format!("a replica with server_id {id} that migrate:databases does not name"),
                    "find out whose it is: it gets what the site writes after the flip",
                );
            }
        }
        Ok(())
    }
}
