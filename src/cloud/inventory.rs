//! What the old side consists of: the words of several sources about each node, merged.
//!
//! Invariant: pure functions. Where two sources disagree the first one's word is taken, and both are told.

use super::belongings::usual_image;
use super::{Flavor, Image, Server, Subnet, Volume};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A volume beside a root disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attached {
    pub id: String,
    /// Nothing of both where block storage does not know it.
    pub name: Option<String>,
    /// GiB.
    pub gigabytes: Option<u64>,
}

/// What one source says of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Known {
    pub private: Option<IpAddr>,
    pub public: Option<IpAddr>,
    pub minion: Option<String>,
    pub vcpus: Option<u32>,
    /// MiB.
    pub ram: Option<u64>,
    /// GiB.
    pub disk: Option<u64>,
    pub image: Option<String>,
    pub key_pair: Option<String>,
    pub availability_zone: Option<String>,
    pub security_groups: Vec<String>,
    /// Volumes beside its root disk; what is on them nobody copies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Attached>,
}

/// What one source says, by node.
pub type Source = BTreeMap<String, Known>;

/// What came of the sources.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Inventory {
    pub nodes: BTreeMap<String, Known>,
    /// What sources say against each other, in sentences.
    pub disagreements: Vec<String>,
    /// Nodes that the pillar leaves where they are.
    pub left: Vec<String>,
}

/// Reads the servers of a cloud as a source; a server's name up to the first dot is its node's.
pub fn of_servers(servers: &[Server], flavors: &[Flavor], volumes: &[Volume], images: &[Image]) -> Source {
    servers
        .iter()
        .map(|server| {
            let flavor = flavors.iter().find(|flavor| flavor.id == server.flavor);
            let named = |id: &String| images.iter().find(|image| image.id == *id).map(|image| image.name.clone());
            let known = Known {
                private: server.addresses.first().copied(),
                public: server.floating.first().copied(),
                minion: None,
                vcpus: flavor.map(|flavor| flavor.vcpus),
                ram: flavor.map(|flavor| flavor.ram),
                disk: flavor.map(|flavor| flavor.disk),
                // One that is gone has no name.
                image: server.image.as_ref().and_then(named),
                key_pair: server.key_pair.clone(),
                availability_zone: server.availability_zone.clone(),
                security_groups: server.security_groups.clone(),
                volumes: attached(server, volumes),
            };
            (node_of(&server.name), known)
        })
        .collect()
}

/// Lists a server's volumes without the one that it boots from, where block storage tells which that is.
fn attached(server: &Server, volumes: &[Volume]) -> Vec<Attached> {
    let device =
        |volume: &Volume| volume.attachments.iter().find(|at| at.server == server.id).map(|at| at.device.clone());
    let bootable = volumes.iter().filter(|volume| server.image.is_none() && volume.bootable);
    let root = bootable.filter_map(|volume| Some((device(volume)?, &volume.id))).min().map(|(_, id)| id);
    server
        .data_volumes()
        .iter()
        .filter(|id| Some(*id) != root)
        .map(|id| {
            let known = volumes.iter().find(|volume| volume.id == *id);
            let name = known.map(|volume| volume.name.clone());
            Attached { id: id.clone(), name, gigabytes: known.map(|volume| volume.gigabytes) }
        })
        .collect()
}

/// Reads what minions say of themselves as a source, by the node whose minion each is; `disks` has the bytes of each one's
/// root file system, which are at most those of its disk.
pub fn of_grains(
    grains: &BTreeMap<String, Value>,
    disks: &BTreeMap<String, u64>,
    node_of_minion: &BTreeMap<String, String>,
) -> Source {
    grains
        .iter()
        .map(|(minion, grains)| {
            let number = |key: &str| grains.get(key).and_then(Value::as_u64);
            let private = grains
                .get("ipv4")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|address| address.as_str()?.parse::<IpAddr>().ok())
                .find(|address| !address.is_loopback());
            let known = Known {
                private,
                minion: Some(minion.clone()),
                vcpus: number("num_cpus").and_then(|count| u32::try_from(count).ok()),
                ram: number("mem_total"),
                disk: disks.get(minion).map(|bytes| bytes.div_ceil(1 << 30)),
                ..Known::default()
            };
            (node_of_minion.get(minion).cloned().unwrap_or_else(|| node_of(minion)), known)
        })
        .collect()
}

/// Names the node of a server.
pub fn node_of(name: &str) -> String {
    name.split('.').next().unwrap_or(name).to_owned()
}

