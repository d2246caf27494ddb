//! Whether there is room on disk: for the journal here, and for what the databases write on their hosts.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use crate::outside::{Call, Outside, Said};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A run's journal, report and log are some hundred kilobytes; this is room for many, and for others who write there.
const JOURNAL: u64 = 64 << 20;
/// Binlogs and relay logs of the soak come on top of what is there.
const DATA: u64 = 1 << 30;
/// Whatever is smaller than this share is soon full.
const SHARE: f64 = 0.05;

/// The file systems that a transfer writes to.
pub struct Room {
    pub outside: Outside,
    pub state_dir: PathBuf,
    /// Each server with the minion on its host.
    pub servers: Vec<(Rc<Server>, Option<String>)>,
    pub seconds: u64,
}

impl Topic for Room {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("room");
        // No figures: they change from look to look, and the finding's id with them.
        if free_under(&self.state_dir).is_some_and(|free| free < JOURNAL) {
            notes.doubt(
                "controller",
                format!(
                    "less than {} MiB are free under {}, where the journal is",
                    JOURNAL >> 20,
                    self.state_dir.display()
                ),
                "make room, or set migrate:state_dir to another file system",
            );
        }
        for (server, disk) in of_servers(&self.outside, &self.servers, self.seconds).await {
            if disk.tight() {
                notes.doubt(
                    &server.name,
                    format!("less than 1 GiB, or than a twentieth, is free on {}, where its data is", disk.mount),
                    "make room there: a server whose disk is full stands still, and its replicas with it",
                );
            }
        }
        Ok(notes.findings)
    }
}

/// The file system on which a server has its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub mount: String,
    /// Bytes.
    pub free: u64,
    pub whole: u64,
}

impl Disk {
    /// Tells whether it will soon be full.
    #[allow(clippy::cast_precision_loss)] // a share of a disk
    pub fn tight(&self) -> bool {
        self.free < DATA || (self.free as f64 / self.whole.max(1) as f64) < SHARE
    }
}

/// Asks the hosts of servers, each given with its minion, how much room their data has; who does not tell is left out.
pub async fn of_servers(
    outside: &Outside,
    servers: &[(Rc<Server>, Option<String>)],
    seconds: u64,
) -> Vec<(Rc<Server>, Disk)> {
    let mut hosts: Vec<String> = servers.iter().filter_map(|(_, minion)| minion.clone()).collect();
    hosts.sort();
    hosts.dedup();
    if hosts.is_empty() {
        return Vec::new();
    }
    // Whether they answer at all is another check's to say.
    let told = outside.call_some(&hosts, vec![Call::new("disk.usage", json!({}))], seconds).await;
    let told: BTreeMap<String, Said> = told.unwrap_or_default();
    let mut found = Vec::new();
    for (server, minion) in servers {
        let said = minion.as_ref().and_then(|minion| told.get(minion)).and_then(|said| said.first());
        let (Some(Ok(usage)), Ok(variables)) = (said, server.variables(&["datadir"]).await) else { continue };
        let disk = variables.get("datadir").and_then(|data| file_system(usage, Path::new(data)));
        found.extend(disk.map(|disk| (server.clone(), disk)));
    }
    found
}

/// Asks a host for the file system that holds a path; nothing where it does not tell.
pub async fn holding(outside: &Outside, host: &str, path: &str, seconds: u64) -> Option<Disk> {
    let told = outside.call_some(&[host.to_owned()], vec![Call::new("disk.usage", json!({}))], seconds).await;
    let said = told.ok()?.remove(host)?.into_iter().next()?.ok()?;
    file_system(&said, Path::new(path))
}

/// Asks how many bytes are free under a folder, or under the nearest one above it that is there.
fn free_under(folder: &Path) -> Option<u64> {
    let told = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    Some(told.f_bavail.saturating_mul(told.f_frsize))
}

/// Finds, in what a host tells of its file systems, the one that holds a path.
pub fn file_system(usage: &Value, path: &Path) -> Option<Disk> {
    let kilobytes = |told: &Value, key: &str| -> Option<u64> {
        let value = told.get(key)?;
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
        Some(number.saturating_mul(1024))
    };
    let holding = usage.as_object()?.iter().filter(|(mount, _)| path.starts_with(mount));
    let (mount, told) = holding.max_by_key(|(mount, _)| mount.len())?;
    Some(Disk { mount: mount.clone(), free: kilobytes(told, "available")?, whole: kilobytes(told, "1K-blocks")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_holds_the_path() {
        let usage = json!({
            "/": {"available": "1", "1K-blocks": "100"},
            "/var/lib/mysql": {"available": "2048", "1K-blocks": 4096},
            "/var/lib/mysqlx": {"available": "9", "1K-blocks": "9"},
        });
        let found = file_system(&usage, Path::new("/var/lib/mysql/"));
        let disk = Disk { mount: "/var/lib/mysql".to_owned(), free: 2048 * 1024, whole: 4096 * 1024 };
        assert_eq!(found, Some(disk));
        assert_eq!(file_system(&json!([]), Path::new("/")), None);
        assert!(free_under(Path::new("/not/there/at/all")).is_some());
    }

    #[test]
    fn a_disk_is_tight_by_size_and_by_share() {
        let disk = |free: u64, whole: u64| Disk { mount: "/".to_owned(), free: free << 30, whole: whole << 30 };
        assert!(disk(0, 10).tight());
        assert!(!disk(1, 10).tight());
        assert!(disk(4, 100).tight());
        assert!(!disk(5, 100).tight());
    }
}
