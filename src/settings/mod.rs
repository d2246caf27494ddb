//! The pillar key `migrate`, typed.
//!
//! Invariant: a [`Settings`] in hand is complete and consistent; whatever is wrong was refused with the pillar path,
//! what was found, what was expected and a hint.

mod addresses;
mod backup;
mod carried;
mod check;
mod cleanup;
mod cloud;
mod compare;
mod copies;
mod deployment;
mod names;
mod prepare;
mod rehearsal;
mod secret;
mod seeding;
mod signoff;
mod testing;
mod tripwire;
mod uploads;
mod vhosts;

pub use addresses::{Addresses, Inventory, Link, Range};
pub use backup::NewBackup;
pub use carried::Carried;
pub use cleanup::{Backup, Cleanup, GIVEN_UP, Temporary};
pub use cloud::{Access, CloudDeadlines, Clouds, Login};
pub use compare::{Compare, Edit, Shown, WayName};
pub use copies::Copy;
pub use deployment::{Deployment, NewMaster};
pub use names::Name;
pub use prepare::{Ports, Prepare, PrepareDeadlines, Rule, SecurityGroup, Wanted, WantedVolume};
pub use rehearsal::Rehearsal;
pub use secret::Secret;
pub use seeding::{Family, Seeding, SeedingDeadlines};
pub use signoff::Signoff;
pub use testing::{Announcement, Freeze, Noindex, Singleton, Testing};
pub use tripwire::Tripwire;
pub use uploads::Uploads;
pub use vhosts::{Scheme, Vhost};

use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The two clouds, as the declared site knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Old,
    New,
}

impl Side {
    /// Returns the opposite side.
    pub fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }

    /// Returns the pillar's word for the side.
    pub fn word(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

/// A pair of values, one per side.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sides<T> {
    pub old: T,
    pub new: T,
}

impl<T> Sides<T> {
    /// Returns the value of one side.
    pub fn of(&self, side: Side) -> &T {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }
}

/// Everything the migration knows about the site.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default = "default::state_dir")]
    pub state_dir: PathBuf,
    pub nodes: Sides<BTreeMap<String, Node>>,
    pub databases: Databases,
    pub notice: Notice,
    #[serde(default)]
    pub edge: Option<Edge>,
    /// DNS names that are not behind the CDN, which people move by hand.
    #[serde(default)]
    pub names: BTreeMap<String, Name>,
    #[serde(default)]
    pub addresses: Addresses,
    #[serde(default)]
    pub vhosts: BTreeMap<String, Vhost>,
    #[serde(default)]
    pub tripwire: Option<Tripwire>,
    #[serde(default)]
    pub compare: Option<Compare>,
    #[serde(default)]
    pub test: Option<Testing>,
    /// Files that people write through the site, by a name for each lot.
    #[serde(default)]
    pub uploads: BTreeMap<String, Uploads>,
    /// What must run on one side alone, by name.
    #[serde(default)]
    pub singletons: BTreeMap<String, Singleton>,
    #[serde(default)]
    pub freeze: Option<Freeze>,
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
    #[serde(default)]
    pub cleanup: Option<Cleanup>,
    #[serde(default)]
    pub signoff: Signoff,
    #[serde(default)]
    pub clouds: Option<Clouds>,
    #[serde(default)]
    pub prepare: Option<Prepare>,
    /// SHA-256 over the pillar with the secrets left out.
    #[serde(skip)]
    pub hash: String,
}

/// One node of one cloud.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub private: IpAddr,
    #[serde(default)]
    pub public: Option<IpAddr>,
    #[serde(default)]
    pub minion: Option<String>,
    /// Overrides `databases:role_file` for this node.
    #[serde(default)]
    pub role_file: Option<String>,
    /// Where the configuration of its database server begins.
    #[serde(default = "default::defaults_file")]
    pub defaults_file: String,
    /// Overrides `notice:path` for this node.
    #[serde(default)]
    pub notice_path: Option<String>,
}