/// Merges what sources say; the first that says anything of a field has it.
pub fn merged(sources: &[(&str, Source)], leave: &[String]) -> Inventory {
    let names: BTreeSet<&String> = sources.iter().flat_map(|(_, source)| source.keys()).collect();
    let mut inventory = Inventory::default();
    for name in names {
        if leave.contains(name) {
            inventory.left.push(name.clone());
            continue;
        }
        let said: Vec<(&str, &Known)> =
            sources.iter().filter_map(|(word, source)| Some((*word, source.get(name)?))).collect();
        for (word, source) in sources {
            if !source.is_empty() && !source.contains_key(name) {
                let by: Vec<&str> = said.iter().map(|(word, _)| *word).collect();
                inventory.disagreements.push(format!("{name}: known by {}, not by {word}", by.join(" and ")));
            }
        }
        let mut field = Field { name, said: &said, disagreements: &mut inventory.disagreements };
        let known = Known {
            private: field.first("private address", |known| known.private, |one, other| one == other),
            public: field.first("public address", |known| known.public, |one, other| one == other),
            minion: field.first("minion", |known| known.minion.clone(), |one, other| one == other),
            vcpus: field.first("vCPU", |known| known.vcpus, |one, other| one == other),
            // A kernel keeps some of the RAM for itself.
            ram: field.first(
                "RAM (MiB)",
                |known| known.ram,
                |one, other| one.abs_diff(*other) * 100 <= (*one).max(*other) * 8,
            ),
            // And a root file system is not all of its disk.
            disk: field.first(
                "disk (GiB)",
                |known| known.disk,
                |one, other| one.abs_diff(*other) * 100 <= (*one).max(*other) * 10,
            ),
            image: field.first("image", |known| known.image.clone(), |_, _| true),
            key_pair: field.first("key pair", |known| known.key_pair.clone(), |one, other| one == other),
            availability_zone: field.first("zone", |known| known.availability_zone.clone(), |_, _| true),
            security_groups: said.first().map(|(_, known)| known.security_groups.clone()).unwrap_or_default(),
            volumes: said.iter().flat_map(|(_, known)| known.volumes.clone()).collect(),
        };
        inventory.nodes.insert(name.clone(), known);
    }
    inventory
}

struct Field<'a> {
    name: &'a str,
    said: &'a [(&'a str, &'a Known)],
    disagreements: &'a mut Vec<String>,
}

impl Field<'_> {
    fn first<T: std::fmt::Display>(
        &mut self,
        what: &str,
        read: impl Fn(&Known) -> Option<T>,
        same: impl Fn(&T, &T) -> bool,
    ) -> Option<T> {
        let mut all = self.said.iter().filter_map(|(word, known)| Some((*word, read(known)?)));
        let (word, first) = all.next()?;
        for (other_word, other) in all {
            if !same(&first, &other) {
                let sentence = format!("{}: {what} is {first} by {word}, {other} by {other_word}", self.name);
                self.disagreements.push(sentence);
            }
        }
        Some(first)
    }
}

/// Writes an inventory as pillar: the nodes of both sides, and the servers to be made.
///
/// `new` is what the pillar says of the new side already; addresses that nobody says are taken from the subnets.
pub fn proposed(inventory: &Inventory, new: &Source, subnets: &[Subnet], taken: &BTreeSet<IpAddr>) -> Value {
    let mut taken: BTreeSet<IpAddr> = taken.clone();
    taken.extend(new.values().filter_map(|known| known.private));
    let usual = usual_image(&inventory.nodes);
    let (mut old_nodes, mut new_nodes, mut servers) = (Map::new(), Map::new(), Map::new());
    for (name, known) in &inventory.nodes {
        let mut node = Map::new();
        put(&mut node, "private", known.private);
        put(&mut node, "public", known.public);
        put(&mut node, "minion", known.minion.clone());
        old_nodes.insert(name.clone(), Value::Object(node));
        let said = new.get(name);
        let mut node = Map::new();
        let private = said.and_then(|known| known.private).or_else(|| free(known.private, subnets, &mut taken));
        put(&mut node, "private", private);
        put(&mut node, "public", said.and_then(|known| known.public));
        let minion = said.and_then(|known| known.minion.clone()).unwrap_or_else(|| format!("new-{name}"));
        put(&mut node, "minion", Some(minion));
        new_nodes.insert(name.clone(), Value::Object(node));
        let mut server = Map::new();
        put(&mut server, "vcpus", known.vcpus);
        put(&mut server, "ram", known.ram);
        put(&mut server, "disk", known.disk);
        put(&mut server, "image", known.image.clone().filter(|image| Some(image) != usual.as_ref()));
        put(&mut server, "key_pair", known.key_pair.clone());
        // Who has the project's own one alone gets that of the new project without a word.
        let groups = Some(&known.security_groups).filter(|groups| groups.iter().any(|group| group != "default"));
        put(&mut server, "security_groups", groups);
        let volumes = volumes_of(name, &known.volumes);
        put(&mut server, "volumes", Some(volumes).filter(|volumes| !volumes.is_empty()));
        servers.insert(name.clone(), Value::Object(server));
    }
    json!({"nodes": {"old": old_nodes, "new": new_nodes}, "prepare": {"servers": servers}})
}

/// Proposes volumes of the same sizes, called as they were without the node's name; their types are the other cloud's.
fn volumes_of(node: &str, volumes: &[Attached]) -> Map<String, Value> {
    let mut proposed = Map::new();
    for volume in volumes {
        let Some(gigabytes) = volume.gigabytes else { continue };
        let name = volume.name.as_deref().unwrap_or_default();
        let name = name.strip_prefix(node).unwrap_or(name);
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let name: String = name.chars().map(letter).take(36).collect();
        let name = Some(name.trim_matches('-')).filter(|name| !name.is_empty()).unwrap_or("data");
        let mut called = name.to_owned();
        for number in 2.. {
            if !proposed.contains_key(&called) {
                break;
            }
            called = format!("{name}{number}");
        }
        proposed.insert(called, json!({"gigabytes": gigabytes}));
    }
    proposed
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), json!(value));
    }
}

