//! Clean-up: what was made for the move goes, and the old side after it.
//!
//! In one breath: checks; the last backup; what stood still may go on; the reverse replication ends; the copied services, the
//! relay and the rest that prepare made for the time of the move go; accounts and keys go; the old nodes are stopped, their
//! minions' keys, and the relay's, revoked; after a second period they are deleted, by the same command; what was kept is listed.

use super::{carried, edge, people, prepare, signoff};
use crate::cloud::Cloud;
use crate::database::{Server, Servers};
use crate::edge::Fastly;
use crate::engine::{Graph, Role};
use crate::error::{Error, Result};
use crate::event;
use crate::journal::{Outcome, RunState, runs};
use crate::outside::Outside;
use crate::proof::Proof;
use crate::settings::{Cleanup, Settings, Side};
use crate::site::{self, HostStates};
use crate::steps::checks::{BackupKept, Check, Deserted, Disused, OldNodesAre, Soaked, Tripwire, UploadsLacking};
use crate::steps::cloud::{OldNode, OldNodeLeaves, Removed, Thing};
use crate::steps::{
    HOLDS, HostState, Kept, KeysRevoked, LastBackup, Once, ReverseEnded, SITE, UNNAMED, UserDropped, last_backup,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The id by which reports find what was kept.
pub const KEPT: &str = "kept";

struct Farewell<'a> {
    settings: &'a Settings,
    cleanup: &'a Cleanup,
    servers: &'a Servers,
    outside: &'a Outside,
    graph: Graph,
    after: Option<String>,
    /// The servers of the old side that go in this run, by node: the one that alone has the last backup does not.
    leaving: BTreeMap<String, String>,
    /// When the run began, in seconds since the Unix epoch.
    began: f64,
    /// Everything that goes.
    gone: Vec<String>,
}

/// Builds the graph of clean-up.
///
/// # Errors
/// [`Error::Settings`] where the pillar says nothing of it, or a defect of the graph.
pub fn graph(phase: &str, settings: &Settings, servers: &Servers, outside: &Outside) -> Result<Graph> {
    let cleanup = settings.cleanup.as_ref().ok_or_else(|| Error::Settings {
        path: "migrate:cleanup".into(),
        found: "nothing".into(),
        expected: "what is to go".into(),
        hint: "pillar-example/migrate.sls shows every key".into(),
    })?;
    let after = signoff::last_move(settings)?;
    let mut graph = Graph::new(phase);
    // It may be days since it died, and somebody may need by now what it was to remove. Who signed has signed for the whole.
    graph.asks_anew = &["soak", "disuse", "tripwire", "old-nodes"];
    let mut leaving = cleanup.old_nodes.clone();
    let taken = last_backup(&settings.state_dir, after.as_ref())?;
    let carried = cleanup.backup.as_ref().and_then(|backup| backup.carried_to.as_ref());
    let carried = carried.is_some_and(|place| !place.trim().is_empty());
    let holds = match &taken {
        Some(_) if carried => None,
        // Where it was taken, whatever the pillar says by now.
        Some(proof) => node_of(settings, &leaving, proof.evidence["host"].as_str()),
        None => None,
    };
    let named = cleanup.backup.as_ref().filter(|_| !(carried && taken.is_some())).map(|backup| backup.node.clone());
    let holds = holds.or(named).filter(|node| leaving.remove(node).is_some());
    let runs = runs(&settings.state_dir)?;
    let unfinished = runs.last().filter(|run| run.phase == phase && run.finished.is_none());
    let began = unfinished.map_or_else(event::now, RunState::began);
    let mut farewell = Farewell { settings, cleanup, servers, outside, graph, after, leaving, began, gone: Vec::new() };
    let old = farewell.old_nodes()?;
    let (taken, asked) = (taken.is_some(), cleanup.backup.is_some());
    farewell.checks(&old, BackupKept { holds: holds.clone(), taken, carried, asked })?;
    let mut before = farewell.before()?;
    before.extend(farewell.one_master(&before)?);
    farewell.of_the_move(&before)?;
    farewell.of_the_old_side(old, &before);
    farewell.kept(holds)?;
    farewell.graph.checked()
}

