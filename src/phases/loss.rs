//! Back to the old side without the new primary: it took writes, died, and nobody brings it back.
//!
//! In one breath: what would be lost is said, and somebody takes it on; the old primary applies whatever it received,
//! follows nobody, and opens; its role at boot, its replicas, the notice, and every CDN service; what people are given
//! back, on hosts that answer.

use super::people;
use super::role;
use super::{abort_within, edge};
use crate::database::Servers;
use crate::edge::Fastly;
use crate::engine::{self, Force, Graph, Report, Role};
use crate::error::{Error, Result};
use crate::journal::{Journal, Outcome, Record, RunState, StepState};
use crate::outside::Outside;
use crate::settings::{Settings, Side};
use crate::site::HostFile;
use crate::steps::checks::{Check, Hosts, HostsSpared, LOSS, LossAccepted};
use crate::steps::{
    Activated, AsFarAsReached, Everywhere, Follow, FormerDomain, HostFiles, Once, OpenedAlone, Purged, ReceivedApplied,
    Staged,
};
use std::rc::Rc;

/// The phase's name in journals.
pub const NAME: &str = "revert-with-loss";
/// The step that knows what the old side had.
pub const RECEIVED: &str = "received-applied";
const OPENED: &str = "opened";

/// What somebody takes on, in their own words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loss {
    /// The last transaction that the old side received: whatever came after is lost.
    pub accepted: String,
    /// The server that is made sure to be off.
    pub off: String,
    pub reason: String,
}

/// Builds the graph.
///
/// # Errors
/// A defect of the graph.
pub fn graph(settings: &Settings, servers: &Servers, outside: &Outside, loss: &Loss) -> Result<Graph> {
    let (old, new) = (servers.primary(Side::Old), servers.primary(Side::New));
    let databases = &settings.databases;
    let mut graph = Graph::new(NAME);
    let accepted = LossAccepted {
        given_up: new.clone(),
        server: old.clone(),
        accepted: loss.accepted.clone(),
        off: loss.off.clone(),
    };
    graph.add("check.loss", Role::Check, Check(accepted));
    let minion = |node: &str| settings.node(Side::Old, node).and_then(|node| node.minion.clone());
    let names = settings.notice.nodes.of(Side::Old);
    let mut minions: Vec<String> = names.iter().chain([&old.node]).filter_map(|name| minion(name)).collect();
    minions.sort();
    minions.dedup();
    let (outside, seconds) = (outside.clone(), settings.notice.host_seconds);
    let hosts = Hosts { outside: outside.clone(), minions, seconds, without_minion: Vec::new() };
    graph.add("check.hosts", Role::Check, Check(hosts));

    let applied = ReceivedApplied { server: old.clone(), limit_ms: databases.deadlines.replication };
    graph.add(RECEIVED, Role::Guard, Once(applied)).serves([OPENED]);
    let alone = format!("source.{}", old.name);
    let follow = |server: &Rc<_>, source| Follow {
        server: Rc::clone(server),
        source,
        known: servers.all().to_vec(),
        successor: None,
        left: Some("whom it followed is given up, and may not answer"),
    };
    graph.add(&alone, Role::Fact, follow(&old, None)).after([RECEIVED]);
    let domain = format!("domain.{}", old.name);
    let former = FormerDomain { server: old.clone(), quarantine: databases.quarantine_domain };
    graph.add(&domain, Role::Fact, former).after([RECEIVED]);
    let opened = OpenedAlone { server: old.clone(), given_up: new };
    graph.add(OPENED, Role::Commit, opened).after([RECEIVED, alone.as_str(), domain.as_str()]);

    let mut files = |id: String, files: Vec<HostFile>, content| {
        let step = HostFiles { outside: outside.clone(), files, content, held_until: None, seconds };
        graph.add(id, Role::Fact, step).after([OPENED]);
    };
    if let Some(host) = minion(&old.node) {
        let file = HostFile { host, path: role::file(settings, &old) };
        files(format!("role-at-boot.{}", old.name), vec![file], Some(role::content(settings, false)));
    }
    let notice = |name: &String| {
        let node = settings.node(Side::Old, name)?;
        let path = node.notice_path.clone().unwrap_or_else(|| settings.notice.path.clone());
        Some(HostFile { host: node.minion.clone()?, path })
    };
    files("notice.old".into(), names.iter().filter_map(notice).collect(), None);
    for replica in servers.replicas(settings, Side::Old) {
        let source = servers.declared_source(&replica);
        graph.add(format!("source.{}", replica.name), Role::Fact, follow(&replica, source)).after([OPENED]);
    }
    if let Some(told) = &settings.edge {
        let fastly = Fastly::new(told)?;
        let switches = edge::switches(settings, &fastly, Side::New, None)?;
        graph.add("check.edge", Role::Check, Check(edge::ready(settings, &fastly, Side::New, &switches, false)?));
        for switch in switches {
            let id = format!("edge.{}", switch.name);
            let [staged, everywhere, purged] = ["staged", "everywhere", "purged"].map(|what| format!("{id}.{what}"));
            graph.add(&staged, Role::Guard, Staged(switch.clone())).serves([&id]);
            let activated = Activated { switch: switch.clone(), staged: staged.clone() };
            graph.add(&id, Role::Fact, activated).after([staged.as_str(), OPENED]);
            let proof = Once(Everywhere { switch: switch.clone(), activated: id.clone() });
            graph.add(&everywhere, Role::Guard, proof).after([&id]).serves([&id]);
            graph.add(&purged, Role::Guard, Once(Purged(switch))).after([&everywhere]).serves([&id]);
        }
    }
    for_people(&mut graph, settings, &outside);
    graph.checked()
}

