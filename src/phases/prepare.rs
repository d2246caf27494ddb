//! Prepare: the new side's servers, and what they need.
//!
//! In one breath: checks; security groups, then their rules; key pairs; groups of servers that are kept apart; each port,
//! so that its address is known; each server, as many at once as the cloud bears.

use crate::cloud::{Cloud, Pace};
use crate::engine::{Graph, Role};
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::settings::{Settings, Side};
use crate::steps::checks::{Check, CloudReached, FleetFits, KeysFree, NetworkReady};
use crate::steps::cloud::{
    KeyPairImported, PortMade, Project, RulesSet, SecurityGroupMade, ServerGroupMade, ServerMade,
};
use std::cell::RefCell;
use std::rc::Rc;

/// Builds what the steps of prepare share.
///
/// # Errors
/// [`Error::Settings`] where the pillar says nothing of the new cloud, or of what it shall have.
pub fn project(settings: &Settings, outside: &Outside) -> Result<Project> {
    let missing = |key: &str, expected: &str| Error::Settings {
        path: format!("migrate:{key}"),
        found: "nothing".into(),
        expected: expected.into(),
        hint: "docs/prepare.md shows every key".into(),
    };
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

/// Builds the graph that fills the new cloud.
///
/// # Errors
/// What [`project`] says, or a defect of the graph.
pub fn graph(phase: &str, settings: &Settings, outside: &Outside) -> Result<Graph> {
    let project = Rc::new(project(settings, outside)?);
    let prepare = &project.prepare;
    let mut graph = Graph::new(phase);
    graph.add("check.cloud", Role::Check, Check(CloudReached(project.clone())));
    graph.add("check.fleet", Role::Check, Check(FleetFits(project.clone())));
    graph.add("check.network", Role::Check, Check(NetworkReady(project.clone())));
    graph.add("check.keys", Role::Check, Check(KeysFree(project.clone())));
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
    }
    graph.checked()
}
