//! What the old servers need beside themselves, proposed as pillar: security groups with their rules, public keys, an image.
//!
//! Invariant: pure functions. What cannot be carried over is told in a sentence, and never left out in silence.

use super::inventory::{Inventory, Known};
use super::{KeyPair, NewRule, SecurityGroup};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The group that every project has, and nobody can make.
const DEFAULT: &str = "default";

/// What a project has beside its servers, as far as it tells.
#[derive(Default)]
pub struct Belongings {
    pub groups: Vec<SecurityGroup>,
    pub key_pairs: Vec<KeyPair>,
}

/// Writes what the servers of an inventory name of it as keys of `migrate:prepare`, and what stays out of them as sentences.
pub fn proposed(inventory: &Inventory, belongings: &Belongings) -> (Map<String, Value>, Vec<String>) {
    let (mut keys, mut problems) = (Map::new(), Vec::new());
    let groups = groups(&inventory.nodes, &belongings.groups, &mut problems);
    let pairs = key_pairs(&inventory.nodes, &belongings.key_pairs, &mut problems);
    for (name, found) in [("security_groups", groups), ("key_pairs", pairs)] {
        if !found.is_empty() {
            keys.insert(name.into(), Value::Object(found));
        }
    }
    if let Some(image) = usual_image(&inventory.nodes) {
        keys.insert("image".into(), json!(image));
    }
    (keys, problems)
}

/// Names the image that most nodes have; of two that are as usual the first by name.
pub fn usual_image(nodes: &BTreeMap<String, Known>) -> Option<String> {
    let mut counted: BTreeMap<&String, usize> = BTreeMap::new();
    for image in nodes.values().filter_map(|known| known.image.as_ref()) {
        *counted.entry(image).or_default() += 1;
    }
    counted.into_iter().rev().max_by_key(|(_, count)| *count).map(|(image, _)| image.clone())
}

fn key_pairs(nodes: &BTreeMap<String, Known>, found: &[KeyPair], problems: &mut Vec<String>) -> Map<String, Value> {
    let mut pairs = Map::new();
    for (node, known) in nodes {
        let Some(name) = &known.key_pair else { continue };
        match found.iter().find(|pair| pair.name == *name) {
            Some(pair) => {
                pairs.insert(name.clone(), json!(pair.public_key.trim()));
            }
            // Key pairs belong to users, and are shown to their own alone.
            None => problems.push(format!("{node} has the key pair {name}, which this user is not shown")),
        }
    }
    pairs
}

