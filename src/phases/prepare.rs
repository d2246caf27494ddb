//! Prepare: the new side's servers, and what they need.
//!
//! In one breath: checks; security groups, then their rules; key pairs; groups of servers that are kept apart; each port,
//! so that its address is known; each server and each volume, as many at once as the cloud bears, and the volumes attached to
//! their servers; then its databases, the deployment node and
//! the site's own states, whose application then says that it keeps nothing; in the end the new master, whom all minions obey beside the old one.

use super::testing::notice_files;
use super::{carried, databases, deployment, signoff};
use crate::cloud::{Cloud, Pace};
use crate::database::Servers;
use crate::engine::{Graph, Role};
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::settings::{Settings, Side, Sides};
use crate::site::States;
use crate::steps::checks::{Check, CloudReached, FleetFits, KeysFree, NetworkReady, OldHome, Rendering, VolumesLeft};
use crate::steps::cloud::{
    KeyPairImported, PortMade, Project, RulesSet, SecurityGroupMade, ServerGroupMade, ServerMade, VolumeAttached,
    VolumeMade,
};
use crate::steps::{Applied, HostFiles, MirrorNotice, UploadsThere};
use serde_json::Value;
use std::cell::RefCell;
use std::rc::Rc;

/// Seconds within which a host carries out all its states.
const HIGHSTATE: u64 = 3_600;

fn missing(key: &str, expected: &str) -> Error {
    Error::Settings {
        path: format!("migrate:{key}"),
        found: "nothing".into(),
        expected: expected.into(),
        hint: "pillar-example/migrate.sls shows every key".into(),
    }
}

/// Builds what the steps of prepare share.
///
/// # Errors
/// [`Error::Settings`] where the pillar says nothing of the new cloud, or of what it shall have.
pub fn project(settings: &Settings, outside: &Outside) -> Result<Project> {
    let access = settings.clouds.as_ref().and_then(|clouds| clouds.new.as_ref());
    let access = access.ok_or_else(|| missing("clouds:new", "how to reach the new cloud's API"))?;
    let prepare = settings.prepare.as_ref().ok_or_else(|| missing("prepare", "what the new cloud is to have in it"))?;
    Ok(Project {
        cloud: Cloud::new(Side::New, access)?,
        pace: Pace::new(prepare.at_once),
        prepare: prepare.clone(),
        nodes: settings.nodes.new.clone(),
        outside: outside.clone(),
        unused_ports: RefCell::default(),
    })
}

/// Builds the look at what the old servers have and nobody carries; nothing where the old cloud is not described.
///
/// # Errors
/// [`Error::Settings`] where the pillar says that wrongly.
pub fn volumes(settings: &Settings) -> Result<Option<VolumesLeft>> {
    let access = settings.clouds.as_ref().and_then(|clouds| clouds.old.as_ref());
    let (Some(access), Some(prepare)) = (access, settings.prepare.as_ref()) else { return Ok(None) };
    let old = settings.nodes.old.iter().filter(|(name, _)| prepare.servers.contains_key(*name));
    let nodes = old.map(|(name, node)| {
        let addresses = std::iter::once(node.private).chain(node.public).collect();
        (name.clone(), OldHome { addresses, asked: prepare.servers[name].volumes.clone() })
    });
    Ok(Some(VolumesLeft { cloud: Rc::new(Cloud::new(Side::Old, access)?), nodes: nodes.collect() }))
}

/// Builds the graph that fills the new cloud.
///
/// # Errors
/// What [`project`] says, or a defect of the graph.
pub fn graph(phase: &str, settings: &Settings, servers: &Servers, outside: &Outside) -> Result<Graph> {
    let prepare = settings.prepare.as_ref().ok_or_else(|| missing("prepare", "what the new cloud is to have in it"))?;
    let mut graph = Graph::new(phase);
    if prepare.builds() {
        add_cloud(&mut graph, settings, outside)?;
    }
    let mut data = Vec::new();
    if let Some(seeding) = &prepare.databases {
        data = databases::add(&mut graph, settings, seeding, outside, servers)?;
    }
    let flipped = signoff::last_move(settings)?.is_some_and(|run| run.starts_with("flip"));
    if let Some(deployment) = &prepare.deployment {
        deployment::add(&mut graph, settings, deployment, outside, flipped);
    }
    let states = add_states(&mut graph, settings, outside, &prepare.highstate, &data);
    add_uploads(&mut graph, settings, outside, &prepare.highstate.new, flipped);
    add_notice(&mut graph, settings, servers, outside, &prepare.highstate.new, &states);
    if let Some(deployment) = &prepare.deployment {
        deployment::add_master(&mut graph, settings, deployment, outside);
    }
    graph.checked()
}

/// Adds that the new side has the files that people wrote, as far as they are written by now; once they write over there it
/// gets nothing from here any more, and both nodes keep what carries, for the way back.
fn add_uploads(graph: &mut Graph, settings: &Settings, outside: &Outside, states: &[String], flipped: bool) {
    for ((id, trees), uploads) in
        carried::uploads(settings, outside, Side::Old).into_iter().zip(settings.uploads.values())
    {
        let host = databases::host(graph, settings, outside, &uploads.new);
        let after = carried::add(graph, settings, outside, &uploads.carried(), &id, &host);
        if flipped {
            continue;
        }
        // The site's states mount the volume on which they belong.
        let states = states.contains(&uploads.new).then(|| format!("highstate.new-{}", uploads.new));
        graph.add(&id, Role::Fact, UploadsThere(trees)).after(&after).after(states);
    }
}