/// The chain of database servers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Databases {
    pub old: OldServers,
    pub new: NewServers,
    #[serde(default = "default::port")]
    pub port: u16,
    pub accounts: Accounts,
    #[serde(default = "default::may_bypass_fence")]
    pub may_bypass_fence: Vec<String>,
    /// What a server reads last at boot; without one it stands where its family's packages have it read.
    #[serde(default)]
    pub role_file: Option<String>,
    /// Where both primaries keep the page for the night on which everything else is dead.
    #[serde(default = "default::break_glass_file")]
    pub break_glass_file: String,
    #[serde(default)]
    pub tls: Option<Tls>,
    #[serde(default)]
    pub deadlines: Deadlines,
    /// Milliseconds within which a marker must cross the chain.
    #[serde(default = "default::max_lag")]
    pub max_lag: u64,
    /// Hours for which both primaries must keep their binlogs, so that the way back stays open.
    #[serde(default = "default::soak_hours")]
    pub soak_hours: u64,
    /// Hours for which a comparison of both primaries' data counts; a flip demands one where this is set.
    #[serde(default)]
    pub checksum_hours: Option<f64>,
    /// GTID domain in which a fenced former primary writes what an administrator does to it; MySQL needs none.
    #[serde(default = "default::quarantine_domain")]
    pub quarantine_domain: u32,
}

/// The database servers of the old side, by node name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldServers {
    pub primary: String,
    #[serde(default)]
    pub replicas: Vec<String>,
}

/// The database servers of the new side, by node name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewServers {
    pub primary: String,
    #[serde(default)]
    pub replicas: Vec<String>,
    #[serde(default)]
    pub relay: Option<String>,
}

impl NewServers {
    /// Lists every server, the first of the chain first.
    pub fn all(&self) -> Vec<&str> {
        self.relay.iter().chain([&self.primary]).chain(&self.replicas).map(String::as_str).collect()
    }
}

/// The database accounts the migration uses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    pub admin: Account,
    pub marker: Account,
    pub replication: Account,
}

/// One database account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub user: String,
    pub password: Secret,
}

/// Verified TLS to and between the database servers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub ca: PathBuf,
    #[serde(default = "default::verify_hostname")]
    pub verify_hostname: bool,
}

/// Limits in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    pub connect: u64,
    pub fence: u64,
    pub catch_up: u64,
    pub replication: u64,
    pub abort: u64,
    /// How long a fence may stand without a decision before the guard lifts it.
    pub window: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: 5_000, fence: 1_000, catch_up: 2_000, replication: 30_000, abort: 60_000, window: 15_000 }
    }
}

/// What editors see while they cannot save.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    pub text: String,
    #[serde(default)]
    pub link: Option<String>,
    pub nodes: Sides<Vec<String>>,
    #[serde(default = "default::notice_path")]
    pub path: String,
    /// Milliseconds between the last notice and the fence.
    #[serde(default = "default::drain")]
    pub drain: u64,
    /// Milliseconds after which nobody who is still at work is waited for any more.
    #[serde(default = "default::drain_limit")]
    pub drain_limit: u64,
    /// Seconds to wait for a host's answer.
    #[serde(default = "default::host_seconds")]
    pub host_seconds: u64,
}

impl Notice {
    /// Builds what the application shows: the text, and the link where there is one.
    pub fn content(&self) -> String {
        match &self.link {
            Some(link) => format!("{} {link}\n", self.text),
            None => format!("{}\n", self.text),
        }
    }
}

/// The CDN account and its services.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    pub token: Secret,
    #[serde(default = "default::edge_api")]
    pub api: String,
    pub services: BTreeMap<String, Service>,
    /// How many requests may be under way at once.
    #[serde(default = "default::parallel")]
    pub parallel: usize,
    /// How many writes the account has in an hour.
    #[serde(default = "default::writes_per_hour")]
    pub writes_per_hour: u64,
    #[serde(default)]
    pub deadlines: EdgeDeadlines,
}

/// One CDN service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub id: String,
    #[serde(default)]
    pub probe: Option<Probe>,
    #[serde(default)]
    pub purge: Purge,
    /// Backends that stay where they point, by name: an object store, a third party.
    #[serde(default)]
    pub leave: Vec<String>,
    /// A copy that serves test domains from the new side.
    #[serde(default)]
    pub copy: Option<Copy>,
}

/// A URL that tells which version the edge serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub url: String,
    /// Addresses (`ip` or `ip:port`) of the points of presence to ask; empty asks whatever the name resolves to.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The response header that names the serving version, as `<service>.<version>`.
    #[serde(default = "default::probe_header")]
    pub header: String,
}

/// What is dropped from the cache after a switch.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purge {
    #[default]
    Nothing,
    All,
    Keys(Vec<String>),
}

