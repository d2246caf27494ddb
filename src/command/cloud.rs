//! Commands about the clouds, some of which can be asked before the rest of the site is described.

use crate::cloud::belongings::{self, Belongings};
use crate::cloud::inventory::{self, Known, Source};
use crate::cloud::{Answer, Cloud, Subnet};
use crate::engine::Report;
use crate::error::{Error, Result};
use crate::event::Finding;
use crate::outside::{Call, Outside};
use crate::phases;
use crate::settings::{Access, Clouds, Settings, Side};
use crate::steps::checks::{CloudReached, FleetFits, KeysFree, NetworkReady, Topic, file_system, reached};
use crate::steps::cloud::{Machine, ServerUp};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;

/// Runs a command about the clouds; nothing where it is none.
pub async fn run(command: &str, pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Option<Value>> {
    Ok(Some(match command {
        "cloud.check" => check(pillar, outside).await?,
        "cloud.flavors" => flavors(pillar, outside).await?,
        "cloud.inventory" => inventory(pillar, arguments, outside).await?,
        _ => return Ok(None),
    }))
}

/// Gathers everything that stands between us and a new cloud with its servers; each cloud alone where no more is described.
async fn check(pillar: &Value, outside: &Outside) -> Result<Value> {
    let clouds = Clouds::read(pillar)?;
    let mut findings: Vec<Finding> = Vec::new();
    for (side, access) in [(Side::Old, &clouds.old), (Side::New, &clouds.new)] {
        let Some(access) = access else { continue };
        let cloud = Cloud::new(side, access)?;
        findings.extend(reached(&cloud).await.into_iter().map(|finding| Finding {
            subject: format!("{} cloud: {}", side.word(), finding.subject),
            // The old cloud's API may be gone, and the move goes on.
            blocking: finding.blocking && side == Side::New,
            ..finding
        }));
    }
    let mut depth = "access";
    let blocked = findings.iter().any(|finding| finding.blocking);
    if !blocked && pillar.get("prepare").is_some() {
        let settings = Settings::read(pillar)?;
        let project = Rc::new(phases::project(&settings, outside)?);
        if let Some(volumes) = phases::volumes(&settings)? {
            findings.extend(volumes.look().await?);
        }
        findings.extend(FleetFits(project.clone()).look().await?);
        findings.extend(NetworkReady(project.clone()).look().await?);
        findings.extend(KeysFree(project).look().await?);
        depth = "everything";
    }
    let refused = findings.iter().any(|finding| finding.blocking);
    Ok(json!({"findings": findings, "refused": refused, "looked_at": depth}))
}

/// Shows, for each server, the best three flavors and why the others are not taken.
async fn flavors(pillar: &Value, outside: &Outside) -> Result<Value> {
    let project = phases::project(&Settings::read(pillar)?, outside)?;
    let reached = CloudReached(Rc::new(project));
    let project = &reached.0;
    let mut shown = Map::new();
    for (node, wanted) in &project.prepare.servers {
        let image = project.image(node, wanted).await?;
        let matched = project.flavor(wanted, Some(&image)).await?;
        shown.insert(node.clone(), json!(matched));
    }
    Ok(Value::Object(shown))
}

/// Merges what API, minions and pillar say of the old side, and proposes it as pillar.
async fn inventory(pillar: &Value, arguments: &Value, outside: &Outside) -> Result<Value> {
    let clouds = Clouds::read(pillar)?;
    let mut problems: Vec<String> = Vec::new();
    let mut sources: Vec<(&str, Source)> = Vec::new();
    let mut belongings = None;
    if let Some(access) = &clouds.old {
        match old_cloud(access, &mut problems).await {
            Ok((source, beside)) => {
                sources.push(("the API", source));
                belongings = Some(beside);
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    let old = nodes(pillar, "old");
    let minions: BTreeMap<String, String> =
        old.iter().filter_map(|(name, known)| Some((known.minion.clone()?, name.clone()))).collect();
    if !minions.is_empty() && arguments.get("grains").and_then(Value::as_bool).unwrap_or(true) {
        let hosts: Vec<String> = minions.keys().cloned().collect();
        // No grain tells how large its root disk is.
        let calls = vec![Call::new("grains.items", json!({})), Call::new("disk.usage", json!({}))];
        let said = outside.call_some(&hosts, calls, 15).await;
        match said {
            Ok(said) => {
                let (mut grains, mut disks) = (BTreeMap::new(), BTreeMap::new());
                for (host, said) in said {
                    let mut said = said.into_iter();
                    if let Some(Ok(told)) = said.next() {
                        grains.insert(host.clone(), told);
                    }
                    if let Some(Ok(usage)) = said.next() {
                        disks.extend(file_system(&usage, Path::new("/")).map(|root| (host, root.whole)));
                    }
                }
                let silent: Vec<&str> =
                    hosts.iter().filter(|host| !grains.contains_key(*host)).map(String::as_str).collect();
                if !silent.is_empty() {
                    problems.push(format!("these minions did not answer: {}", silent.join(", ")));
                }
                sources.push(("the minions", inventory::of_grains(&grains, &disks, &minions)));
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    sources.push(("the pillar", old));
    let leave: Vec<String> = pillar
        .pointer("/prepare/leave")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    let found = inventory::merged(&sources, &leave);
    for (node, known) in found.nodes.iter().filter(|(_, known)| !known.volumes.is_empty()) {
        let ids: Vec<&str> = known.volumes.iter().map(|volume| volume.id.as_str()).collect();
        problems.push(format!("{node} has volumes, and nobody copies what is on them: {}", ids.join(", ")));
    }
    let (mut subnets, mut taken) = (Vec::new(), BTreeSet::new());
    if let (Some(access), Some(network)) = (&clouds.new, pillar.pointer("/prepare/network").and_then(Value::as_str)) {
        match new_network(access, network).await {
            Ok(network) => (subnets, taken) = network,
            Err(error) => problems.push(error.to_string()),
        }
    }
    let mut proposal = inventory::proposed(&found, &nodes(pillar, "new"), &subnets, &taken);
    if let (Some(belongings), Some(prepare)) = (belongings, proposal["prepare"].as_object_mut()) {
        let (keys, untold) = belongings::proposed(&found, &belongings);
        prepare.extend(keys);
        problems.extend(untold);
    }
    Ok(json!({"nodes": found.nodes, "disagreements": found.disagreements, "left": found.left,
              "problems": problems, "pillar": proposal}))
}

async fn old_cloud(access: &Access, problems: &mut Vec<String>) -> Result<(Source, Belongings)> {
    let cloud = Cloud::new(Side::Old, access)?;
    let (servers, flavors) = (cloud.servers().await?, cloud.flavors().await?);
    let some = servers.iter().any(|server| !server.data_volumes().is_empty());
    let volumes = if some { cloud.volumes().await } else { Ok(Rc::default()) };
    // Their sizes alone are not known then, and so on.
    let volumes = or_told(volumes, problems);
    let groups = or_told(cloud.security_groups().await, problems);
    let key_pairs = or_told(cloud.key_pairs().await, problems);
    let images = or_told(cloud.images().await, problems);
    let mut named: BTreeMap<String, &str> = BTreeMap::new();
    for server in servers.iter() {
        if let Some(other) = named.insert(inventory::node_of(&server.name), &server.name) {
            problems.push(format!("{other} and {} would be one node: the last one is taken", server.name));
        }
        match &server.image {
            Some(id) if !images.iter().any(|image| image.id == *id) => {
                problems
                    .push(format!("{}: its image {id} is not shown any more, so none is proposed for it", server.name));
            }
            None => problems.push(format!("{} boots from a volume, and gets an image here", server.name)),
            Some(_) => {}
        }
    }
    let source = inventory::of_servers(&servers, &flavors, &volumes, &images);
    Ok((source, Belongings { groups: groups.to_vec(), key_pairs: key_pairs.to_vec() }))
}

/// Takes nothing for what a cloud does not tell, and says why.
fn or_told<T>(answer: Answer<Rc<Vec<T>>>, problems: &mut Vec<String>) -> Rc<Vec<T>> {
    answer.unwrap_or_else(|refusal| {
        problems.push(refusal.to_string());
        Rc::default()
    })
}

async fn new_network(access: &Access, name: &str) -> Result<(Vec<Subnet>, BTreeSet<IpAddr>)> {
    let cloud = Cloud::new(Side::New, access)?;
    let networks = cloud.networks().await?;
    let network = networks.iter().find(|network| network.name == name || network.id == name);
    let id = network.map(|network| network.id.clone());
    let id = id.ok_or_else(|| Error::remote(&cloud.name, format!("there is no network {name}")))?;
    let subnets = cloud.subnets().await?.iter().filter(|subnet| subnet.network == id).cloned().collect();
    let taken = cloud.ports().await?.iter().flat_map(|port| port.addresses.clone()).collect();
    Ok((subnets, taken))
}

/// Reads the nodes of one side as far as the pillar describes them.
fn nodes(pillar: &Value, side: &str) -> Source {
    let nodes = pillar.pointer(&format!("/nodes/{side}")).and_then(Value::as_object).cloned().unwrap_or_default();
    nodes
        .into_iter()
        .map(|(name, node)| {
            let text = |key: &str| node.get(key).and_then(Value::as_str);
            let known = Known {
                private: text("private").and_then(|address| address.parse().ok()),
                public: text("public").and_then(|address| address.parse().ok()),
                minion: text("minion").map(str::to_owned),
                ..Known::default()
            };
            (name, known)
        })
        .collect()
}

/// Tells, for the report, what each server is and how it came up.
pub fn servers(report: &Report) -> Value {
    let mut shown = Map::new();
    for (step, evidence) in &report.evidence {
        let Some(node) = step.strip_prefix("server.") else { continue };
        let Ok(up) = serde_json::from_value::<ServerUp>(evidence.clone()) else { continue };
        let machine = report
            .changes
            .iter()
            .find(|change| change.step == *step)
            .and_then(|change| serde_json::from_value::<Machine>(change.new.clone()?).ok());
        let seconds = up.asked_at.zip(up.up_at).map(|(asked, up)| up - asked);
        shown.insert(
            node.to_owned(),
            json!({"id": up.id, "address": machine.as_ref().map(|machine| machine.address),
                   "flavor": machine.as_ref().map(|machine| &machine.flavor), "why": up.flavor,
                   "seconds": seconds, "faults": up.faults}),
        );
    }
    Value::Object(shown)
}