impl Farewell<'_> {
    fn old_nodes(&self) -> Result<Vec<Rc<OldNode>>> {
        let access = self.settings.clouds.as_ref().and_then(|clouds| clouds.old.as_ref());
        let Some(access) = access.filter(|_| !self.leaving.is_empty()) else { return Ok(Vec::new()) };
        let cloud = Rc::new(Cloud::new(Side::Old, access)?);
        let node = |(name, id): (&String, &String)| {
            let found = self.settings.node(Side::Old, name)?;
            Some(Rc::new(OldNode {
                cloud: cloud.clone(),
                node: name.clone(),
                id: id.clone(),
                addresses: std::iter::once(found.private).chain(found.public).collect(),
                stopped_hours: self.cleanup.stopped_hours,
                began: self.began,
                state_dir: self.settings.state_dir.clone(),
            }))
        };
        Ok(self.leaving.iter().filter_map(node).collect())
    }

    /// Tells whether a node of the old side was stopped by an earlier run, so that nobody there answers.
    fn is_stopped(&self, node: &str) -> bool {
        let id = self.cleanup.old_nodes.get(node);
        id.is_some_and(|id| Proof::read(&self.settings.state_dir, &format!("stopped.{id}")).ok().flatten().is_some())
    }

    fn checks(&mut self, old: &[Rc<OldNode>], backup: BackupKept) -> Result<()> {
        let served_since = last_flip(self.settings, self.after.as_ref())?
            .map(|run| run.spans.get(super::ids::PROMOTION).map_or_else(|| over(&run), |span| span.ended));
        let old_primary = self.servers.primary(Side::Old);
        let soaked = Soaked {
            served_since,
            hours: self.cleanup.soak_hours,
            words: self.cleanup.give_up_revert.clone(),
            new: self.servers.primary(Side::New),
            old: old_primary,
        };
        self.graph.add("check.soak", Role::Check, Check(soaked));
        let accounts = &self.settings.databases.accounts;
        let known = [&accounts.admin, &accounts.marker, &accounts.replication].map(|account| account.user.clone());
        let relay = self.relay();
        let old_servers = self.servers.all().iter().filter(|server| server.side == Side::Old);
        let disused = Disused {
            servers: old_servers.filter(|server| !self.is_stopped(&server.node)).chain(&relay).cloned().collect(),
            unfollowed: relay,
            declared: self.servers.all().to_vec(),
            known: known.to_vec(),
            counted: self.settings.tripwire.is_some(),
        };
        self.graph.add("check.disuse", Role::Check, Check(disused));
        let lots = carried::uploads(self.settings, self.outside, Side::Old);
        for ((id, trees), uploads) in lots.into_iter().zip(self.settings.uploads.values()) {
            if self.leaving.contains_key(&uploads.old) && !self.is_stopped(&uploads.old) {
                self.graph.add(format!("check.{id}"), Role::Check, Check(UploadsLacking { trees, last: true }));
            }
        }
        let told = self.settings.tripwire.clone().unwrap_or_default();
        let mut watches = site::rules(self.settings);
        // Whoever goes, or is gone, is not asked.
        watches.retain(|_, watch| match watch.side {
            "new" => !self.cleanup.temporary.servers.contains(&watch.node),
            _ => !self.is_stopped(&watch.node),
        });
        let tripwire = Tripwire {
            outside: self.outside.clone(),
            watches,
            quiet: told.quiet,
            seconds: told.host_seconds,
            deserted: Some(deserted(self.settings)?),
        };
        if self.settings.tripwire.is_some() {
            self.graph.add("check.tripwire", Role::Check, Check(tripwire));
        }
        self.graph.add("check.old-nodes", Role::Check, Check(OldNodesAre(old.to_vec())));
        if !self.cleanup.old_nodes.is_empty() {
            self.graph.add("check.backup", Role::Check, Check(backup));
        }
        Ok(())
    }

    fn relay(&self) -> Option<Rc<Server>> {
        let name = self.settings.databases.new.relay.as_ref()?;
        self.servers.named(&format!("new-{name}"))
    }

    /// What must be done while both sides still stand: the backup, the end of the freeze, the end of the reverse replication.
    fn before(&mut self) -> Result<Vec<String>> {
        let mut before = Vec::new();
        if let Some(backup) = &self.cleanup.backup {
            let host = self.settings.node(Side::Old, &backup.node).and_then(|node| node.minion.clone());
            let step = LastBackup {
                outside: self.outside.clone(),
                host: host.unwrap_or_default(),
                backup: backup.clone(),
                state_dir: self.settings.state_dir.clone(),
                after: self.after.clone(),
            };
            self.graph.add("last-backup", Role::Fact, step);
            before.push("last-backup".to_owned());
        }
        let leaving: Vec<String> = self.leaving_minions();
        for (id, mut step) in people::freeze(self.settings, self.outside, false) {
            for applied in [&mut step.on, &mut step.off] {
                applied.hosts.retain(|host| !leaving.contains(host));
            }
            step.kept = Some("nothing stands still for a move that is over");
            self.graph.add(&id, Role::Fact, step);
            before.push(id);
        }
        let server = self.servers.primary(Side::Old);
        let id = format!("reverse-replication.{}", server.name);
        let (stopped, state_dir) = (self.is_stopped(&server.node), self.settings.state_dir.clone());
        let step = ReverseEnded { server, stopped, state_dir, after: self.after.clone() };
        self.graph.add(&id, Role::Fact, step).after(&before);
        before.push(id);
        Ok(before)
    }

    /// Minions of nodes that go away, of either side, and of no node that stays.
    fn leaving_minions(&self) -> Vec<String> {
        let goes = |side: Side, node: &String| match side {
            Side::Old => self.leaving.contains_key(node),
            Side::New => self.cleanup.temporary.servers.contains(node),
        };
        let minions = |going: bool| -> BTreeSet<String> {
            [Side::Old, Side::New]
                .into_iter()
                .flat_map(|side| self.settings.nodes.of(side).iter().map(move |(name, node)| (side, name, node)))
                .filter(|(side, name, _)| goes(*side, name) == going)
                .filter_map(|(_, _, node)| node.minion.clone())
                .collect()
        };
        minions(true).difference(&minions(false)).cloned().collect()
    }

    /// Minions of nodes that stay, of either side, each with why.
    fn staying_minions(&self) -> BTreeMap<String, &'static str> {
        let leaving = self.leaving_minions();
        let why = |node: &String| if self.cleanup.old_nodes.contains_key(node) { HOLDS } else { UNNAMED };
        let (old, new) = (&self.settings.nodes.old, &self.settings.nodes.new);
        let old = old.iter().filter_map(|(name, node)| Some((node.minion.clone()?, why(name))));
        let new = new.values().filter_map(|node| Some((node.minion.clone()?, SITE)));
        // One that both sides have is the new one's.
        old.chain(new).filter(|(minion, _)| !leaving.contains(minion)).collect()
    }

    fn of_the_move(&mut self, before: &[String]) -> Result<()> {
        if self.settings.edge.is_some() {
            for id in edge::add_removals(&mut self.graph, self.settings, self.outside, None)? {
                self.graph.come_after(&id, before);
                self.gone.push(id);
            }
        }
        for user in &self.cleanup.database_users {
            let id = format!("database-user.{user}");
            let step = UserDropped { server: self.servers.primary(Side::New), user: user.clone() };
            self.graph.add(&id, Role::Fact, step).after(before);
            self.gone.push(id);
        }
        if !self.cleanup.ssh_keys.is_empty() {
            let mut hosts: Vec<String> = self
                .settings
                .nodes
                .new
                .iter()
                .filter(|(name, _)| !self.cleanup.temporary.servers.contains(name))
                .filter_map(|(_, node)| node.minion.clone())
                .collect();
            hosts.sort();
            hosts.dedup();
            let applied = HostStates {
                hosts,
                states: "migrate.host.keys",
                told: json!({"ssh_keys": self.cleanup.ssh_keys}),
                seconds: 120,
            };
            let step = HostState {
                outside: self.outside.clone(),
                on: applied.clone(),
                off: applied,
                want: true,
                kept: Some("a key that was for the move is not let in again"),
            };
            self.graph.add("ssh-keys", Role::Fact, step).after(before);
            self.gone.push("ssh-keys".into());
        }
        self.of_the_new_cloud(before)
    }

    /// Minions that obeyed both masters obey the new one alone. Returns what everything else waits for.
    fn one_master(&mut self, before: &[String]) -> Result<Option<String>> {
        let deployment = self.settings.prepare.as_ref().and_then(|prepare| prepare.deployment.as_ref());
        let Some((deployment, master)) = deployment.and_then(|found| Some((found, found.master.as_ref()?))) else {
            return Ok(None);
        };
        let stays = [deployment.obeyed(self.settings)?];
        let mut after = before.to_vec();
        let nodes = self.settings.nodes.new.iter().filter(|(name, _)| !self.cleanup.temporary.servers.contains(name));
        // The new master's own minion first: where it does not answer us any more we are not the new master, and stop.
        let (its, others): (Vec<_>, Vec<_>) = nodes.partition(|(name, _)| **name == deployment.new);
        let (mut minions, mut first) = (BTreeSet::new(), None);
        for (name, node) in its.into_iter().chain(others) {
            let Some(minion) = node.minion.as_ref().filter(|minion| minions.insert(*minion)) else { continue };
            let id = format!("obeys.new-{name}");
            self.graph
                .add(&id, Role::Fact, super::deployment::obeys(self.outside, master, minion, &stays))
                .after(&after);
            if *name == deployment.new {
                after.push(id.clone());
                first = Some(id.clone());
            }
            self.gone.push(id);
        }
        Ok(first)
    }

    fn of_the_new_cloud(&mut self, before: &[String]) -> Result<()> {
        let temporary = &self.cleanup.temporary;
        let none = [&temporary.servers, &temporary.security_groups, &temporary.key_pairs, &temporary.apart];
        if none.iter().all(|names| names.is_empty()) {
            return Ok(());
        }
        let project = Rc::new(prepare::project(self.settings, self.outside)?);
        let mut add = |thing: Thing, word: &str, name: &String, after: &[String]| {
            let id = format!("{word}.{name}");
            let step = Removed { project: project.clone(), thing, name: name.clone() };
            self.graph.add(&id, Role::Fact, step).after(after);
            self.gone.push(id.clone());
            id
        };
        let mut ports = Vec::new();
        for name in &temporary.servers {
            let server = add(Thing::Server, "server", name, before);
            ports.push(add(Thing::Port, "port", name, std::slice::from_ref(&server)));
            if project.prepare.servers.get(name).is_some_and(|wanted| !wanted.volumes.is_empty()) {
                add(Thing::Volume, "volumes", name, &[server]);
            }
        }
        // What a port or a server still uses cannot go.
        let after: Vec<String> = before.iter().chain(&ports).cloned().collect();
        for name in &temporary.security_groups {
            add(Thing::SecurityGroup, "security-group", name, &after);
        }
        for name in &temporary.key_pairs {
            add(Thing::KeyPair, "key-pair", name, &after);
        }
        for name in &temporary.apart {
            add(Thing::ServerGroup, "apart", name, &after);
        }
        Ok(())
    }

    fn of_the_old_side(&mut self, old: Vec<Rc<OldNode>>, before: &[String]) {
        let mut stopped: Vec<String> =
            self.cleanup.temporary.servers.iter().map(|name| format!("server.{name}")).collect();
        for node in old {
            let id = format!("old-node.{}", node.node);
            self.graph.add(&id, Role::Fact, OldNodeLeaves(node)).after(before);
            stopped.push(id);
        }
        let minions = self.leaving_minions();
        if !minions.is_empty() {
            let step = KeysRevoked { outside: self.outside.clone(), minions };
            self.graph.add("minion-keys", Role::Fact, step).after(&stopped);
            stopped.push("minion-keys".into());
        }
        self.gone.extend(stopped.into_iter().filter(|id| !id.starts_with("server.")));
    }

    fn kept(&mut self, holds: Option<String>) -> Result<()> {
        let (settings, outside) = (self.settings, self.outside);
        let clouds = settings.clouds.as_ref();
        // Where prepare made no server there may be no cloud that anybody asks.
        let made = settings.prepare.as_ref().filter(|_| clouds.is_some_and(|clouds| clouds.new.is_some()));
        let new = made.map(|_| prepare::project(settings, outside)).transpose()?;
        let old =
            clouds.and_then(|clouds| clouds.old.as_ref()).map(|access| Cloud::new(Side::Old, access)).transpose()?;
        let fastly = settings.edge.as_ref().map(Fastly::new).transpose()?;
        let accounts = &settings.databases.accounts;
        let holder = holds.and_then(|node| self.cleanup.old_nodes.get(&node).cloned());
        let kept = Kept {
            new,
            old,
            holder,
            fastly,
            services: settings
                .edge
                .iter()
                .flat_map(|edge| &edge.services)
                .map(|(name, s)| (s.id.clone(), name.clone()))
                .collect(),
            accounts: [&accounts.admin, &accounts.marker, &accounts.replication]
                .iter()
                .map(|account| account.user.clone())
                .filter(|user| !self.cleanup.database_users.contains(user))
                .collect(),
            outside: outside.clone(),
            minions: self.staying_minions(),
            rotate: rotate(settings, self.cleanup),
        };
        let gone = self.gone.clone();
        self.graph.add(KEPT, Role::Guard, Once(kept)).after(&gone).serves(&gone);
        Ok(())
    }
}

