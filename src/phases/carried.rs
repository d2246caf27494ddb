//! Files that are carried from a node of one side to a node of the other: what both need for it, and who carries.

use super::databases::{ANSWER, STATES};
use crate::engine::{Graph, Role};
use crate::outside::Outside;
use crate::settings::{Carried, Settings, Side};
use crate::site::{States, Trees, Worker};
use crate::steps::Applied;
use serde_json::json;
use std::net::IpAddr;
use std::rc::Rc;

/// Names the minion of a node that the pillar was seen to name.
pub fn minion(settings: &Settings, side: Side, node: &str) -> String {
    settings.node(side, node).and_then(|node| node.minion.clone()).unwrap_or_default()
}

/// Builds what carries trees away from a side; `job` names it on both hosts.
pub fn trees(settings: &Settings, outside: &Outside, carried: &Carried<'_>, from: Side, job: &str) -> Rc<Trees> {
    let to = from.other();
    let worker = |side: Side, role: &str| Worker {
        outside: outside.clone(),
        host: minion(settings, side, carried.node(side)),
        folder: carried.folder.to_owned(),
        job: format!("{job}-{role}"),
        seconds: ANSWER,
    };
    Rc::new(Trees {
        pushes: worker(from, "push"),
        takes: worker(to, "take"),
        theirs: carried.paths(from),
        ours: carried.paths(to),
        their_exclude: carried.excluded(from),
        our_exclude: carried.excluded(to),
        address: settings.node(to, carried.node(to)).map_or(IpAddr::from([0, 0, 0, 0]), |node| node.private),
        port: carried.port,
        limit_ms: carried.limit,
    })
}

/// Builds what carries the files that people wrote away from a side, each with the step that carries them.
pub fn uploads(settings: &Settings, outside: &Outside, from: Side) -> Vec<(String, Rc<Trees>)> {
    let built = settings.uploads.iter().map(|(name, uploads)| {
        let trees = trees(settings, outside, &uploads.carried(), from, &format!("uploads-{name}"));
        (format!("uploads.{name}"), trees)
    });
    built.collect()
}

/// Adds that both nodes have what carries, the new one once it answers; returns the steps.
pub fn add(
    graph: &mut Graph,
    settings: &Settings,
    outside: &Outside,
    carried: &Carried<'_>,
    prefix: &str,
    host: &str,
) -> Vec<String> {
    let told = json!({"packages": carried.packages, "folder": carried.folder});
    let mut ids = Vec::new();
    for side in [Side::Old, Side::New] {
        let states = States {
            outside: outside.clone(),
            host: minion(settings, side, carried.node(side)),
            names: vec!["migrate.host.carry".to_owned()],
            seconds: STATES,
        };
        let id = format!("{prefix}.{}", side.word());
        let step = Applied { states, pillar: json!({"migrate_carry": told}), until_clean: false };
        graph.add(&id, Role::Fact, step).after((side == Side::New).then_some(host));
        ids.push(id);
    }
    ids
}
