//! What moves from the old deployment node, the one from which the site is configured, to the new one.

use super::{Settings, Side};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::net::IpAddr;

/// The two deployment nodes, and the trees of files that both shall have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// A node of the old side.
    pub old: String,
    /// A node of the new side.
    pub new: String,
    /// The port of the new node over which the files come in.
    #[serde(default = "default::port")]
    pub port: u16,
    pub paths: Vec<Tree>,
    /// Names, or whole paths of the old node, that stay behind, above all its own minion; what is there on the new one stays too.
    pub exclude: Vec<String>,
    #[serde(default = "default::packages")]
    pub packages: Vec<String>,
    /// Where both nodes keep what they need for it.
    #[serde(default = "default::folder")]
    pub folder: String,
    /// Milliseconds for one pass.
    #[serde(default = "default::limit")]
    pub limit: u64,
    /// What is on it for minions; without this key it is not started, and minions stay as they are.
    #[serde(default)]
    pub master: Option<NewMaster>,
}

/// The new node as one whom minions obey beside the old one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMaster {
    /// How it is started, and how it is told that it runs; nothing means by its unit.
    #[serde(default)]
    pub start: Option<String>,
    #[serde(default)]
    pub stands: Option<String>,
    /// How it asks minions; nothing means by its usual command.
    #[serde(default)]
    pub ask: Option<String>,
    /// How a minion is restarted, from outside of it; nothing means by its unit.
    #[serde(default)]
    pub restart: Option<String>,
    /// Milliseconds for a minion to restart, and then for all of them to be heard.
    #[serde(default = "default::heard")]
    pub limit: u64,
}

/// A tree of files; on the new node it may have another place.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Tree {
    Same(String),
    Elsewhere { old: String, new: String },
}

impl Tree {
    /// Returns its place on a side.
    pub fn on(&self, side: Side) -> &str {
        match (self, side) {
            (Self::Same(path), _)
            | (Self::Elsewhere { old: path, .. }, Side::Old)
            | (Self::Elsewhere { new: path, .. }, Side::New) => path,
        }
    }
}

impl Deployment {
    /// Lists the trees as a side has them.
    pub fn paths(&self, side: Side) -> Vec<String> {
        self.paths.iter().map(|tree| tree.on(side).to_owned()).collect()
    }

    /// Lists what stays behind, as a side has it.
    pub fn excluded(&self, side: Side) -> Vec<String> {
        let place = |pattern: &String| {
            let below = |tree: &Tree| Some(format!("{}{}", tree.on(side), pattern.strip_prefix(tree.on(Side::Old))?));
            self.paths.iter().find_map(below).unwrap_or_else(|| pattern.clone())
        };
        self.exclude.iter().map(place).collect()
    }

    pub(super) fn consistent(&self, settings: &Settings) -> Result<()> {
        for (key, side, name) in [("old", Side::Old, &self.old), ("new", Side::New, &self.new)] {
            if settings.node(side, name).is_none_or(|node| node.minion.is_none()) {
                return Err(wrong(key, name, &format!("a node of migrate:nodes:{} that has a minion", side.word())));
            }
        }
        for path in self.paths(Side::Old).iter().chain(&self.paths(Side::New)) {
            let plain = path.starts_with('/') && !path.ends_with('/') && !path.contains([' ', ',', '\n', '\'']);
            if !plain || path.split('/').any(|part| part == "..") {
                return Err(wrong("paths", path, "a whole path, as /srv/code, without blanks and commas"));
            }
        }
        self.master.as_ref().map_or(Ok(()), |_| self.obeyed(settings).map(|_| ()))
    }

    /// Names that one of `migrate:prepare:masters` which is the new node: once the old side is gone it stays alone.
    pub fn obeyed(&self, settings: &Settings) -> Result<String> {
        let masters = settings.prepare.as_ref().map(|prepare| prepare.masters.as_slice()).unwrap_or_default();
        let node = settings.node(Side::New, &self.new);
        let here = |master: &IpAddr| node.is_some_and(|node| node.private == *master || node.public == Some(*master));
        // While a name does not resolve a minion waits, and hears no other master either.
        let addresses: Option<Vec<IpAddr>> = masters.iter().map(|master| master.parse().ok()).collect();
        let addresses = addresses.filter(|addresses| addresses.len() > 1).unwrap_or_default();
        let found = addresses.iter().position(here).map(|at| masters[at].clone());
        found.ok_or_else(|| Error::Settings {
            path: "migrate:prepare:masters".into(),
            found: format!("{masters:?}"),
            expected: format!("the addresses of both masters, one of them that of {}; no names", self.new),
            hint: "docs/prepare.md tells what minions do with several masters".into(),
        })
    }
}

fn wrong(path: &str, found: &str, expected: &str) -> Error {
    Error::Settings {
        path: format!("migrate:prepare:deployment:{path}"),
        found: format!("{found:?}"),
        expected: expected.into(),
        hint: "pillar-example/migrate.sls shows every key of migrate:prepare".into(),
    }
}

mod default {
    pub fn port() -> u16 {
        4445
    }
    pub fn packages() -> Vec<String> {
        ["rsync", "socat", "openssl", "b3sum", "attr"].map(str::to_owned).into()
    }
    pub fn folder() -> String {
        "/var/lib/saltext-migrate/carry".into()
    }
    pub fn heard() -> u64 {
        120_000
    }
    pub fn limit() -> u64 {
        14_400_000
    }
}
