//! What moves from the old deployment node, the one from which the site is configured, to the new one.

use super::carried::{Carried, Tree, default};
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
    #[serde(default = "port")]
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
    #[serde(default = "heard")]
    pub limit: u64,
}

impl Deployment {
    /// Returns what is carried.
    pub fn carried(&self) -> Carried<'_> {
        Carried {
            old: &self.old,
            new: &self.new,
            port: self.port,
            paths: &self.paths,
            exclude: &self.exclude,
            packages: &self.packages,
            folder: &self.folder,
            limit: self.limit,
        }
    }

    pub(super) fn consistent(&self, settings: &Settings) -> Result<()> {
        self.carried().consistent(settings, "prepare:deployment")?;
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

fn port() -> u16 {
    4445
}

fn heard() -> u64 {
    120_000
}
