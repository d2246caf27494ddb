//! What goes away in the end, named one by one.
//!
//! Invariant: nothing is listed here that the site still lives by: no server of the declared new side but the relay, no
//! account that replication or this tool uses.

use super::Settings;
use super::check::wrong;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What must stand in the pillar, word for word, before the way back is taken away.
pub const GIVEN_UP: &str = "there is no way back";

/// The value of `migrate:cleanup`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cleanup {
    /// Hours for which the new side must have served.
    pub soak_hours: f64,
    /// The words that say it.
    pub give_up_revert: String,
    /// For how many hours nobody may have come to an old node, by its tripwire; nothing means since the flip.
    pub quiet_hours: Option<f64>,
    /// Hours for which an old node stands stopped before it is deleted.
    pub stopped_hours: f64,
    /// Servers of the old cloud that end: the id of each, by node.
    pub old_nodes: BTreeMap<String, String>,
    /// What prepare made for the time of the move alone.
    pub temporary: Temporary,
    /// Accounts on the databases that were made for the move.
    pub database_users: Vec<String>,
    /// Public keys that go, by the user who has them on every host.
    pub ssh_keys: BTreeMap<String, Vec<String>>,
    pub backup: Option<Backup>,
    /// Further credentials to be changed: they are listed in the report.
    pub rotate: Vec<String>,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            soak_hours: 168.0,
            give_up_revert: String::new(),
            quiet_hours: None,
            stopped_hours: 336.0,
            old_nodes: BTreeMap::new(),
            temporary: Temporary::default(),
            database_users: Vec::new(),
            ssh_keys: BTreeMap::new(),
            backup: None,
            rotate: Vec::new(),
        }
    }
}

/// Things of the new cloud, by their names in `migrate:prepare`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Temporary {
    pub servers: Vec<String>,
    pub security_groups: Vec<String>,
    pub key_pairs: Vec<String>,
    pub apart: Vec<String>,
}

/// The last backup of the old side.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The node of the old side whose host takes it.
    pub node: String,
    /// A file of that host, where it stays only until it was carried away.
    pub path: String,
    /// Options for the server's own dump and client programs, as --defaults-file.
    #[serde(default)]
    pub options: String,
    /// Seconds that it may take.
    #[serde(default = "backup_seconds")]
    pub seconds: u64,
    /// Where people carried it once it was taken. Until they say so its node is not stopped.
    #[serde(default)]
    pub carried_to: Option<String>,
}

fn backup_seconds() -> u64 {
    3600
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    let Some(cleanup) = &settings.cleanup else { return Ok(()) };
    for (node, id) in &cleanup.old_nodes {
        let path = format!("cleanup:old_nodes:{node}");
        if !settings.nodes.old.contains_key(node) {
            return Err(wrong(
                &path,
                node,
                "a node of migrate:nodes:old",
                "only nodes that are named there are deleted",
            ));
        }
        if id.trim().is_empty() {
            let hint = "openstack server list shows the ids; a name alone may be somebody else's too";
            return Err(wrong(&path, "no id", "the id of the server in the old cloud", hint));
        }
    }
    if !cleanup.old_nodes.is_empty() && settings.clouds.as_ref().is_none_or(|clouds| clouds.old.is_none()) {
        let hint = "describe the old cloud's API, or take its servers down by hand";
        return Err(wrong(
            "clouds:old",
            "nothing",
            "how to reach the old cloud's API, for cleanup:old_nodes is set",
            hint,
        ));
    }
    temporary(settings, cleanup)?;
    let accounts = &settings.databases.accounts;
    for (number, user) in cleanup.database_users.iter().enumerate() {
        let path = format!("cleanup:database_users:{number}");
        if *user == accounts.admin.user {
            let hint = "it does the work: drop it by hand when everything is over";
            return Err(wrong(&path, user, "another account than databases:accounts:admin", hint));
        }
        if *user == accounts.replication.user {
            let hint = "the new side's replicas log in with it";
            return Err(wrong(&path, user, "another account than databases:accounts:replication", hint));
        }
    }
    if let Some(backup) = &cleanup.backup {
        let known = settings.nodes.old.get(&backup.node).is_some_and(|node| node.minion.is_some());
        if !known || !backup.path.starts_with('/') {
            let hint = "for example backup: {node: db2, path: /srv/backup/last.sql.gz}";
            return Err(wrong(
                "cleanup:backup",
                &backup.node,
                "a node of the old side with a minion, and a whole path",
                hint,
            ));
        }
    }
    let new: Vec<&String> = settings.nodes.new.values().filter_map(|node| node.minion.as_ref()).collect();
    for node in cleanup.old_nodes.keys() {
        let minion = settings.nodes.old.get(node).and_then(|node| node.minion.as_ref());
        if let Some(minion) = minion.filter(|minion| new.contains(minion)) {
            let path = format!("nodes:old:{node}:minion");
            return Err(wrong(
                &path,
                minion,
                "a minion that no node of the new side has",
                "its key is revoked in the end",
            ));
        }
    }
    Ok(())
}

fn temporary(settings: &Settings, cleanup: &Cleanup) -> Result<()> {
    let prepare = settings.prepare.as_ref();
    let temporary = &cleanup.temporary;
    let databases = &settings.databases.new;
    for (kind, names) in [
        ("servers", &temporary.servers),
        ("security_groups", &temporary.security_groups),
        ("key_pairs", &temporary.key_pairs),
        ("apart", &temporary.apart),
    ] {
        for name in names {
            let known = prepare.is_some_and(|prepare| match kind {
                "servers" => prepare.servers.contains_key(name),
                "security_groups" => prepare.security_groups.contains_key(name),
                "key_pairs" => prepare.key_pairs.contains_key(name),
                _ => prepare.apart.contains_key(name),
            });
            let path = format!("cleanup:temporary:{kind}");
            if !known {
                let hint = "only what prepare made is deleted, and it is known by its name there";
                return Err(wrong(&path, name, &format!("a name of migrate:prepare:{kind}"), hint));
            }
            if kind == "servers" && (databases.primary == *name || databases.replicas.contains(name)) {
                let hint = "the site lives by it; a relay is temporary";
                return Err(wrong(&path, name, "a server that the site does not live by", hint));
            }
        }
    }
    Ok(())
}
