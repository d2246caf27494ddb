//! What the search for old addresses knows of the site: names, ranges, what may stay.
//!
//! Invariant: an [`Inventory`] is read from `nodes` and `addresses` alone, so that a host without the rest of the pillar
//! can search; addresses are unique within a side, and may overlap between the sides.

use super::check::{explain, wrong};
use super::{Node, Sides, Vhost};
use crate::error::{Error, Result};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

/// The nodes of both clouds, and how what is written about the old ones becomes right for the new.
#[derive(Debug, Clone, Deserialize)]
pub struct Inventory {
    #[serde(default = "super::default::state_dir")]
    pub state_dir: PathBuf,
    pub nodes: Sides<BTreeMap<String, Node>>,
    #[serde(default)]
    pub addresses: Addresses,
    #[serde(default)]
    pub vhosts: BTreeMap<String, Vhost>,
}

/// The value of `migrate:addresses`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Addresses {
    /// Old networks; with `new`, what takes their place as a whole.
    pub ranges: Vec<Range>,
    /// By node of the old side: old name → new name.
    pub names: BTreeMap<String, BTreeMap<String, String>>,
    /// Old domain → new domain, for `NODE.domain` of every old node.
    pub domains: BTreeMap<String, String>,
    /// Names that people use: they stay, whatever they resemble.
    pub public: Vec<String>,
    /// Old node → new node, where the names differ.
    pub becomes: BTreeMap<String, String>,
    /// Links from the new side to the old that are meant to be.
    pub allowed: Vec<Link>,
    /// Path patterns by level or environment.
    pub scopes: BTreeMap<String, Vec<String>>,
    /// Trees that are searched when none are named.
    pub roots: Vec<PathBuf>,
    /// Trees of live nodes.
    pub live: Vec<PathBuf>,
    /// Database columns, as `database.table.column`.
    pub columns: Vec<String>,
    /// Path patterns that are left out.
    pub ignore: Vec<String>,
    /// Bytes; a larger file is named and not read.
    pub max_file_size: u64,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            ranges: Vec::new(),
            names: BTreeMap::new(),
            domains: BTreeMap::new(),
            public: Vec::new(),
            becomes: BTreeMap::new(),
            allowed: Vec::new(),
            scopes: BTreeMap::new(),
            roots: vec!["/srv".into()],
            live: vec!["/etc".into()],
            columns: Vec::new(),
            ignore: ["**/.git", "**/.hg", "**/.svn"].map(str::to_owned).into(),
            max_file_size: 64 << 20,
        }
    }
}

/// One old network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub old: IpNet,
    #[serde(default)]
    pub new: Option<IpNet>,
}

/// A link from the new side to the old that is meant to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Node of the new side; every one where it is left out.
    #[serde(default)]
    pub from: Option<String>,
    /// Node of the old side.
    pub to: String,
    #[serde(default)]
    pub port: Option<u16>,
    /// Path patterns of the files that may say so.
    #[serde(default)]
    pub paths: Vec<String>,
}

impl Inventory {
    /// Reads what a search needs from the value of the pillar key `migrate`; other keys are not looked at.
    ///
    /// # Errors
    /// [`Error::Settings`] with the pillar path of the first thing that is wrong.
    pub fn read(pillar: &Value) -> Result<Self> {
        let Some(keys) = pillar.as_object() else {
            return Err(Error::Settings {
                path: "migrate".into(),
                found: if pillar.is_null() { "nothing".into() } else { super::check::word(pillar).into() },
                expected: "a mapping with nodes".into(),
                hint: "give the pillar key `migrate`, or pillar='{\"nodes\": …}'; docs/addresses.md shows it".into(),
            });
        };
        let ours = ["state_dir", "nodes", "addresses", "vhosts"];
        let subset: serde_json::Map<String, Value> =
            keys.iter().filter(|(key, _)| ours.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
        let inventory: Self = serde_path_to_error::deserialize(Value::Object(subset)).map_err(explain)?;
        inventory.consistent()?;
        Ok(inventory)
    }

    /// Returns the node of the new side that takes an old node's place.
    pub fn successor(&self, old: &str) -> Option<&Node> {
        self.nodes.new.get(self.addresses.becomes.get(old).map_or(old, String::as_str))
    }

    /// The old networks, each with what takes its place; without any declared, those around the private addresses.
    pub fn old_ranges(&self) -> Vec<(IpNet, Option<IpNet>)> {
        if self.addresses.ranges.is_empty() {
            let around: BTreeSet<IpNet> = self.nodes.old.values().filter_map(|node| around(node.private)).collect();
            return around.into_iter().map(|net| (net, None)).collect();
        }
        self.addresses.ranges.iter().map(|range| (range.old, range.new)).collect()
    }

    /// The old networks, and the old addresses outside of them.
    pub fn old_networks(&self) -> Vec<IpNet> {
        let mut networks: Vec<IpNet> = self.old_ranges().into_iter().map(|(net, _)| net).collect();
        let ranges = networks.clone();
        let all = self.nodes.old.values().flat_map(|node| [Some(node.private), node.public]).flatten();
        networks.extend(all.filter(|address| !ranges.iter().any(|net| net.contains(address))).map(IpNet::from));
        networks
    }

    fn consistent(&self) -> Result<()> {
        for (side, nodes) in [("old", &self.nodes.old), ("new", &self.nodes.new)] {
            let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
            for (name, node) in nodes {
                for address in [Some(node.private), node.public].into_iter().flatten() {
                    if let Some(first) = seen.insert(address, name).filter(|first| first != name) {
                        let path = format!("nodes:{side}:{name}");
                        let hint = format!("migrate:nodes:{side}:{first} has it too");
                        return Err(wrong(&path, &address.to_string(), "an address that no other node has", &hint));
                    }
                }
            }
        }
        check(&self.addresses, &self.nodes)?;
        super::vhosts::check(&self.vhosts, &self.nodes.new)
    }
}

fn around(address: IpAddr) -> Option<IpNet> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).ok().map(|net| net.trunc())
}

