//! The flip and the revert: one graph, with the sides swapped.
//!
//! In one breath: checks; the target's replicas under the target; the way back tried; the source will boot read-only;
//! the notice on the target's nodes; every CDN service switched, beside it the notice on the source's nodes and the
//! drain; then the fence, and the promotion in one packet; the notice off; the roles at boot; the old channel ended,
//! then the source, and everybody else, under whom they belong; a marker seen everywhere.

mod checks;

use super::break_glass::page;
use super::carried;
use super::edge::{self, patient};
use super::people;
use super::role;
use super::testing::notice_files;
use crate::database::{Server, Servers};
use crate::edge::Fastly;
use crate::engine::{Graph, Role};
use crate::error::Result;
use crate::outside::Outside;
use crate::settings::{Purge, Settings, Side};
use crate::site::{HostFile, Trees};
use crate::steps::{
    Activated, Announced, Arrival, BreakGlass, Budgeted, CaughtUp, Decision, DefinitionsNoted, Drain, Everywhere,
    Fence, Follow, GuardReady, HostFiles, MarkerTrial, Once, Patient, Promotion, Purged, QuarantineDomain,
    ReverseTrial, RoleAtBoot, Scheduler, SiteDomain, Staged, Switch, Tables, Unmoved, UploadsAhead, UploadsEnded,
    Warmed,
};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The ids by which reports find the steps of the window.
pub mod ids {
    pub const EDGE_BUDGET: &str = "edge.budget";
    pub const ANNOUNCED: &str = "fence.announced";
    pub const LIFTABLE: &str = "fence.liftable";
    pub const FENCE: &str = "fence";
    pub const PROMOTION: &str = "promotion";
    pub const CHAIN_TIMED: &str = "chain-timed";
}

struct Transfer<'a> {
    settings: &'a Settings,
    servers: &'a Servers,
    outside: &'a Outside,
    from_side: Side,
    from: Rc<Server>,
    to: Rc<Server>,
    graph: Graph,
    /// What must be done before anybody sees anything.
    gate: Vec<String>,
    fastly: Option<Fastly>,
    switches: Vec<Rc<Switch>>,
    /// Files that people write, by the step that carries the last of them.
    uploads: Vec<(String, Rc<Trees>)>,
}

/// Pairs each node's addresses with those of the node of the same name on the other side.
pub(super) fn addresses(settings: &Settings, from: Side) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for (name, node) in settings.nodes.of(from) {
        let Some(other) = settings.node(from.other(), name) else { continue };
        pairs.insert(node.private.to_string(), other.private.to_string());
        if let (Some(old), Some(new)) = (node.public, other.public) {
            pairs.insert(old.to_string(), new.to_string());
        }
    }
    pairs
}

/// Builds the graph that moves the primary from one side to the other.
///
/// # Errors
/// A defect of the graph.
pub fn graph(
    phase: &str,
    settings: &Settings,
    servers: &Servers,
    outside: &Outside,
    from: Side,
    guarded: bool,
) -> Result<Graph> {
    let mut transfer = Transfer {
        settings,
        servers,
        outside,
        from_side: from,
        from: servers.primary(from),
        to: servers.primary(from.other()),
        graph: Graph::new(phase),
        gate: Vec::new(),
        switches: Vec::new(),
        uploads: carried::uploads(settings, outside, from),
        fastly: settings.edge.as_ref().map(Fastly::new).transpose()?,
    };
    if let Some(fastly) = &transfer.fastly {
        transfer.switches = edge::switches(settings, fastly, from, None)?;
    }
    transfer.checks()?;
    transfer.before_the_window()?;
    transfer.break_glass();
    transfer.guard(guarded);
    transfer.window();
    transfer.after_the_window();
    transfer.graph.checked()
}