/// Finds, among nodes of the old side, the one that has a minion.
fn node_of(settings: &Settings, nodes: &BTreeMap<String, String>, minion: Option<&str>) -> Option<String> {
    let has = |node: &&String| settings.node(Side::Old, node).and_then(|node| node.minion.as_deref()) == minion;
    minion.and_then(|_| nodes.keys().find(has).cloned())
}

/// Says what is asked of old hosts before they go away.
///
/// # Errors
/// [`Error::Journal`] where the journals cannot be read.
pub fn deserted(settings: &Settings) -> Result<Deserted> {
    let flip = last_flip(settings, signoff::last_move(settings)?.as_ref())?;
    let quiet_hours = settings.cleanup.as_ref().and_then(|cleanup| cleanup.quiet_hours);
    Ok(Deserted { flipped: flip.map(|run| over(&run)), quiet_hours })
}

/// Finds the run that moved the site, where that is a flip that was finished.
fn last_flip(settings: &Settings, after: Option<&String>) -> Result<Option<RunState>> {
    let last = runs(&settings.state_dir)?.into_iter().rev().find(|run| Some(&run.run) == after);
    Ok(last.filter(|run| run.phase == "flip" && run.finished == Some(Outcome::Done)))
}

/// Tells when a run's last step ended.
fn over(run: &RunState) -> f64 {
    run.spans.values().map(|span| span.ended).fold(0.0, f64::max)
}

/// Lists what people must change themselves: whatever the old provider, or somebody who worked there, may have seen.
fn rotate(settings: &Settings, cleanup: &Cleanup) -> Vec<String> {
    let mut list = Vec::new();
    if let Some(access) = settings.clouds.as_ref().and_then(|clouds| clouds.old.as_ref()) {
        let login = access.auth.as_ref();
        let user = login.and_then(|login| login.username.clone().or_else(|| login.application_credential_id.clone()));
        let what = access.cloud.clone().or(user).unwrap_or_default();
        list.push(format!("the old cloud's API: {what}"));
    }
    let accounts = &settings.databases.accounts;
    for account in [&accounts.admin, &accounts.marker, &accounts.replication] {
        if !cleanup.database_users.contains(&account.user) {
            list.push(format!("the database account {}", account.user));
        }
    }
    if settings.edge.is_some() {
        list.push("the CDN's token of the migration".into());
    }
    list.extend(cleanup.rotate.clone());
    list
}