fn groups(nodes: &BTreeMap<String, Known>, found: &[SecurityGroup], problems: &mut Vec<String>) -> Map<String, Value> {
    let addresses: Vec<IpAddr> = nodes.values().filter_map(|known| known.private).collect();
    let mut own = found
        .iter()
        .filter(|group| group.name == DEFAULT)
        .flat_map(|group| group.rules.iter().filter(|rule| rule.group.as_ref() != Some(&group.id)).map(NewRule::key));
    if let Some(first) = own.next() {
        let more = own.fold(first, |all, rule| format!("{all}; {rule}"));
        problems.push(format!(
            "the security group {DEFAULT} has rules of its own, and prepare changes none of that name: {more}"
        ));
    }
    let mut waiting: Vec<&String> = nodes.values().flat_map(|known| &known.security_groups).collect();
    let (mut seen, mut proposed) = (BTreeSet::new(), Map::new());
    while let Some(name) = waiting.pop() {
        if name == DEFAULT || !seen.insert(name) {
            continue;
        }
        let Some(group) = found.iter().find(|group| group.name == *name) else {
            problems.push(format!("the security group {name} is not in the project"));
            continue;
        };
        let mut rules: Vec<Value> = Vec::new();
        for rule in &group.rules {
            // Of others the two figures are no ports, and a group lets nobody in over IPv6 here.
            let ports = rule.ports.is_none() || matches!(rule.protocol.as_deref(), Some("tcp" | "udp"));
            if !ports || rule.six && rule.group.is_some() {
                problems.push(format!(
                    "the security group {name} has a rule that the pillar has no words for: {}",
                    rule.key()
                ));
                continue;
            }
            let from = match &rule.group {
                None => rule.network.clone().unwrap_or_else(|| "0.0.0.0/0".into()),
                Some(id) => match found.iter().find(|other| other.id == *id) {
                    Some(other) if other.name != DEFAULT => {
                        waiting.push(&other.name);
                        other.name.clone()
                    }
                    other => {
                        let whom = other.map_or(id.as_str(), |group| group.name.as_str());
                        let rule = rule.key();
                        problems
                            .push(format!("the security group {name} lets in {whom}, which is nobody's here: {rule}"));
                        continue;
                    }
                },
            };
            let theirs = from.parse::<IpNet>().ok().filter(|net| net.prefix_len() > 0);
            if theirs.is_some_and(|net| addresses.iter().any(|address| net.contains(address))) {
                problems
                    .push(format!("the security group {name} lets in {from}, where old nodes are: add the new ones'"));
            }
            let rule = written(rule, &from);
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        proposed.insert(name.clone(), json!({"rules": rules}));
    }
    problems.sort();
    proposed
}

fn written(rule: &NewRule, from: &str) -> Value {
    let mut written = Map::new();
    if let Some(protocol) = &rule.protocol {
        written.insert("protocol".into(), json!(protocol));
    }
    if let Some((first, last)) = rule.ports {
        let ports = if first == last { json!(first) } else { json!(format!("{first}-{last}")) };
        written.insert("ports".into(), ports);
    }
    written.insert("from".into(), json!(from));
    Value::Object(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str, groups: &[&str], key: Option<&str>, image: &str) -> Known {
        Known {
            private: address.parse().ok(),
            security_groups: groups.iter().map(|name| (*name).to_owned()).collect(),
            key_pair: key.map(str::to_owned),
            image: Some(image.to_owned()),
            ..Known::default()
        }
    }

    fn rule(ports: Option<(u16, u16)>, network: Option<&str>, group: Option<&str>) -> NewRule {
        let protocol = ports.map(|_| "tcp".to_owned());
        NewRule { protocol, ports, network: network.map(str::to_owned), group: group.map(str::to_owned), six: false }
    }

    fn group(name: &str, rules: Vec<NewRule>) -> SecurityGroup {
        SecurityGroup { id: format!("id-of-{name}"), name: name.into(), description: String::new(), rules }
    }

    fn inventory() -> Inventory {
        let nodes = [
            ("app1", node("10.70.0.21", &["default", "web"], Some("ops"), "debian-12")),
            ("db1", node("10.70.0.11", &["db"], Some("theirs"), "debian-11")),
            ("db2", node("10.70.0.12", &["db"], None, "debian-12")),
        ];
        Inventory {
            nodes: nodes.into_iter().map(|(name, known)| (name.to_owned(), known)).collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn what_servers_name_is_proposed_and_whom_a_rule_lets_in_with_it() {
        let belongings = Belongings {
            groups: vec![
                group("default", vec![rule(None, None, Some("id-of-default"))]),
                group("db", vec![rule(Some((3306, 3306)), None, Some("id-of-apps"))]),
                group("apps", vec![]),
                group("web", vec![rule(Some((80, 443)), None, None), rule(None, Some("10.9.0.0/16"), None)]),
                group("others", vec![]),
            ],
            key_pairs: vec![KeyPair { name: "ops".into(), public_key: "ssh-ed25519 AAAA ops\n".into() }],
        };
        let (keys, problems) = proposed(&inventory(), &belongings);
        assert_eq!(
            keys["security_groups"],
            json!({
                "apps": {"rules": []},
                "db": {"rules": [{"protocol": "tcp", "ports": 3306, "from": "apps"}]},
                "web": {"rules": [{"protocol": "tcp", "ports": "80-443", "from": "0.0.0.0/0"}, {"from": "10.9.0.0/16"}]},
            })
        );
        assert_eq!(keys["key_pairs"], json!({"ops": "ssh-ed25519 AAAA ops"}));
        assert_eq!(keys["image"], "debian-12");
        assert_eq!(problems, ["db1 has the key pair theirs, which this user is not shown"]);
    }

    #[test]
    fn what_cannot_be_carried_over_is_told() {
        let belongings = Belongings {
            groups: vec![
                group("default", vec![rule(Some((22, 22)), None, None)]),
                group(
                    "web",
                    vec![
                        rule(None, None, Some("id-of-default")),
                        rule(None, Some("10.70.0.0/24"), None),
                        rule(None, None, Some("some-addresses")),
                        NewRule { protocol: Some("icmp".into()), ..rule(Some((8, 0)), None, None) },
                        NewRule { six: true, ..rule(None, None, Some("id-of-web")) },
                    ],
                ),
            ],
            ..Belongings::default()
        };
        let (keys, problems) = proposed(&inventory(), &belongings);
        assert_eq!(keys["security_groups"], json!({"web": {"rules": [{"from": "10.70.0.0/24"}]}}));
        let told = [
            "the security group db is not in the project",
            "the security group default has rules of its own, and prepare changes none of that name: tcp 22-22 from anywhere",
            "the security group web has a rule that the pillar has no words for: any any from id-of-web",
            "the security group web has a rule that the pillar has no words for: icmp 8-0 from anywhere",
            "the security group web lets in 10.70.0.0/24, where old nodes are: add the new ones'",
            "the security group web lets in default, which is nobody's here: any any from id-of-default",
            "the security group web lets in some-addresses, which is nobody's here: any any from some-addresses",
            "app1 has the key pair ops, which this user is not shown",
            "db1 has the key pair theirs, which this user is not shown",
        ];
        assert_eq!(problems, told);
    }
}