impl Transfer<'_> {
    /// Stages every service: a copy of its active version that points to the other side.
    fn stage(&mut self) -> Result<()> {
        let (Some(edge), Some(fastly)) = (&self.settings.edge, &self.fastly) else { return Ok(()) };
        let staging = patient(fastly, edge, self.outside);
        // Only here may anybody wait for the next hour's writes: nobody is bothered yet.
        let ahead = edge::switches(self.settings, &staging, self.from_side, None)?;
        let mut staged = Vec::new();
        for switch in &ahead {
            let id = format!("edge.{}.staged", switch.name);
            self.graph.add(&id, Role::Guard, Staged(switch.clone()));
            staged.push(id);
        }
        let per_service = |switch: &Rc<Switch>| 1 + u64::from(switch.purge == Purge::All);
        let all: u64 = ahead.iter().map(per_service).sum();
        let budget = Once(Budgeted { fastly: staging, switches: ahead, need: all, keep: all });
        self.graph.add(ids::EDGE_BUDGET, Role::Guard, budget).after(&staged);
        self.gate.extend(staged);
        self.gate.push(ids::EDGE_BUDGET.into());
        Ok(())
    }

    /// Switches every service, all together; each is proved at the edge before anything is fenced.
    fn switch(&mut self, after: &[String]) -> Vec<String> {
        let mut activated = Vec::new();
        for switch in &self.switches {
            let name = &switch.name;
            let (id, staged) = (format!("edge.{name}"), format!("edge.{name}.staged"));
            let unmoved = format!("{id}.unmoved");
            let look = Once(Unmoved { switch: switch.clone(), staged: staged.clone() });
            // Beside the notice, so that nobody waits for it.
            self.graph.add(&unmoved, Role::Guard, look).after(&self.gate);
            let activated_step = Activated { switch: switch.clone(), staged: staged.clone() };
            self.graph.add(&id, Role::Fact, activated_step).after(after).after([&unmoved]);
            self.graph.serve(&staged, &[&id]);
            self.graph.serve(&unmoved, &[&id]);
            self.graph.serve(ids::EDGE_BUDGET, &[&id]);
            activated.push(id);
        }
        activated
    }

    /// Proves every service at every point of presence, and drops from its cache what must not live on.
    fn settle_edge(&mut self) {
        for switch in &self.switches {
            let activated = format!("edge.{}", switch.name);
            let everywhere = format!("{activated}.everywhere");
            let step = Once(Everywhere { switch: switch.clone(), activated: activated.clone() });
            self.graph
                .add(&everywhere, Role::Guard, step)
                .after([activated.as_str(), ids::PROMOTION])
                .serves([&activated]);
            self.graph
                .add(format!("{activated}.purged"), Role::Guard, Once(Purged(switch.clone())))
                .after([&everywhere])
                .serves([&activated]);
        }
    }

    fn before_the_window(&mut self) -> Result<()> {
        let (from, to) = (self.from.clone(), self.to.clone());
        self.stage()?;
        let staged = self.gate.clone();
        if let Some(warmed) = self.warmed() {
            // It may take long, and nobody does without anything yet.
            self.graph.add("warmed", Role::Guard, Once(warmed)).after(&staged);
            self.gate.push("warmed".into());
        }
        for server in [&from, &to] {
            let id = format!("tables.{}", server.name);
            self.graph.add(&id, Role::Guard, Tables { server: server.clone() });
            self.gate.push(id);
        }
        for replica in self.servers.replicas(self.settings, self.from_side.other()) {
            let id = self.follow(&replica, Some(to.clone()), &[]);
            self.gate.push(id);
        }
        let id = format!("domain.{}", to.name);
        let quarantine = self.settings.databases.quarantine_domain;
        self.graph.add(&id, Role::Fact, SiteDomain { server: to.clone(), primary: from.clone(), quarantine });
        self.gate.push(id);
        self.graph.add("way-back-tried", Role::Guard, ReverseTrial { source: from.clone(), target: to.clone() });
        self.gate.push("way-back-tried".into());
        self.graph
            .add("decision", Role::Guard, Once(Decision { target: to.clone() }))
            // From then on another machine is told of the run: not while a CDN that counts writes is waited for.
            .after([format!("tables.{}", to.name)])
            .after(&staged);
        self.gate.push("decision".into());
        // Not while a CDN that counts writes is waited for: people do without all of this from here on.
        // What stands still does so from here to clean-up, or until the way back is over.
        if self.from_side == Side::Old {
            for (id, step) in people::freeze(self.settings, self.outside, true) {
                self.graph.add(&id, Role::Fact, step).after(&staged);
                self.gate.push(id);
            }
            if self.settings.freeze.is_some() {
                let noted = DefinitionsNoted { server: from.clone(), state_dir: self.settings.state_dir.clone() };
                self.graph.add("definitions-noted", Role::Guard, Once(noted));
                self.gate.push("definitions-noted".into());
            }
        }
        for (id, step) in people::singletons(self.settings, self.outside, self.from_side, true) {
            self.graph.add(&id, Role::Fact, step).after(&staged);
            self.gate.push(id);
        }
        let gate = self.gate.clone();
        for (id, trees) in &self.uploads {
            let ahead = format!("{id}.ahead");
            self.graph.add(&ahead, Role::Guard, Once(UploadsAhead(trees.clone()))).after(&gate);
            self.gate.push(ahead);
        }
        let limit_ms = self.settings.databases.max_lag;
        let gate = self.gate.clone();
        self.graph
            .add(ids::CHAIN_TIMED, Role::Guard, Once(MarkerTrial { source: from, target: to, limit_ms }))
            .after(&gate);
        self.gate.push(ids::CHAIN_TIMED.into());
        Ok(())
    }

    /// Reads at the nodes that people are about to be sent to; nothing where the pillar names no service there.
    fn warmed(&self) -> Option<Patient<Warmed>> {
        let side = self.from_side.other();
        let served = self.settings.vhosts.values().any(|vhost| self.settings.node(side, &vhost.node).is_some());
        let deed = Warmed {
            settings: self.settings.clone(),
            side,
            phase: self.graph.phase.clone(),
            outside: self.outside.clone(),
            // Who goes back is in a hurry, and goes to what served before.
            limit: Duration::from_secs(if side == Side::New { 60 } else { 15 }),
        };
        served.then(|| Patient { deed, outside: self.outside.clone() })
    }

    /// Keeps the page for the worst night on both primaries' hosts.
    fn break_glass(&mut self) {
        let path = self.settings.databases.break_glass_file.clone();
        let mut hosts: Vec<String> =
            [&self.from, &self.to].into_iter().filter_map(|server| self.minion(server)).collect();
        hosts.dedup();
        let files = HostFiles {
            outside: self.outside.clone(),
            files: hosts.into_iter().map(|host| HostFile { host, path: path.clone() }).collect(),
            content: None,
            held_until: None,
            seconds: self.settings.notice.host_seconds,
        };
        let (settings, from, to) = (self.settings.clone(), self.from.clone(), self.to.clone());
        let step = BreakGlass {
            server: self.from.clone(),
            quarantine: self.settings.databases.quarantine_domain,
            page: Box::new(move |dialect, opening| page(&settings, &from, &to, dialect, opening)),
            files,
        };
        self.graph.add("break-glass", Role::Guard, step);
        self.gate.push("break-glass".into());
    }

    /// Nobody sees anything before a second process can take it back.
    fn guard(&mut self, guarded: bool) {
        let step = Once(GuardReady { outside: self.outside.clone(), expected: guarded });
        self.graph.add("guard-ready", Role::Guard, step).after(&self.gate);
        self.gate.push("guard-ready".into());
        let announced = Announced { fence: self.fence(), id: ids::ANNOUNCED.into() };
        self.graph.add(ids::ANNOUNCED, Role::Guard, announced).after(["guard-ready"]);
        self.gate.push(ids::ANNOUNCED.into());
        // Undone ahead of all but the fence: whoever waits for a source that a restart closed does not wait for hosts and the CDN.
        let liftable = Announced { fence: self.fence(), id: ids::ANNOUNCED.into() };
        self.graph.add(ids::LIFTABLE, Role::Guard, liftable).after([ids::ANNOUNCED]);
        // A restart from here to the fence closes the source: as late as can be without anybody waiting for it.
        let from = self.from.clone();
        let id = self.role_at_boot(&from, true, &[ids::ANNOUNCED]);
        self.gate.push(id);
    }

    fn fence(&self) -> Fence {
        let limit_ms = self.settings.databases.max_lag;
        Fence {
            source: self.from.clone(),
            target: self.to.clone(),
            promotion: ids::PROMOTION.into(),
            announced: ids::ANNOUNCED.into(),
            limit_ms,
        }
    }

    fn window(&mut self) {
        let (from, to) = (self.from.clone(), self.to.clone());
        let gate = self.gate.clone();
        let (new_notice, old_notice) =
            (format!("notice.{}", self.from_side.other().word()), format!("notice.{}", self.from_side.word()));
        let held = self.notice(self.from_side.other(), Some(vec![ids::PROMOTION.to_owned()]));
        self.graph.add(&new_notice, Role::Guard, held).after(&gate);
        let open_to_all: Vec<String> = gate.iter().chain([&new_notice]).cloned().collect();
        let activated = self.switch(&open_to_all);
        self.graph.serve(&new_notice, &activated.iter().map(String::as_str).collect::<Vec<_>>());
        let lasting = self.notice(self.from_side, None);
        self.graph.add(&old_notice, Role::Fact, lasting).after(&open_to_all);
        let scheduler = format!("scheduler.{}", from.name);
        let stopped = Scheduler { server: from.clone(), announced: ids::ANNOUNCED.into(), takes_over_from: None };
        self.graph.add(&scheduler, Role::Fact, stopped).after(&gate);
        let notice = &self.settings.notice;
        let drain = Once(Drain {
            source: from.clone(),
            nodes: notice
                .nodes
                .of(self.from_side)
                .iter()
                .filter_map(|name| self.settings.node(self.from_side, name))
                .map(|node| node.private)
                .collect(),
            time: Duration::from_millis(notice.drain),
            limit: Duration::from_millis(notice.drain_limit),
        });
        self.graph.add("drained", Role::Guard, drain).after([&old_notice, &scheduler]);

        let caught_up =
            Once(CaughtUp { source: from.clone(), target: to.clone(), limit_ms: self.settings.databases.max_lag });
        self.graph
            .add("caught-up", Role::Guard, caught_up)
            .after(activated.iter().map(String::as_str).chain(["drained"]))
            .quiet();
        let fence = self.fence();
        self.graph.add(ids::FENCE, Role::Fact, fence).after(
            open_to_all.iter().chain(&activated).map(String::as_str).chain(["drained", "caught-up", ids::LIFTABLE]),
        );
        // Opened once more it would write into another domain, or beside a source that somebody opened.
        let again_after = [format!("domain.{}", to.name), ids::FENCE.to_owned()];
        let promotion = Promotion { target: to, fence: ids::FENCE.into() };
        self.graph.add(ids::PROMOTION, Role::Commit, promotion).after([ids::FENCE]).again_after(&again_after);
        for node in [
            "drained",
            "caught-up",
            new_notice.as_str(),
            "way-back-tried",
            "definitions-noted",
            "decision",
            "break-glass",
            "guard-ready",
            ids::ANNOUNCED,
            ids::LIFTABLE,
            ids::CHAIN_TIMED,
            "warmed",
        ]
        .iter()
        .map(|id| (*id).to_owned())
        .chain([&self.from, &self.to].iter().map(|server| format!("tables.{}", server.name)))
        .chain(self.uploads.iter().flat_map(|(id, _)| [format!("{id}.ahead"), format!("check.{id}")]))
        {
            self.graph.serve(&node, &[ids::FENCE, ids::PROMOTION]);
        }
        // They look for a chain that is ready to be moved; what was changed after a move is mended without it.
        for check in [
            "check.topology",
            "check.configuration",
            "check.privileges",
            "check.workload",
            "check.versions",
            "check.likeness",
            "check.transactions",
            "check.room",
            "check.tripwire",
            "check.comparison",
            "check.data",
            "check.backup",
            "check.others",
        ] {
            self.graph.serve(check, &[ids::FENCE, ids::PROMOTION]);
        }
    }

    fn after_the_window(&mut self) {
        let (from, to) = (self.from.clone(), self.to.clone());
        self.settle_edge();
        let open = [ids::PROMOTION];
        let stays = self.role_at_boot(&to, false, &open);
        // Hosts are asked one thing at a time, and where it shall come up open comes first.
        for (id, trees) in &self.uploads {
            self.graph.add(id, Role::Guard, Once(UploadsEnded(trees.clone()))).after([&stays]).serves(open);
        }
        let before = format!("scheduler.{}", from.name);
        let announced = ids::ANNOUNCED.into();
        let scheduler = Scheduler { server: to.clone(), announced, takes_over_from: Some(before.clone()) };
        self.graph.add(format!("scheduler.{}", to.name), Role::Fact, scheduler).after([ids::PROMOTION, &before]);
        let quarantine = format!("domain.{}", from.name);
        let domain = self.settings.databases.quarantine_domain;
        self.graph.add(&quarantine, Role::Fact, QuarantineDomain { server: from.clone(), domain }).after(open);
        // First the old channel, then the reverse one: a ring would carry a stray write on the source to the live target.
        let ended = self.follow(&to, None, &open);
        let source = self.servers.declared_source(&from).unwrap_or_else(|| to.clone());
        let mut follows = vec![ended.clone(), self.follow(&from, Some(source), &[&ended, &quarantine])];
        for replica in self.servers.replicas(self.settings, self.from_side) {
            let source = self.servers.declared_source(&replica);
            follows.push(self.follow(&replica, source, &open));
        }
        let others = self.servers.all().iter().filter(|server| server.name != to.name).cloned().collect();
        let limit_ms = self.settings.databases.deadlines.replication;
        self.graph
            .add("arrived-everywhere", Role::Guard, Once(Arrival { primary: to, others, limit_ms }))
            .after(&follows)
            .serves(follows.iter().map(String::as_str).chain(open));
        self.for_people(&[ids::PROMOTION, &stays]);
    }

    /// Hands over what runs on one side alone, once what people wait for is done; a server of the other side that does not
    /// come back holds none of it up.
    fn for_people(&mut self, last: &[&str]) {
        for (id, step) in people::singletons(self.settings, self.outside, self.from_side.other(), false) {
            self.graph.add(&id, Role::Fact, step).after(last);
        }
        if self.from_side == Side::Old {
            if let Some(step) = people::noindex(self.settings, self.outside, false) {
                self.graph.add("noindex", Role::Fact, step).after(last);
            }
            return;
        }
        for (id, step) in people::freeze(self.settings, self.outside, false) {
            self.graph.add(&id, Role::Fact, step).after(last);
        }
    }

    fn follow(&mut self, server: &Rc<Server>, source: Option<Rc<Server>>, after: &[&str]) -> String {
        let id = format!("source.{}", server.name);
        let known = self.servers.all().to_vec();
        let successor = (server.name == self.from.name).then(|| self.to.clone());
        self.graph
            .add(&id, Role::Fact, Follow { server: server.clone(), source, known, successor, left: None })
            .after(after);
        id
    }

    fn role_at_boot(&mut self, server: &Rc<Server>, read_only: bool, after: &[&str]) -> String {
        let file = self.minion(server).map(|host| HostFiles {
            outside: self.outside.clone(),
            files: vec![HostFile { host, path: role::file(self.settings, server) }],
            content: Some(role::content(self.settings, read_only)),
            held_until: None,
            seconds: self.settings.notice.host_seconds,
        });
        let id = format!("role-at-boot.{}", server.name);
        self.graph.add(&id, Role::Fact, RoleAtBoot { server: server.clone(), read_only, file }).after(after);
        id
    }

    fn notice(&self, side: Side, held_until: Option<Vec<String>>) -> HostFiles {
        let notice = &self.settings.notice;
        HostFiles {
            outside: self.outside.clone(),
            files: notice_files(self.settings, side),
            content: Some(notice.content()),
            held_until,
            seconds: notice.host_seconds,
        }
    }

    fn minion(&self, server: &Server) -> Option<String> {
        self.settings.node(server.side, &server.node).and_then(|node| node.minion.clone())
    }
}
