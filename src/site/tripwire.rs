//! The tripwire: rules of the packet filter that count and log what crosses between the sides. They drop nothing.
//!
//! Invariant: what the kernel remembers is all there is: the elements of a set name what crossed, and by the time that is
//! left to each it tells how long ago; one element that was there from the beginning tells since when the rules stand.
//! Loading the same rules again is never needed, and would begin the watch anew.

use crate::error::{Error, Result};
use crate::outside::{Call, Outside};
use crate::settings::{Node, Settings, Side};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// The name of the table.
pub const TABLE: &str = "saltext_migrate_tripwire";
/// For how many seconds a host remembers: longer than a soak.
pub const MEMORY: u64 = 90 * 86_400;
/// How many others one set remembers.
pub const ROOM: usize = 65_535;

/// The rules of one host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watch {
    pub side: &'static str,
    pub node: String,
    /// The counter that is there while these rules are loaded.
    pub mark: String,
    pub rules: String,
    /// What is recent, in seconds.
    #[serde(skip)]
    pub quiet: u64,
}

/// What crossed, or arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Crossing {
    /// The other end: the old address that is called, or the new one that calls.
    pub address: String,
    pub protocol: String,
    pub port: Option<u16>,
    pub packets: u64,
    /// Since the last packet; up to a second more.
    pub seconds_ago: u64,
}

/// What one host's tripwire tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Whether the rules are loaded, and the right ones.
    pub loaded: bool,
    /// Whether they stood for the whole quiet time.
    pub whole: bool,
    /// For how many seconds they stand, as far as they remember.
    pub watched: u64,
    /// Packets since the rules were loaded.
    pub crossings: u64,
    /// On an old host: packets from anywhere but the old side.
    pub arrivals: u64,
    /// Within the quiet time.
    pub recent: Vec<Crossing>,
    pub recent_arrivals: Vec<Crossing>,
    /// Whoever arrived, and what crossed before the quiet time; the latest first.
    #[serde(skip)]
    pub remembered: Vec<Crossing>,
    /// Whether there was no room to remember more.
    #[serde(skip)]
    pub full: bool,
}

/// Builds the rules of every host that has a minion, by minion.
pub fn rules(settings: &Settings) -> BTreeMap<String, Watch> {
    let mut all: BTreeMap<String, Watch> = BTreeMap::new();
    let quiet = settings.tripwire.clone().unwrap_or_default().quiet.max(1);
    for side in [Side::New, Side::Old] {
        for (name, node) in settings.nodes.of(side) {
            let Some(minion) = &node.minion else { continue };
            let body = if side == Side::New { departures(settings, name) } else { arrivals(settings, name) };
            let body = format!("{}{body}", remembered(&body));
            let digest = Sha256::digest(body.as_bytes());
            let mark = format!("rules_{}", digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>());
            let rules = format!(
                "#!/usr/sbin/nft -f\n# Written by saltext-migrate. It counts and logs what crosses between the sides, and drops nothing.\n\
                 table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n  counter {mark} {{ }}\n{body}}}\n"
            );
            all.insert(minion.clone(), Watch { side: side.word(), node: name.clone(), mark, rules, quiet });
        }
    }
    all
}

/// Lets answers pass uncounted. Of a connection that is older than the rules the kernel cannot tell who began it, so there
/// a service's port on one end and a client's on the other decide; a connection that begins is always seen.
const ANSWERS: &str = "    ct direction reply return\n    \
    tcp flags & (syn | ack) != syn tcp sport < 32768 tcp dport >= 32768 return";

