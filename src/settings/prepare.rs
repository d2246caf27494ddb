//! What the new cloud is to have in it: servers, and what they need.
//!
//! Invariant: every server is a node of the new side with an address of its own, and names only what exists here or is
//! said to exist in the cloud.

use super::{Deployment, NewBackup, Seeding, Settings, Side, Sides};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Everything that `prepare` builds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// The word by which what is ours is known in the cloud; two sites in one project need two.
    #[serde(default = "default::site")]
    pub site: String,
    /// The network of the new side, by name; only servers need one.
    #[serde(default)]
    pub network: String,
    /// The image of every server that names no other.
    #[serde(default)]
    pub image: Option<String>,
    /// The servers that are made, by node name; a node that stands already need not be here.
    #[serde(default)]
    pub servers: BTreeMap<String, Wanted>,
    #[serde(default)]
    pub security_groups: BTreeMap<String, SecurityGroup>,
    /// Public keys, by name.
    #[serde(default)]
    pub key_pairs: BTreeMap<String, String>,
    /// Nodes that shall not share a hypervisor, by the name of their group.
    #[serde(default)]
    pub apart: BTreeMap<String, Vec<String>>,
    /// By how many percent a flavor may fall short of what is wanted.
    #[serde(default)]
    pub allow_smaller: u8,
    /// How many servers are asked for at once, at most.
    #[serde(default = "default::at_once")]
    pub at_once: usize,
    /// Whom a new minion obeys.
    #[serde(default)]
    pub masters: Vec<String>,
    /// What a new server runs once its minion is configured.
    #[serde(default = "default::first_boot")]
    pub first_boot: Vec<String>,
    /// Nodes of the old side that are not moved.
    #[serde(default)]
    pub leave: Vec<String>,
    #[serde(default)]
    pub deadlines: PrepareDeadlines,
    /// How the relay and the new databases come to their data.
    #[serde(default)]
    pub databases: Option<Seeding>,
    /// Which of the new databases is backed up, and restored from that.
    #[serde(default)]
    pub backup: Option<NewBackup>,
    /// What moves to the new deployment node.
    #[serde(default)]
    pub deployment: Option<Deployment>,
    /// Whose states are run.
    #[serde(default)]
    pub highstate: Sides<Vec<String>>,
}

/// One server as it is wanted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    pub vcpus: u32,
    /// MiB.
    pub ram: u64,
    /// GiB.
    #[serde(default)]
    pub disk: u64,
    /// Overrules the match, by name.
    #[serde(default)]
    pub flavor: Option<String>,
    #[serde(default)]
    pub image: Option<String>,
    #[serde(default)]
    pub key_pair: Option<String>,
    #[serde(default)]
    pub security_groups: Vec<String>,
    #[serde(default)]
    pub availability_zone: Option<String>,
    /// Extra specs that its flavor must have.
    #[serde(default)]
    pub extra_specs: BTreeMap<String, String>,
    /// What it has beside its root disk, by name.
    #[serde(default)]
    pub volumes: BTreeMap<String, WantedVolume>,
}

/// One volume as it is wanted: blank, and attached to its server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedVolume {
    /// GiB, as clouds count them.
    pub gigabytes: u64,
    /// A type of the new cloud, by name; else the cloud chooses.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub availability_zone: Option<String>,
}

/// One security group.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroup {
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Who may come in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `tcp`, `udp`, `icmp`, or nothing for every one.
    #[serde(default)]
    pub protocol: Option<String>,
    /// One port, or `first-last`; nothing for every one.
    #[serde(default)]
    pub ports: Option<Ports>,
    /// A network, as 10.80.0.0/24, or the name of another group of this pillar.
    pub from: String,
}

/// A port, or a range of them, as the pillar writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Ports {
    One(u16),
    Range(String),
}

impl Ports {
    /// Reads the first and the last port.
    pub fn range(&self) -> Option<(u16, u16)> {
        match self {
            Self::One(port) => Some((*port, *port)),
            Self::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                (first <= last).then_some((first, last))
            }
        }
    }
}

/// Limits in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrepareDeadlines {
    /// From the request for a server until it is up, or for a volume until it is there, or attached.
    pub server: u64,
    /// Between two looks at the servers and volumes that are not up yet.
    pub tick: u64,
    /// Until the minion of a new node answers.
    pub host: u64,
}

impl Default for PrepareDeadlines {
    fn default() -> Self {
        Self { server: 600_000, tick: 1_000, host: 600_000 }
    }
}

impl Prepare {
    /// Tells whether anything is to be made in the new cloud.
    pub fn builds(&self) -> bool {
        !(self.servers.is_empty() && self.security_groups.is_empty() && self.key_pairs.is_empty())
    }

    /// Names the image of a server, where there is one.
    pub fn image_of<'a>(&'a self, wanted: &'a Wanted) -> Option<&'a str> {
        wanted.image.as_deref().or(self.image.as_deref())
    }

    /// Names the group of nodes that a node shall be kept apart from.
    pub fn apart_from(&self, node: &str) -> Option<&str> {
        self.apart.iter().find(|(_, nodes)| nodes.iter().any(|name| name == node)).map(|(group, _)| group.as_str())
    }