/// Limits in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeDeadlines {
    pub request: u64,
    pub proof: u64,
    /// How long to wait for the next hour's writes, before anybody is bothered.
    pub quota: u64,
}

impl Default for EdgeDeadlines {
    fn default() -> Self {
        Self { request: 15_000, proof: 60_000, quota: 3_900_000 }
    }
}

impl Settings {
    /// Reads the value of the pillar key `migrate`.
    ///
    /// # Errors
    /// [`Error::Settings`] with the pillar path of the first thing that is wrong.
    pub fn read(pillar: &Value) -> Result<Self> {
        if !pillar.is_object() {
            return Err(Error::Settings {
                path: "migrate".into(),
                found: if pillar.is_null() { "nothing".into() } else { check::word(pillar).into() },
                expected: "a mapping".into(),
                hint: "put the key `migrate` into the pillar of the id that `salt-run config.get id` prints; pillar-example/migrate.sls shows it whole".into(),
            });
        }
        let mut settings: Self = serde_path_to_error::deserialize(pillar).map_err(check::explain)?;
        settings.hash = hash(pillar);
        check::consistent(&settings)?;
        copies::consistent(&settings)?;
        names::consistent(&settings)?;
        signoff::consistent(&settings)?;
        testing::consistent(&settings)?;
        rehearsal::consistent(&settings)?;
        cleanup::consistent(&settings)?;
        addresses::check(&settings.addresses, &settings.nodes)?;
        vhosts::check(&settings.vhosts, &settings.nodes.new)?;
        compare::consistent(&settings)?;
        uploads::consistent(&settings)?;
        Ok(settings)
    }

    /// Returns what a search for old addresses needs.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            state_dir: self.state_dir.clone(),
            nodes: self.nodes.clone(),
            addresses: self.addresses.clone(),
            vhosts: self.vhosts.clone(),
        }
    }

    /// Names the family of new servers.
    pub fn family(&self) -> Family {
        let seeding = self.prepare.as_ref().and_then(|prepare| prepare.databases.as_ref());
        seeding.map(|seeding| seeding.family).unwrap_or_default()
    }

    /// Finds a node, by side and name.
    pub fn node(&self, side: Side, name: &str) -> Option<&Node> {
        self.nodes.of(side).get(name)
    }
}

/// Hashes the pillar with every secret left out, so that a rotated password changes nothing.
fn hash(pillar: &Value) -> String {
    fn without_secrets(value: &Value) -> Value {
        match value {
            Value::Object(map) => map
                .iter()
                .filter(|(key, _)| !matches!(key.as_str(), "password" | "token" | "application_credential_secret"))
                .map(|(key, value)| (key.clone(), without_secrets(value)))
                .collect(),
            Value::Array(list) => list.iter().map(without_secrets).collect(),
            other => other.clone(),
        }
    }
    let digest = Sha256::digest(without_secrets(pillar).to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

mod default {
    use std::path::PathBuf;

    pub fn state_dir() -> PathBuf {
        "/var/lib/saltext-migrate".into()
    }
    pub fn port() -> u16 {
        3306
    }
    pub fn may_bypass_fence() -> Vec<String> {
        ["root", "mysql", "mariadb.sys"].map(str::to_owned).into()
    }
    pub fn break_glass_file() -> String {
        "/var/lib/saltext-migrate/break-glass.txt".into()
    }
    pub fn verify_hostname() -> bool {
        true
    }
    pub fn max_lag() -> u64 {
        1_000
    }
    pub fn soak_hours() -> u64 {
        168
    }
    pub fn quarantine_domain() -> u32 {
        99
    }
    pub fn defaults_file() -> String {
        "/etc/mysql/my.cnf".into()
    }
    pub fn notice_path() -> String {
        "/etc/mediawiki/readonly".into()
    }
    pub fn drain() -> u64 {
        250
    }
    pub fn drain_limit() -> u64 {
        2_000
    }
    pub fn host_seconds() -> u64 {
        10
    }
    pub fn parallel() -> usize {
        16
    }
    pub fn writes_per_hour() -> u64 {
        1_000
    }
    pub fn edge_api() -> String {
        "https://api.fastly.com".into()
    }
    pub fn probe_header() -> String {
        "x-version".into()
    }
}

#[cfg(test)]
mod tests;