/// The sets and chains that the hooks of a body lead to.
fn remembered(hooks: &str) -> String {
    let mut text = format!(
        "  counter crossings {{ }}\n  counter arrivals {{ }}\n\
         \x20 set standing {{ type mark; flags timeout; elements = {{ 0x1 timeout {MEMORY}s }}; }}\n"
    );
    for (name, counter) in [("crossed", "crossings"), ("arrived", "arrivals")] {
        for (version, kind, word) in [("4", "ipv4_addr", "ip"), ("6", "ipv6_addr", "ip6")] {
            for end in ["saddr", "daddr"] {
                let (set, chain) = (format!("{name}{version}"), format!("{name}{version}_{end}"));
                if !hooks.contains(&format!("goto {chain}\n")) {
                    continue;
                }
                let flags = format!("flags dynamic,timeout; timeout {MEMORY}s; size {ROOM};");
                let _ = writeln!(
                    text,
                    "  set {set} {{ type {kind} . inet_proto . inet_service; {flags} }}\n  \
                     set {set}_other {{ type {kind} . inet_proto; {flags} }}\n  chain {chain} {{\n    \
                     counter name {counter}\n    \
                     meta l4proto {{ tcp, udp }} update @{set} {{ {word} {end} . meta l4proto . th dport counter }}\n    \
                     meta l4proto != {{ tcp, udp }} update @{set}_other {{ {word} {end} . meta l4proto counter }}\n    \
                     limit rate 6/minute burst 5 packets log prefix \"saltext-migrate {name}: \"\n  }}"
                );
            }
        }
    }
    text
}

/// What a new host must not call: the old side.
fn departures(settings: &Settings, node: &str) -> String {
    let inventory = settings.inventory();
    let old = inventory.old_networks();
    let mut body = String::new();
    for hook in ["output", "forward"] {
        let _ = writeln!(body, "  chain {hook} {{\n    type filter hook {hook} priority filter - 5; policy accept;");
        let _ = writeln!(body, "    oifname \"lo\" return\n{ANSWERS}");
        for (to, port) in allowed(settings, Some(node)) {
            let word = family(&to);
            match port {
                Some(port) => {
                    _ = writeln!(body, "    {word} daddr {to} meta l4proto {{ tcp, udp }} th dport {port} return")
                }
                None => _ = writeln!(body, "    {word} daddr {to} return"),
            }
        }
        // Where old and new ranges overlap, a new node's address is nobody's old one, or cannot be told from it.
        for new in settings.nodes.new.values().flat_map(|node| [Some(node.private), node.public]).flatten() {
            if old.iter().any(|net| net.contains(&new)) {
                let _ = writeln!(body, "    {} daddr {new} return", family(&new));
            }
        }
        for (word, version, networks) in by_family(&old) {
            let _ = writeln!(body, "    {word} daddr {{ {networks} }} goto crossed{version}_daddr");
        }
        body += "  }\n";
    }
    body
}