/// Adds the site's own states: tried on the old side, run on the new one once the databases have their data.
fn add_states(
    graph: &mut Graph,
    settings: &Settings,
    outside: &Outside,
    run: &Sides<Vec<String>>,
    data: &[String],
) -> Vec<String> {
    let states = |side: Side, node: &String| States {
        outside: outside.clone(),
        host: settings.node(side, node).and_then(|node| node.minion.clone()).unwrap_or_default(),
        names: Vec::new(),
        seconds: HIGHSTATE,
    };
    let mut ids = Vec::new();
    for node in &run.new {
        let host = databases::host(graph, settings, outside, node);
        let id = format!("highstate.new-{node}");
        let step = Applied { states: states(Side::New, node), pillar: Value::Null, until_clean: true };
        graph.add(&id, Role::Fact, step).after([&host]).after(data);
        ids.push(id);
    }
    if !run.old.is_empty() {
        let hosts = run.old.iter().map(|node| states(Side::Old, node)).collect();
        graph.add("check.states", Role::Check, Check(Rendering { hosts })).serves(&ids);
    }
    ids
}

/// Has the application of nodes that have their states say that it keeps nothing, as their databases would refuse it.
fn add_notice(
    graph: &mut Graph,
    settings: &Settings,
    servers: &Servers,
    outside: &Outside,
    nodes: &[String],
    states: &[String],
) {
    let minion = |node: &String| settings.node(Side::New, node).and_then(|node| node.minion.clone());
    let minions: Vec<String> = nodes.iter().filter_map(minion).collect();
    let mut files = notice_files(settings, Side::New);
    files.retain(|file| minions.contains(&file.host));
    if files.is_empty() {
        return;
    }
    let files = HostFiles {
        outside: outside.clone(),
        files,
        content: Some(settings.mirror_notice()),
        held_until: None,
        seconds: settings.notice.host_seconds,
    };
    let hosts = nodes.iter().map(|node| format!("host.new-{node}")).collect();
    let step = MirrorNotice { files, primary: servers.primary(Side::New), hosts };
    graph.add("notice.new", Role::Fact, step).after(states);
}

/// Adds what is made in the new cloud.
fn add_cloud(graph: &mut Graph, settings: &Settings, outside: &Outside) -> Result<()> {
    let project = Rc::new(project(settings, outside)?);
    let prepare = &project.prepare;
    graph.add("check.cloud", Role::Check, Check(CloudReached(project.clone())));
    graph.add("check.fleet", Role::Check, Check(FleetFits(project.clone())));
    graph.add("check.network", Role::Check, Check(NetworkReady(project.clone())));
    graph.add("check.keys", Role::Check, Check(KeysFree(project.clone())));
    if let Some(volumes) = volumes(settings)? {
        let servers = prepare.servers.keys().map(|node| format!("server.{node}"));
        graph.add("check.volumes", Role::Check, Check(volumes)).serves(servers);
    }
    let mut groups = Vec::new();
    for name in prepare.security_groups.keys() {
        let id = format!("security-group.{name}");
        graph.add(&id, Role::Fact, SecurityGroupMade { project: project.clone(), name: name.clone() });
        groups.push(id);
    }
    for name in prepare.security_groups.keys() {
        let step = RulesSet { project: project.clone(), name: name.clone() };
        graph.add(format!("security-group.{name}.rules"), Role::Fact, step).after(&groups);
    }
    for name in prepare.key_pairs.keys() {
        let step = KeyPairImported { project: project.clone(), name: name.clone() };
        graph.add(format!("key-pair.{name}"), Role::Fact, step);
    }
    for name in prepare.apart.keys() {
        let step = ServerGroupMade { project: project.clone(), name: name.clone() };
        graph.add(format!("apart.{name}"), Role::Fact, step);
    }
    for node in prepare.servers.keys() {
        let step = PortMade { project: project.clone(), node: node.clone() };
        graph.add(format!("port.{node}"), Role::Fact, step).after(&groups);
    }
    for (node, wanted) in &prepare.servers {
        let apart = prepare.apart_from(node).map(|group| format!("apart.{group}"));
        let key_pair = wanted.key_pair.as_ref().filter(|name| prepare.key_pairs.contains_key(*name));
        let mut after = vec![format!("port.{node}")];
        after.extend(apart.clone());
        after.extend(key_pair.map(|name| format!("key-pair.{name}")));
        let step = ServerMade { project: project.clone(), node: node.clone(), apart };
        graph.add(format!("server.{node}"), Role::Fact, step).after(&after);
        for name in wanted.volumes.keys() {
            let id = format!("volume.{node}.{name}");
            let (node, name) = (node.clone(), name.clone());
            let attached = VolumeAttached { project: project.clone(), node: node.clone(), name: name.clone() };
            graph.add(&id, Role::Fact, VolumeMade { project: project.clone(), node: node.clone(), name });
            let both = [id.clone(), format!("server.{node}")];
            graph.add(format!("{id}.attached"), Role::Fact, attached).after(&both);
        }
    }
    Ok(())
}
