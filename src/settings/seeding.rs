//! How the relay and the new databases come to their data.
//!
//! Invariant: every server of both sides has a `server_id` of its own, given here or made of its address.

use super::{Databases, Settings, Side};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Which family the servers are of. Those that run are asked what they are; a new host must be told before it has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    #[default]
    MariaDb,
    MySql,
}

impl Family {
    /// Names it as a server's own status does.
    pub fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }
}

/// The relay and the new databases: what they are configured with, and whom they copy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeding {
    #[serde(default)]
    pub family: Family,
    /// The old server that is copied, by node; without one the primary.
    #[serde(default)]
    pub from: Option<String>,
    /// The port of a new server over which its copy comes in.
    #[serde(default = "default::port")]
    pub port: u16,
    /// How fast a copy is expected to travel.
    #[serde(default = "default::megabytes_per_second")]
    pub megabytes_per_second: u64,
    #[serde(default)]
    pub packages: Option<Vec<String>>,
    /// Where a host keeps what it needs to send and receive.
    #[serde(default = "default::folder")]
    pub folder: String,
    /// Where a MySQL server that is copied puts its copy first: outside of its data, and open to its own user.
    #[serde(default = "default::clone_folder")]
    pub clone_folder: String,
    /// Shell lines that start and stop a server; `$DEFAULTS_FILE` is its configuration.
    #[serde(default)]
    pub start: Option<String>,
    #[serde(default)]
    pub stop: Option<String>,
    /// Server settings of every new database.
    #[serde(default)]
    pub options: BTreeMap<String, Scalar>,
    /// What is particular to one, by node.
    #[serde(default)]
    pub servers: BTreeMap<String, Particular>,
    #[serde(default)]
    pub deadlines: SeedingDeadlines,
}

/// What is particular to one new database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Particular {
    pub server_id: Option<u32>,
    pub options: BTreeMap<String, Scalar>,
}

/// A value of a server setting, as the pillar writes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    On(bool),
    Number(i64),
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::On(on) => formatter.write_str(if *on { "ON" } else { "OFF" }),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Text(text) => formatter.write_str(text),
        }
    }
}

/// Limits in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeedingDeadlines {
    /// Until a copy has arrived and its server runs.
    pub seed: u64,
    /// Until it has everything that was written meanwhile.
    pub catch_up: u64,
}

impl Default for SeedingDeadlines {
    fn default() -> Self {
        Self { seed: 86_400_000, catch_up: 86_400_000 }
    }
}

impl Seeding {
    /// Names the old server that is copied.
    pub fn source<'a>(&'a self, databases: &'a Databases) -> &'a str {
        self.from.as_deref().unwrap_or(&databases.old.primary)
    }

    /// Lists the packages of a host: those given, or those of its family.
    pub fn packages(&self) -> Vec<String> {
        let own: &[&str] = match self.family {
            Family::MariaDb => &["mariadb-server", "mariadb-backup", "socat", "openssl"],
            Family::MySql => &["mysql-server", "socat", "openssl"],
        };
        self.packages.clone().unwrap_or_else(|| own.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Returns the shell line that starts a server.
    pub fn start(&self) -> String {
        self.start.clone().unwrap_or_else(|| format!("systemctl start {}", self.unit()))
    }

    /// Returns the shell line that stops one.
    pub fn stop(&self) -> String {
        self.stop.clone().unwrap_or_else(|| format!("systemctl stop {}", self.unit()))
    }

    fn unit(&self) -> &'static str {
        match self.family {
            Family::MariaDb => "mariadb.service",
            Family::MySql => "mysql.service",
        }
    }

    /// Returns the `server_id` of a new server: the one given, or the last 24 bits of its address.
    pub fn server_id(&self, node: &str, address: IpAddr) -> u32 {
        let own = self.servers.get(node).and_then(|particular| particular.server_id);
        own.unwrap_or_else(|| {
            let bits = match address {
                IpAddr::V4(address) => u32::from(address),
                IpAddr::V6(address) => u128::from(address) as u32,
            };
            bits & 0x00ff_ffff
        })
    }

    /// Lists the settings of a new server.
    pub fn options(&self, node: &str) -> BTreeMap<&str, String> {
        let own = self.servers.get(node).map(|particular| &particular.options);
        let all = self.options.iter().chain(own.into_iter().flatten());
        all.map(|(name, value)| (name.as_str(), value.to_string())).collect()
    }

    pub(super) fn consistent(&self, settings: &Settings) -> Result<()> {
        let databases = &settings.databases;
        let from = self.source(databases);
        if from != databases.old.primary && !databases.old.replicas.iter().any(|name| name == from) {
            return Err(wrong("from", from, "a server of migrate:databases:old"));
        }
        let ours = databases.new.all();
        for name in ours.iter().copied() {
            if settings.node(Side::New, name).is_none_or(|node| node.minion.is_none()) {
                return Err(wrong("servers", name, "a node of migrate:nodes:new that has a minion"));
            }
        }
        if settings.node(Side::Old, from).is_none_or(|node| node.minion.is_none()) {
            return Err(wrong("from", from, "a node of migrate:nodes:old that has a minion, for it sends the copy"));
        }
        if let Some(stray) = self.servers.keys().find(|name| !ours.contains(&name.as_str())) {
            return Err(wrong(&format!("servers:{stray}"), stray, "a server of migrate:databases:new"));
        }
        let plain =
            |name: &&String| !name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
        let names = self.options.keys().chain(self.servers.values().flat_map(|particular| particular.options.keys()));
        if let Some(name) = names.into_iter().find(plain) {
            return Err(wrong("options", name, "the name of a server setting"));
        }
        let fit = |letter: char| letter.is_ascii_alphanumeric() || "/-_.".contains(letter);
        if !self.clone_folder.starts_with('/') || !self.clone_folder.chars().all(fit) {
            let expected = "a whole path of letters, digits, / - _ and .";
            return Err(wrong("clone_folder", &self.clone_folder, expected));
        }
        if self.megabytes_per_second == 0 {
            return Err(wrong("megabytes_per_second", "0", "how fast a copy travels, at least 1"));
        }
        Ok(())
    }
}

fn wrong(path: &str, found: &str, expected: &str) -> Error {
    Error::Settings {
        path: format!("migrate:prepare:databases:{path}"),
        found: format!("{found:?}"),
        expected: expected.into(),
        hint: "pillar-example/migrate.sls shows every key of migrate:prepare".into(),
    }
}

mod default {
    pub fn port() -> u16 {
        4444
    }
    pub fn megabytes_per_second() -> u64 {
        20
    }
    pub fn folder() -> String {
        "/var/lib/saltext-migrate/carry".into()
    }
    pub fn clone_folder() -> String {
        // Its own packages make it, and what confines the server lets it write there.
        "/var/lib/mysql-files".into()
    }
}
