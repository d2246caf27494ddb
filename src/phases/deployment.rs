//! The new deployment node, from which the site is configured: the files of the old one, its keys among them; and minions
//! that obey both.

use super::carried;
use super::databases::{self, ANSWER};
use crate::engine::{Graph, Role};
use crate::outside::Outside;
use crate::settings::{Deployment, NewMaster, Settings, Side};
use crate::site::{States, Worker};
use crate::steps::checks::{Check, FilesDiffer, Uncommitted};
use crate::steps::{Applied, Obeyed, Obeys, TreesMoved};
use serde_json::json;
use std::collections::BTreeMap;

/// The step that moves the files.
const MOVED: &str = "deployment.files";
/// The step that starts the new master.
const MASTER: &str = "deployment.master";

/// Adds what the new deployment node needs.
pub fn add(graph: &mut Graph, settings: &Settings, deployment: &Deployment, outside: &Outside, flipped: bool) {
    let files = deployment.carried();
    let host = databases::host(graph, settings, outside, &deployment.new);
    // Keys of minions that are accepted on the way move too.
    let made = graph.nodes().iter().map(|node| node.id.clone()).filter(|id| id.starts_with("server."));
    let mut after: Vec<String> = made.collect();
    after.extend(carried::add(graph, settings, outside, &files, "deployment", &host));
    let node = Worker {
        outside: outside.clone(),
        host: carried::minion(settings, Side::Old, &deployment.old),
        folder: deployment.folder.clone(),
        job: "deployment".to_owned(),
        seconds: ANSWER,
    };
    let uncommitted = Uncommitted { node, paths: files.paths(Side::Old) };
    let trees = carried::trees(settings, outside, &files, Side::Old, "deployment");
    graph.add("check.files", Role::Check, Check(FilesDiffer { trees: trees.clone(), flipped })).serves([MOVED]);
    graph.add("check.uncommitted", Role::Check, Check(uncommitted)).serves([MOVED]);
    graph.add(MOVED, Role::Fact, TreesMoved(trees)).after(&after);
}

/// Adds that the new master runs, and that minions of both sides obey it beside the old one. Each minion restarts for that,
/// so it comes after everything that is asked of them.
pub fn add_master(graph: &mut Graph, settings: &Settings, deployment: &Deployment, outside: &Outside) {
    let Some(master) = &deployment.master else { return };
    let host = carried::minion(settings, Side::New, &deployment.new);
    let facts = graph.nodes().iter().filter(|node| node.role != Role::Check);
    let before: Vec<String> = facts.map(|node| node.id.clone()).collect();
    let told: BTreeMap<&str, &String> = [("start", &master.start), ("stands", &master.stands)]
        .into_iter()
        .filter_map(|(key, command)| Some((key, command.as_ref()?)))
        .collect();
    let states = states(outside, &host, "migrate.host.master");
    let step = Applied { states, pillar: json!({"saltext_migrate": told}), until_clean: false };
    graph.add(MASTER, Role::Fact, step).after([MOVED]);
    let told = settings.prepare.as_ref().map(|prepare| (prepare.masters.clone(), prepare.leave.clone()));
    let (masters, stay) = told.unwrap_or_default();
    let mut after = vec![MASTER.to_owned()];
    let mut minions: Vec<String> = Vec::new();
    for side in [Side::Old, Side::New] {
        for (name, node) in settings.nodes.of(side) {
            // Who stays where they are keep the master that they have.
            if side == Side::Old && stay.contains(name) {
                continue;
            }
            let Some(minion) = node.minion.clone().filter(|minion| !minions.contains(minion)) else { continue };
            let id = format!("obeys.{}-{name}", side.word());
            graph.add(&id, Role::Fact, obeys(outside, master, &minion, &masters)).after([MASTER]).after(&before);
            minions.push(minion);
            after.push(id);
        }
    }
    let step = Obeyed { outside: outside.clone(), host, minions, ask: master.ask.clone(), limit_ms: master.limit };
    graph.add("deployment.obeyed", Role::Fact, step).after(&after);
}

/// Says whom one minion obeys.
pub fn obeys(outside: &Outside, master: &NewMaster, minion: &str, masters: &[String]) -> Obeys {
    Obeys {
        states: states(outside, minion, "migrate.host.masters"),
        masters: masters.to_vec(),
        restart: master.restart.clone(),
        limit_ms: master.limit,
    }
}

fn states(outside: &Outside, host: &str, name: &str) -> States {
    States { outside: outside.clone(), host: host.to_owned(), names: vec![name.to_owned()], seconds: ANSWER }
}