/// Finds an address of the pools that is not taken, with the same last part as another's where that is free; it is taken then.
pub fn free(old: Option<IpAddr>, subnets: &[Subnet], taken: &mut BTreeSet<IpAddr>) -> Option<IpAddr> {
    for subnet in subnets {
        for (first, last) in &subnet.pools {
            let (IpAddr::V4(first), IpAddr::V4(last)) = (first, last) else { continue };
            let (first, last) = (u32::from(*first), u32::from(*last));
            let same = match old {
                Some(IpAddr::V4(old)) => {
                    [(first & 0xffff_ff00) | (u32::from(old) & 0xff)].into_iter().find(|at| (first..=last).contains(at))
                }
                _ => None,
            };
            for at in same.into_iter().chain(first..=last) {
                let address = IpAddr::V4(at.into());
                if Some(address) != subnet.gateway && taken.insert(address) {
                    return Some(address);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(address: &str, vcpus: u32, ram: u64) -> Known {
        Known { private: address.parse().ok(), vcpus: Some(vcpus), ram: Some(ram), ..Known::default() }
    }

    fn source(nodes: &[(&str, Known)]) -> Source {
        nodes.iter().map(|(name, known)| ((*name).to_owned(), known.clone())).collect()
    }

    #[test]
    fn a_minion_tells_its_size_and_the_cloud_s_word_for_its_disk_is_no_other() {
        let told = json!({"num_cpus": 4, "mem_total": 7962, "ipv4": ["127.0.0.1", "10.70.0.11"]});
        let grains = BTreeMap::from([("db1.example.org".to_owned(), told)]);
        let disks = BTreeMap::from([("db1.example.org".to_owned(), 84_413_539_942)]);
        let minions = of_grains(&grains, &disks, &BTreeMap::new());
        assert_eq!(minions["db1"].disk, Some(79));
        let api = source(&[("db1", Known { disk: Some(80), ..known("10.70.0.11", 4, 8192) })]);
        let found = merged(&[("the API", api), ("the minions", minions.clone())], &[]);
        assert_eq!((found.nodes["db1"].disk, found.disagreements), (Some(80), vec![]));
        assert_eq!(merged(&[("the minions", minions)], &[]).nodes["db1"].disk, Some(79));
    }

    #[test]
    fn the_first_source_s_word_is_taken_and_every_disagreement_told() {
        let api = source(&[("db1", known("10.70.0.11", 4, 8192)), ("stray", known("10.70.0.99", 1, 512))]);
        let grains = source(&[("db1", known("10.70.0.11", 4, 7962)), ("app1", known("10.70.0.21", 2, 2000))]);
        let pillar = source(&[("db1", Known { private: "10.70.0.12".parse().ok(), ..Known::default() })]);
        let found = merged(&[("the API", api), ("grains", grains), ("the pillar", pillar)], &["stray".into()]);
        assert_eq!(found.nodes["db1"].ram, Some(8192));
        assert_eq!(found.left, ["stray"]);
        assert_eq!(
            found.disagreements,
            [
                "app1: known by grains, not by the API",
                "app1: known by grains, not by the pillar",
                "db1: private address is 10.70.0.11 by the API, 10.70.0.12 by the pillar",
            ]
        );
    }

    #[test]
    fn a_proposal_keeps_last_parts_of_addresses_and_takes_nobody_s() {
        let nodes =
            [("a", known("10.70.0.11", 1, 1)), ("b", known("10.71.0.11", 1, 1)), ("c", known("10.70.0.1", 1, 1))];
        let inventory = merged(&[("the API", source(&nodes))], &[]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let subnet =
            Subnet::of("net", "10.80.0.0/24", Some(address("10.80.0.1")), address("10.80.0.2"), address("10.80.0.254"));
        let proposal = proposed(&inventory, &Source::new(), &[subnet], &BTreeSet::from([address("10.80.0.2")]));
        let new = |name: &str| proposal["nodes"]["new"][name]["private"].as_str().unwrap().to_owned();
        assert_eq!(new("a"), "10.80.0.11");
        assert_eq!(new("b"), "10.80.0.3");
        assert_eq!(new("c"), "10.80.0.4");
        assert_eq!(proposal["prepare"]["servers"]["a"], json!({"vcpus": 1, "ram": 1}));
    }

    #[test]
    fn volumes_are_called_as_they_were_and_no_two_alike() {
        let volume = |name: &str| Attached { id: "x".into(), name: Some(name.into()), gigabytes: Some(5) };
        let unknown = Attached { id: "y".into(), name: None, gigabytes: None };
        let old = [volume("db1-data"), volume("data"), volume(""), volume("my files.2"), unknown];
        let names: Vec<String> = volumes_of("db1", &old).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["data", "data2", "data3", "my-files-2"]);
    }
}