    pub(super) fn consistent(&self, settings: &Settings) -> Result<()> {
        if self.builds() && settings.clouds.as_ref().is_none_or(|clouds| clouds.new.is_none()) {
            return Err(wrong(
                "clouds:new",
                "nothing",
                "how to reach the new cloud's API, for prepare makes something there",
            ));
        }
        if !self.servers.is_empty() && self.network.is_empty() {
            return Err(wrong("prepare:network", "nothing", "the new network, by name or id"));
        }
        if let Some(seeding) = &self.databases {
            seeding.consistent(settings)?;
        }
        if let Some(backup) = &self.backup {
            backup.consistent(settings)?;
        }
        if let Some(deployment) = &self.deployment {
            deployment.consistent(settings)?;
        }
        for side in [Side::Old, Side::New] {
            for node in self.highstate.of(side) {
                if settings.node(side, node).is_none_or(|node| node.minion.is_none()) {
                    let (path, nodes) = (format!("prepare:highstate:{}", side.word()), side.word());
                    return Err(wrong(&path, node, &format!("a node of migrate:nodes:{nodes} that has a minion")));
                }
            }
        }
        if !(1..=64).contains(&self.at_once) {
            return Err(wrong("prepare:at_once", &self.at_once.to_string(), "a number from 1 to 64"));
        }
        if self.allow_smaller > 50 {
            return Err(wrong("prepare:allow_smaller", &self.allow_smaller.to_string(), "percent, from 0 to 50"));
        }
        let plain = |word: &str| {
            (1..=40).contains(&word.len())
                && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        };
        if !plain(&self.site) {
            return Err(wrong("prepare:site", &self.site, "a word of letters, digits, - _ and ."));
        }
        for (name, wanted) in &self.servers {
            let path = format!("prepare:servers:{name}");
            if self.leave.contains(name) {
                return Err(wrong(&path, name, "a node that moves; it is in migrate:prepare:leave too"));
            }
            if settings.nodes.new.get(name).is_none_or(|node| node.minion.is_none()) {
                return Err(wrong(&path, name, "a node of migrate:nodes:new that has a minion"));
            }
            if wanted.vcpus == 0 || wanted.ram == 0 {
                return Err(wrong(&path, "no vcpus, or no ram", "what the server needs"));
            }
            if self.image_of(wanted).is_none() {
                return Err(wrong(&format!("{path}:image"), "nothing", "an image, here or in migrate:prepare:image"));
            }
            for (volume, wanted) in &wanted.volumes {
                // It is a part of a step's id, whose parts are parted by dots.
                if !plain(volume) || volume.contains('.') {
                    return Err(wrong(&format!("{path}:volumes"), volume, "a name of letters, digits, - and _"));
                }
                if wanted.gigabytes == 0 {
                    return Err(wrong(&format!("{path}:volumes:{volume}:gigabytes"), "0", "its size in GiB"));
                }
            }
        }
        let mut grouped: BTreeMap<&str, &str> = BTreeMap::new();
        for (group, nodes) in &self.apart {
            for node in nodes {
                let path = format!("prepare:apart:{group}");
                if !self.servers.contains_key(node) {
                    return Err(wrong(&path, node, "a server of migrate:prepare:servers"));
                }
                if let Some(first) = grouped.insert(node, group) {
                    return Err(wrong(&path, node, &format!("a server in one group; it is in {first} already")));
                }
            }
        }
        for (name, group) in &self.security_groups {
            for (number, rule) in group.rules.iter().enumerate() {
                let path = format!("prepare:security_groups:{name}:rules:{number}");
                if rule.ports.as_ref().is_some_and(|ports| ports.range().is_none()) {
                    return Err(wrong(&format!("{path}:ports"), "no port", "a port, or first-last"));
                }
                if rule.ports.is_some() && !matches!(rule.protocol.as_deref(), Some("tcp" | "udp")) {
                    return Err(wrong(&format!("{path}:protocol"), "ports without a protocol", "tcp or udp"));
                }
                let network = rule.from.split_once('/').is_some_and(|(address, bits)| {
                    address.parse::<std::net::IpAddr>().is_ok_and(|address| {
                        bits.parse::<u8>().is_ok_and(|bits| bits <= if address.is_ipv4() { 32 } else { 128 })
                    })
                });
                if !network && !self.security_groups.contains_key(&rule.from) {
                    return Err(wrong(
                        &format!("{path}:from"),
                        &rule.from,
                        "a network as 10.80.0.0/24, or another group of this pillar",
                    ));
                }
            }
        }
        Ok(())
    }
}

fn wrong(path: &str, found: &str, expected: &str) -> Error {
    Error::Settings {
        path: format!("migrate:{path}"),
        found: format!("{found:?}"),
        expected: expected.into(),
        hint: "pillar-example/migrate.sls shows every key of migrate:prepare".into(),
    }
}

mod default {
    pub fn site() -> String {
        "site".into()
    }
    pub fn at_once() -> usize {
        8
    }
    pub fn first_boot() -> Vec<String> {
        Vec::new()
    }
}
