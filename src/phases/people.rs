//! What is arranged around the move for the sake of people: the test's notice, what search engines are told, what must run
//! on one side alone, and what stands still meanwhile.
//!
//! Invariant: test, flip, revert and clean-up take each of these from here, so that one takes over what another left.

use crate::outside::Outside;
use crate::settings::{Settings, Side, Singleton};
use crate::site::HostStates;
use crate::steps::HostState;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Seconds for a host to apply a file of states.
const SECONDS: u64 = 120;

/// Holds, or lets run, everything of one side that may run on one side alone; one step for each node.
pub fn singletons(settings: &Settings, outside: &Outside, side: Side, held: bool) -> Vec<(String, HostState)> {
    let mut nodes: BTreeMap<&str, BTreeMap<&String, &Singleton>> = BTreeMap::new();
    for (name, singleton) in &settings.singletons {
        nodes.entry(&singleton.node).or_default().insert(name, singleton);
    }
    nodes
        .into_iter()
        .filter_map(|(node, singletons)| {
            let host = settings.node(side, node)?.minion.clone()?;
            let applied = |held: bool| HostStates {
                hosts: vec![host.clone()],
                states: "migrate.host.singletons",
                told: json!({"singletons": singletons, "held": held}),
                seconds: SECONDS,
            };
            let id = format!("singletons.{}-{node}", side.word());
            let step =
                HostState { outside: outside.clone(), on: applied(true), off: applied(false), want: held, kept: None };
            Some((id, step))
        })
        .collect()
}

/// Keeps search engines out of the new side, or lets them in.
pub fn noindex(settings: &Settings, outside: &Outside, want: bool) -> Option<HostState> {
    let noindex = settings.test.as_ref()?.noindex.as_ref()?;
    let hosts = hosts(settings, Side::New, &settings.notice.nodes.new);
    let told =
        |on: bool| json!({"path": noindex.path, "content": noindex.content, "service": noindex.service, "on": on});
    Some(state(outside, "migrate.host.noindex", hosts, told, want))
}

/// Stops, or lets go on, what would change the databases' hosts and the site's code in the middle of a move.
pub fn freeze(settings: &Settings, outside: &Outside, want: bool) -> Vec<(String, HostState)> {
    let Some(freeze) = &settings.freeze else { return Vec::new() };
    let mut steps = Vec::new();
    if let Some(lock) = &freeze.lock {
        let mut all = hosts(settings, Side::Old, &freeze.nodes);
        all.extend(hosts(settings, Side::New, &freeze.nodes));
        all.sort();
        all.dedup();
        let told = |on: bool| json!({"lock": lock, "on": on});
        steps.push(("freeze.deploy".to_owned(), state(outside, "migrate.host.frozen", all, told, want)));
    }
    if freeze.highstate || !freeze.crons.is_empty() {
        let databases = &settings.databases;
        let mut all = hosts(settings, Side::Old, &databases.old.replicas);
        all.extend(hosts(settings, Side::Old, std::slice::from_ref(&databases.old.primary)));
        all.extend(hosts(settings, Side::New, &databases.new.replicas));
        all.extend(hosts(settings, Side::New, std::slice::from_ref(&databases.new.primary)));
        all.extend(hosts(settings, Side::New, databases.new.relay.as_slice()));
        all.sort();
        all.dedup();
        let told = |on: bool| json!({"highstate": freeze.highstate, "crons": freeze.crons, "on": on});
        steps.push(("freeze.databases".to_owned(), state(outside, "migrate.host.frozen", all, told, want)));
    }
    steps
}

fn hosts(settings: &Settings, side: Side, nodes: &[String]) -> Vec<String> {
    nodes.iter().filter_map(|name| settings.node(side, name)?.minion.clone()).collect()
}

fn state(
    outside: &Outside,
    states: &'static str,
    hosts: Vec<String>,
    told: impl Fn(bool) -> Value,
    want: bool,
) -> HostState {
    let applied = |on: bool| HostStates { hosts: hosts.clone(), states, told: told(on), seconds: SECONDS };
    HostState { outside: outside.clone(), on: applied(true), off: applied(false), want, kept: None }
}