/// Hands over what runs on one side alone, and ends the freeze: as the end of a revert, but for hosts that are gone with
/// the new side. The site is down: nobody waits for a look at these hosts.
fn for_people(graph: &mut Graph, settings: &Settings, outside: &Outside) {
    let seconds = settings.notice.host_seconds;
    let held = people::singletons(settings, outside, Side::New, true);
    let mut freed = people::singletons(settings, outside, Side::Old, false);
    freed.extend(people::freeze(settings, outside, false));
    let mut minions: Vec<String> = held.iter().chain(&freed).flat_map(|(_, step)| step.on.hosts.clone()).collect();
    minions.sort();
    minions.dedup();
    if minions.is_empty() {
        return;
    }
    let spared = HostsSpared {
        outside: outside.clone(),
        minions,
        seconds,
        undone: "what must run on one side alone, and the freeze, stay there as they are",
        mend: "before it may serve again: hold there by hand (new side) or let run (old side) what migrate:singletons \
               names, and end the freeze",
    };
    graph.add("check.hosts-spared", Role::Check, Check(spared));
    let mut before = vec![OPENED.to_owned()];
    for (id, step) in held {
        let step = Once(AsFarAsReached { step, seconds });
        graph.add(&id, Role::Guard, step).after([OPENED]).serves([OPENED]);
        before.push(id);
    }
    for (id, step) in freed {
        let step = Once(AsFarAsReached { step, seconds });
        graph.add(&id, Role::Guard, step).after(&before).serves([OPENED]);
    }
}

/// Carries it out; an unfinished flip whose target is gone is given up with it. The caller holds the lock.
///
/// # Errors
/// Whatever stood in the way before the first step.
pub async fn apply(settings: &Settings, outside: &Outside, loss: &Loss, unfinished: Option<Journal>) -> Result<Report> {
    let graph = graph(settings, &Servers::new(settings), outside, loss)?;
    let plan = engine::plan(&graph).await?;
    let taken_on = plan.findings.iter().filter(|finding| finding.topic == LOSS && finding.forceable);
    let mut force =
        Force { findings: taken_on.map(|finding| finding.id.clone()).collect(), reason: loss.reason.clone() };
    if plan.findings.iter().any(|finding| finding.blocking && !force.findings.contains(&finding.id)) {
        return Err(Error::Refused(plan.findings));
    }
    if force.findings.is_empty() {
        force = Force::default();
    } else if loss.reason.trim().is_empty() {
        return Err(Error::Settings {
            path: "reason".into(),
            found: "nothing".into(),
            expected: "why what is lost may be lost, for the journal and the report".into(),
            hint: "reason='the machine burnt, and its disk with it'".into(),
        });
    }
    if let Some(mut journal) = unfinished {
        journal.keep(Record::Finished { outcome: Outcome::GivenUp })?;
    }
    engine::apply(&graph, &settings.state_dir, &settings.hash, abort_within(settings), &force, outside).await
}

/// Tells what a run of this kind gave up: the position behind which everything is lost, and why that was taken on.
pub fn given_up(run: &RunState) -> Option<(String, String)> {
    let Some(StepState::Done { evidence, .. }) = run.steps.get(RECEIVED) else { return None };
    let position = evidence.get("position")?.as_str()?.to_owned();
    (run.phase == NAME && run.committed).then(|| (position, run.forced.values().next().cloned().unwrap_or_default()))
}