/// What an old host must not be called by: the new side, and in the end anybody.
fn arrivals(settings: &Settings, node: &str) -> String {
    let inventory = settings.inventory();
    let new: BTreeSet<IpNet> = settings
        .nodes
        .new
        .values()
        .flat_map(|node| [Some(node.private), node.public])
        .flatten()
        .map(IpNet::from)
        .collect();
    let mut body = String::new();
    for hook in ["input", "forward"] {
        let _ = writeln!(body, "  chain {hook} {{\n    type filter hook {hook} priority filter - 5; policy accept;");
        let _ = writeln!(body, "    iifname \"lo\" return\n{ANSWERS}");
        for (from, to, port) in links(settings) {
            if to != node {
                continue;
            }
            for source in sources(settings, from.as_deref()) {
                let port =
                    port.map_or_else(String::new, |port| format!(" meta l4proto {{ tcp, udp }} th dport {port}"));
                let _ = writeln!(body, "    {} saddr {source}{port} return", family(&source));
            }
        }
        let new: Vec<IpNet> = new.iter().copied().collect();
        for (word, version, networks) in by_family(&new) {
            let _ = writeln!(body, "    {word} saddr {{ {networks} }} goto crossed{version}_saddr");
        }
        for (word, _, networks) in by_family(&inventory.old_networks()) {
            let _ = writeln!(body, "    {word} saddr {{ {networks} }} return");
        }
        // What a link needs to live is no visitor.
        let _ =
            writeln!(body, "    meta l4proto {{ icmpv6, igmp }} return\n    pkttype {{ broadcast, multicast }} return");
        let _ = writeln!(
            body,
            "    meta nfproto ipv4 goto arrived4_saddr\n    meta nfproto ipv6 goto arrived6_saddr\n  }}"
        );
    }
    body
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn by_family(networks: &[IpNet]) -> Vec<(&'static str, &'static str, String)> {
    let aggregated = IpNet::aggregate(&networks.to_vec());
    [("ip", "4", true), ("ip6", "6", false)]
        .into_iter()
        .filter_map(|(word, version, four)| {
            let list: Vec<String> =
                aggregated.iter().filter(|net| net.addr().is_ipv4() == four).map(ToString::to_string).collect();
            (!list.is_empty()).then(|| (word, version, list.join(", ")))
        })
        .collect()
}

/// The ports of a master of minions.
const MASTER: [u16; 2] = [4505, 4506];

/// The links that are meant to be: those of the pillar, and what the migration itself needs: the replication from the old
/// primary, people's files on the way back, and minions that obey an old master beside the new one.
fn links(settings: &Settings) -> Vec<(Option<String>, String, Option<u16>)> {
    let databases = &settings.databases;
    let follower = databases.new.relay.as_ref().unwrap_or(&databases.new.primary);
    let replication = (Some(follower.clone()), databases.old.primary.clone(), Some(databases.port));
    let told = settings.addresses.allowed.iter().map(|link| (link.from.clone(), link.to.clone(), link.port));
    let uploads =
        settings.uploads.values().map(|uploads| (Some(uploads.new.clone()), uploads.old.clone(), Some(uploads.port)));
    let masters = settings.prepare.iter().flat_map(|prepare| &prepare.masters).filter_map(|master| {
        let home =
            |node: &Node| [Some(node.private), node.public].into_iter().flatten().any(|at| at.to_string() == *master);
        settings.nodes.old.iter().find(|(_, node)| home(node)).map(|(name, _)| name.clone())
    });
    let masters = masters.flat_map(|name| MASTER.map(|port| (None, name.clone(), Some(port))));
    std::iter::once(replication).chain(told).chain(uploads).chain(masters).collect()
}

fn allowed(settings: &Settings, from: Option<&str>) -> Vec<(IpAddr, Option<u16>)> {
    let mut all = Vec::new();
    for (source, to, port) in links(settings) {
        let ours = source.as_deref().is_none_or(|source| Some(source) == from);
        let Some(node) = settings.node(Side::Old, &to).filter(|_| ours) else { continue };
        all.extend([Some(node.private), node.public].into_iter().flatten().map(|address| (address, port)));
    }
    all
}

fn sources(settings: &Settings, from: Option<&str>) -> Vec<IpAddr> {
    let nodes = settings.nodes.new.iter().filter(|(name, _)| from.is_none_or(|from| from == name.as_str()));
    nodes.flat_map(|(_, node)| [Some(node.private), node.public]).flatten().collect()
}

/// Asks the hosts what their tripwires tell.
///
/// # Errors
/// [`Error::Remote`] where a host does not answer: silence is not quiet.
pub async fn counted(
    outside: &Outside,
    watches: &BTreeMap<String, Watch>,
    seconds: u64,
) -> Result<BTreeMap<String, Counted>> {
    let hosts: Vec<String> = watches.keys().cloned().collect();
    if hosts.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keywords =
        json!({"cmd": ["nft", "-j", "list", "table", "inet", TABLE], "python_shell": false, "ignore_retcode": true});
    let mut told = BTreeMap::new();
    for (host, said) in outside.call(&hosts, vec![Call::new("cmd.run_all", keywords)], seconds).await? {
        let answer = match said.into_iter().next() {
            Some(Ok(answer)) => answer,
            other => return Err(Error::remote(&host, format!("reading its tripwire: {other:?}"))),
        };
        let text = answer.get("stdout").and_then(Value::as_str).unwrap_or_default();
        // No such table is what a host without the rules says.
        let list = serde_json::from_str::<Value>(text).ok();
        let counted = list.zip(watches.get(&host)).map(|(list, watch)| read(&list, watch)).unwrap_or_default();
        told.insert(host, counted);
    }
    Ok(told)
}

fn read(list: &Value, watch: &Watch) -> Counted {
    let mut counted = Counted { watched: MEMORY, ..Counted::default() };
    for object in list.get("nftables").and_then(Value::as_array).into_iter().flatten() {
        if let Some(counter) = object.get("counter") {
            let packets = counter.get("packets").and_then(Value::as_u64).unwrap_or_default();
            match counter.get("name").and_then(Value::as_str).unwrap_or_default() {
                "crossings" => counted.crossings = packets,
                "arrivals" => counted.arrivals = packets,
                name if name == watch.mark => counted.loaded = true,
                _ => {}
            }
        }
        let Some(set) = object.get("set") else { continue };
        let elements = set.get("elem").and_then(Value::as_array).cloned().unwrap_or_default();
        counted.full |= elements.len() >= ROOM;
        let name = set.get("name").and_then(Value::as_str).unwrap_or_default();
        for element in &elements {
            let found = crossing(element);
            let recent = found.seconds_ago < watch.quiet;
            match name {
                "standing" => counted.watched = found.seconds_ago,
                name if name.starts_with("crossed") && recent => counted.recent.push(found),
                name if name.starts_with("crossed") => counted.remembered.push(found),
                name if name.starts_with("arrived") => {
                    counted.recent_arrivals.extend(recent.then(|| found.clone()));
                    counted.remembered.push(found);
                }
                _ => {}
            }
        }
    }
    counted.remembered.sort_by_key(|crossing| crossing.seconds_ago);
    counted.whole = counted.loaded && counted.watched >= watch.quiet.min(MEMORY);
    counted
}

fn crossing(element: &Value) -> Crossing {
    let inner = element.get("elem").unwrap_or(element);
    let parts = inner.pointer("/val/concat").and_then(Value::as_array).cloned().unwrap_or_default();
    let word = |index: usize| {
        parts.get(index).map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).unwrap_or_default()
    };
    let left = inner.get("expires").and_then(Value::as_u64).unwrap_or_default();
    Crossing {
        address: word(0),
        protocol: word(1),
        port: parts.get(2).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()),
        packets: inner.pointer("/counter/packets").and_then(Value::as_u64).unwrap_or_default(),
        // The time that is left comes without its fraction.
        seconds_ago: MEMORY.saturating_sub(left + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_migration_itself_needs_is_no_crossing() {
        let settings = Settings::read(&json!({
            "nodes": {
                "old": {
                    "db1": {"private": "10.70.0.11", "minion": "old-db1"},
                    "master": {"private": "10.70.0.5", "minion": "old-master"},
                    "files": {"private": "10.70.0.31", "minion": "old-files"},
                },
                "new": {
                    "db1": {"private": "10.80.0.11", "minion": "new-db1"},
                    "files": {"private": "10.80.0.31", "minion": "new-files"},
                },
            },
            "databases": {
                "old": {"primary": "db1"}, "new": {"primary": "db1"},
                "accounts": {
                    "admin": {"user": "a", "password": "p"},
                    "marker": {"user": "b", "password": "p"},
                    "replication": {"user": "c", "password": "p"},
                },
            },
            "notice": {"text": "Migration in progress", "nodes": {"old": [], "new": []}},
            "prepare": {"masters": ["10.70.0.5", "10.80.0.5"]},
            "uploads": {"wiki": {"old": "files", "new": "files", "port": 4446, "paths": ["/srv/images"]}},
        }))
        .unwrap();
        let passes = |body: &str, end: &str, address: &str, port: u16| {
            body.contains(&format!("ip {end} {address} meta l4proto {{ tcp, udp }} th dport {port} return"))
        };
        let (db, files) = (departures(&settings, "db1"), departures(&settings, "files"));
        assert!(passes(&db, "daddr", "10.70.0.11", 3306) && !passes(&files, "daddr", "10.70.0.11", 3306));
        assert!(passes(&files, "daddr", "10.70.0.31", 4446) && !passes(&db, "daddr", "10.70.0.31", 4446));
        for port in MASTER {
            assert!(passes(&db, "daddr", "10.70.0.5", port) && passes(&files, "daddr", "10.70.0.5", port));
            assert!(passes(&arrivals(&settings, "master"), "saddr", "10.80.0.31", port));
        }
        assert!(passes(&arrivals(&settings, "files"), "saddr", "10.80.0.31", 4446));
        assert!(!passes(&arrivals(&settings, "files"), "saddr", "10.80.0.11", 4446));
    }
}
