//! Server settings without which a transfer, or the way back from it, would lose something.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// How much of a row a binlog has.
const IMAGE: &str = "binlog_row_image";

/// The settings of every server of the chain.
pub struct Configuration {
    pub servers: Vec<Rc<Server>>,
    /// Whoever writes now, and whoever takes over, where that one is there.
    pub primaries: Vec<Rc<Server>>,
}

impl Topic for Configuration {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("configuration");
        for server in &self.servers {
            let Ok(status) = server.status().await else { continue };
            if !status.log_bin {
                notes.block(
                    &server.name,
                    "log_bin is off",
                    "set log_bin in its configuration and restart it, days before the flip",
                );
            }
            // Without it the relay lacks what came through this server, in silence: no thread stops, no lag shows.
            let updates = server.dialect().await?.words().replica_updates;
            if !status.log_replica_updates {
                notes.block(
                    &server.name,
                    format!("{updates} is off"),
                    format!("set {updates}=ON in its configuration and restart it, days before the flip"),
                );
            }
            let filters = server.binlog_filters().await?;
            if !filters.is_empty() {
                notes.doubt(
                    &server.name,
                    format!("its binlog leaves something out: {}", filters.join(", ")),
                    "take it out of its configuration and restart it, days before the flip: what is left out is lost by it",
                );
            }
            for remark in server.dialect().await?.remarks(&status) {
                if remark.blocking {
                    notes.block(&server.name, remark.found, remark.mend);
                } else {
                    notes.warn(&server.name, remark.found, remark.mend);
                }
            }
            let image = server.variables(&[IMAGE]).await?;
            if let Some(image) = image.get(IMAGE).filter(|image| !image.starts_with("FULL")) {
                let what = format!("{IMAGE} is {image}: a replica whose row differs goes on without a word");
                notes.warn(&server.name, what, format!("SET GLOBAL {IMAGE}=FULL, and let sessions reconnect"));
            }
            if status.binlog_format != "ROW" {
                notes.warn(
                    &server.name,
                    format!("binlog_format is {}", status.binlog_format),
                    "SET GLOBAL binlog_format=ROW, and let sessions reconnect",
                );
            }
        }
        for server in &self.primaries {
            let Ok(status) = server.status().await else { continue };
            if status.sync_binlog != 1 || status.flush_log_at_commit != 1 {
                let found = format!(
                    "sync_binlog={}, innodb_flush_log_at_trx_commit={}",
                    status.sync_binlog, status.flush_log_at_commit
                );
                notes.warn(&server.name, found, "SET GLOBAL sync_binlog=1, innodb_flush_log_at_trx_commit=1: else a power cut loses acknowledged writes");
            }
            if !server.has_marker_table().await? {
                notes.block(
                    &server.name,
                    "the table saltext_migrate.marker is missing",
                    "make it as docs/what-it-needs.md says",
                );
            }
            match server.events().await {
                Ok(events) if !events.is_empty() => {
                    notes.warn(
                        &server.name,
                        format!("scheduled events: {}", events.join(", ")),
                        "the scheduler is stopped before the fence; enable these on the new primary after the flip",
                    );
                }
                _ => {}
            }
        }
        if let [from, to] = self.primaries.as_slice()
            && let (Ok(theirs), Ok(ours)) = (from.status().await, to.status().await)
            && (theirs.event_scheduler.as_str(), ours.event_scheduler.as_str()) == ("ON", "DISABLED")
        {
            notes.block(
                &to.name,
                format!("event_scheduler is DISABLED, and ON on {}: it could not take its events over", from.name),
                "set event_scheduler=OFF in its configuration and restart it, days before the flip",
            );
        }
        Ok(notes.findings)
    }
}