/// Refuses what contradicts the nodes.
pub(super) fn check(addresses: &Addresses, nodes: &Sides<BTreeMap<String, Node>>) -> Result<()> {
    let node = |path: String, side: &BTreeMap<String, Node>, name: &str| {
        if side.contains_key(name) {
            return Ok(());
        }
        let known: Vec<&str> = side.keys().map(String::as_str).collect();
        Err(wrong(&path, name, &format!("one of {}", known.join(", ")), "add the node, or correct its name"))
    };
    for name in addresses.names.keys() {
        node(format!("addresses:names:{name}"), &nodes.old, name)?;
    }
    for (old, new) in &addresses.becomes {
        node(format!("addresses:becomes:{old}"), &nodes.old, old)?;
        node(format!("addresses:becomes:{old}"), &nodes.new, new)?;
    }
    for (index, link) in addresses.allowed.iter().enumerate() {
        node(format!("addresses:allowed:{index}:to"), &nodes.old, &link.to)?;
        if let Some(from) = &link.from {
            node(format!("addresses:allowed:{index}:from"), &nodes.new, from)?;
        }
    }
    for (index, range) in addresses.ranges.iter().enumerate() {
        let path = format!("addresses:ranges:{index}");
        if range.old.addr() != range.old.network() {
            let hint = format!("write {}", range.old.trunc());
            return Err(wrong(&path, &range.old.to_string(), "a network, without host bits", &hint));
        }
        if let Some(new) = range.new.filter(|new| new.prefix_len() != range.old.prefix_len()) {
            let hint = "networks of one size replace each other; leave `new` out otherwise";
            return Err(wrong(&path, &new.to_string(), &format!("a /{}", range.old.prefix_len()), hint));
        }
    }
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (name, pairs) in &addresses.names {
        for old in pairs.keys() {
            if let Some(first) = owners.insert(old.to_lowercase(), name) {
                let hint = format!("migrate:addresses:names:{first} has it too");
                return Err(wrong(&format!("addresses:names:{name}"), old, "a name that no other node has", &hint));
            }
        }
    }
    for (index, column) in addresses.columns.iter().enumerate() {
        if column.split('.').count() != 3 || column.split('.').any(str::is_empty) {
            let path = format!("addresses:columns:{index}");
            return Err(wrong(&path, column, "database.table.column", "for example wpstats.piwik_site.main_url"));
        }
    }
    for (path, pattern) in patterns(addresses) {
        if let Err(error) = globset::Glob::new(pattern) {
            return Err(wrong(&path, pattern, "a path pattern", &error.to_string()));
        }
    }
    Ok(())
}

fn patterns(addresses: &Addresses) -> Vec<(String, &str)> {
    let mut all: Vec<(String, &str)> =
        addresses.ignore.iter().map(|pattern| ("addresses:ignore".to_owned(), pattern.as_str())).collect();
    for (name, patterns) in &addresses.scopes {
        all.extend(patterns.iter().map(|pattern| (format!("addresses:scopes:{name}"), pattern.as_str())));
    }
    for (index, link) in addresses.allowed.iter().enumerate() {
        all.extend(link.paths.iter().map(|pattern| (format!("addresses:allowed:{index}:paths"), pattern.as_str())));
    }
    all
}
