//! The relay and the new databases, from an empty host to a replica that has caught up.
//!
//! In one breath: each host answers, and is configured; the first server of the new side is copied from the old side, which
//! runs on, and follows it; once it has caught up the others are copied from it, one after the other, so that the data
//! crosses between the clouds once; in the end the data of each is compared with the old primary's.

use super::{checksum, role};
use crate::database::{Server, Servers};
use crate::engine::{Graph, Role};
use crate::error::Result;
use crate::outside::Outside;
use crate::settings::{Family, NewBackup, Seeding, Settings, Side};
use crate::site::{HostFile, States, Worker};
use crate::steps::checks::{Check, Configuration, Copyable, Later};
use crate::steps::{
    Applied, AtRestart, CaughtUp, DataProved, HostAnswers, Joined, MARK, Once, Patient, Restored, Seeded, Told,
};
use serde_json::{Value, json};
use std::rc::Rc;

/// Seconds within which a host carries out its states: packages may come from far away.
pub(super) const STATES: u64 = 900;
/// Seconds within which a host answers about a copy.
pub(super) const ANSWER: u64 = 30;
/// Hours for which a comparison holds where the pillar does not say.
const PROVED: f64 = 168.0;

struct Builder<'a> {
    settings: &'a Settings,
    seeding: &'a Seeding,
    outside: &'a Outside,
    graph: &'a mut Graph,
}

/// Adds the relay and the new databases; returns the steps after which each was seen to have everything that the
/// old side has.
///
/// # Errors
/// Never, but for defects of the graph that its own check finds.
pub fn add(
    graph: &mut Graph,
    settings: &Settings,
    seeding: &Seeding,
    outside: &Outside,
    servers: &Servers,
) -> Result<Vec<String>> {
    let mut builder = Builder { settings, seeding, outside, graph };
    let Some(from) = servers.named(&format!("old-{}", seeding.source(&settings.databases))) else {
        return Ok(Vec::new());
    };
    builder.check(servers, &from);
    builder.way_back(servers);
    let sends = builder.sender(&from);
    let mut caught_up: Vec<String> = Vec::new();
    let mut first: Option<Rc<Server>> = None;
    let mut copies = Vec::new();
    for node in settings.databases.new.all() {
        let Some(server) = servers.named(&format!("new-{node}")) else { continue };
        // The one before has caught up: it is copied whole, and hosts send one copy at a time.
        let mut after = vec![sends.clone()];
        after.extend(caught_up.last().cloned());
        let source = first.clone().unwrap_or_else(|| from.clone());
        let declared = servers.declared_source(&server).unwrap_or_else(|| from.clone());
        caught_up.push(builder.server(&server, &source, &declared, &after));
        copies.push(server.clone());
        first.get_or_insert(server);
    }
    // One after the other: a replica stands still while it is brought to a position, and so does what follows it.
    let mut proved: Vec<String> = Vec::new();
    for server in &copies {
        let after = proved.last().into_iter().chain(&caught_up).cloned().collect::<Vec<_>>();
        proved.push(builder.proved(&servers.primary(Side::Old), server, &after));
    }
    if let Some(backup) = settings.prepare.as_ref().and_then(|prepare| prepare.backup.as_ref()) {
        let server = copies.iter().find(|server| server.node == backup.node);
        proved.extend(server.map(|server| builder.restored(backup, &servers.primary(Side::Old), server, &proved)));
    }
    Ok(proved)
}

impl Builder<'_> {
    fn host(&self, server: &Server) -> String {
        let node = self.settings.node(server.side, &server.node);
        node.and_then(|node| node.minion.clone()).unwrap_or_default()
    }

    fn defaults(&self, server: &Server) -> String {
        self.settings.node(server.side, &server.node).map(|node| node.defaults_file.clone()).unwrap_or_default()
    }

    fn check(&mut self, servers: &Servers, from: &Rc<Server>) {
        let new = servers.all().iter().filter(|server| server.side == Side::New);
        let verified = self.settings.databases.tls.is_some();
        let certified = |node: &str| self.seeding.options(node).keys().any(|name| name.replace('-', "_") == "ssl_cert");
        let uncertified = new.clone().map(|server| server.node.clone()).filter(|node| verified && !certified(node));
        let ids = new.clone().map(|server| (server.node.clone(), self.seeding.server_id(&server.node, server.address)));
        let copyable = Copyable {
            old: servers.all().iter().filter(|server| server.side == Side::Old).cloned().collect(),
            from: from.clone(),
            family: self.seeding.family,
            outside: self.outside.clone(),
            host: self.host(from),
            clone_folder: self.seeding.clone_folder.clone(),
            seconds: self.settings.notice.host_seconds,
            megabytes_per_second: self.seeding.megabytes_per_second,
            ids: ids.collect(),
            uncertified: uncertified.collect(),
            soak_hours: self.settings.databases.soak_hours,
        };
        let seeds: Vec<String> = new.map(|server| format!("seed.{}", server.name)).collect();
        self.graph.add("check.seeding", Role::Check, Check(copyable)).serves(seeds);
    }

    /// What the old side lacks for the flip and the way back is found now, while there is time for a restart; what the
    /// primary's next one can bring stands ready for it.
    fn way_back(&mut self, servers: &Servers) {
        let primary = &servers.primary(Side::Old);
        let old = servers.all().iter().filter(|server| server.side == Side::Old).cloned().collect();
        let lacks = Later(Configuration { servers: old, primaries: vec![primary.clone()] });
        self.graph.add("check.configuration", Role::Check, Check(lacks));
        let host = self.host(primary);
        if host.is_empty() {
            return;
        }
        let step = AtRestart {
            outside: self.outside.clone(),
            file: HostFile {
                host,
                path: beside(&role::file(self.settings, primary), "97-saltext-migrate-way-back.cnf"),
            },
            server: primary.clone(),
            seconds: self.settings.notice.host_seconds,
        };
        self.graph.add(format!("way-back.{}", primary.name), Role::Fact, step);
    }

    fn sender(&mut self, from: &Server) -> String {
        let id = format!("sender.{}", from.name);
        let step = self.applied(from, &[self.tools()], Value::Null);
        self.graph.add(&id, Role::Fact, step);
        id
    }

    /// Names the state that brings what a host needs to send or receive a copy.
    fn tools(&self) -> &'static str {
        match self.seeding.family {
            Family::MariaDb => "migrate.host.carry",
            Family::MySql => "migrate.host.clone",
        }
    }

    /// Says how the two ends of a copy go about it; `first_start` is a file that a new server reads once.
    fn told(&self, first_start: String) -> Told {
        let role = |word: &str| ("ROLE", word.to_owned());
        match self.seeding.family {
            Family::MariaDb => Told { sends: vec![role("send")], receives: vec![role("receive")] },
            Family::MySql => {
                // For so long may the other end copy before it sends anything.
                let limit = self.seeding.deadlines.seed.div_ceil(1000).to_string();
                Told {
                    sends: vec![role("send_clone"), ("CLONE_FOLDER", self.seeding.clone_folder.clone())],
                    receives: vec![role("receive_clone"), ("FIRST_START", first_start), ("LIMIT", limit)],
                }
            }
        }
    }

    fn applied(&self, server: &Server, names: &[&str], more: Value) -> Applied {
        let mut told = json!({"packages": self.seeding.packages(), "folder": self.seeding.folder});
        if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
            told.extend(more);
        }
        let states = States {
            outside: self.outside.clone(),
            host: self.host(server),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            seconds: STATES,
        };
        Applied { states, pillar: json!({"migrate_carry": told}), until_clean: false }
    }

    /// Adds one new server: host, configuration, copy, place in the chain, caught up.
    fn server(&mut self, server: &Rc<Server>, source: &Rc<Server>, declared: &Rc<Server>, after: &[String]) -> String {
        let name = &server.name;
        let configured = format!("configuration.{name}");
        let (seed, joined, caught_up) = (format!("seed.{name}"), format!("joined.{name}"), format!("caught-up.{name}"));
        let host = host(self.graph, self.settings, self.outside, &server.node);
        let role_file = role::file(self.settings, server);
        let told = json!({
            "configuration": {
                "path": beside(&role_file, "90-saltext-migrate-server.cnf"),
                "contents": self.configuration(server),
            },
            "role": {"path": &role_file, "contents": role::newcomer(self.seeding.family)},
        });
        let states = self.applied(server, &["migrate.host.database", self.tools()], told);
        self.graph.add(&configured, Role::Fact, states).after([&host]);
        let seeded = Seeded {
            server: server.clone(),
            source: source.clone(),
            sends: self.worker(source, name),
            receives: self.worker(server, name),
            port: self.seeding.port,
            source_defaults: self.defaults(source),
            defaults: self.defaults(server),
            start: self.seeding.start(),
            stop: self.seeding.stop(),
            told: self.told(beside(&role_file, "98-saltext-migrate-first-start.cnf")),
            limit_ms: self.seeding.deadlines.seed,
            state_dir: self.settings.state_dir.clone(),
            primary: format!("old-{}", self.settings.databases.old.primary),
        };
        self.graph.add(&seed, Role::Fact, seeded).after([&configured]).after(after);
        let place = Joined { server: server.clone(), source: declared.clone() };
        self.graph.add(&joined, Role::Fact, place).after([&seed]);
        let wait =
            CaughtUp { source: declared.clone(), target: server.clone(), limit_ms: self.seeding.deadlines.catch_up };
        let wait = Patient { deed: wait, outside: self.outside.clone() };
        self.graph.add(&caught_up, Role::Guard, Once(wait)).after([&joined]).serves([&seed, &joined]);
        caught_up
    }

    /// Adds that the data of a server was compared with the old primary's.
    fn proved(&mut self, primary: &Rc<Server>, server: &Rc<Server>, after: &[String]) -> String {
        let id = format!("data.{}", server.name);
        let step = DataProved {
            tables: checksum::tables(self.settings, primary.clone(), server.clone(), Vec::new(), true),
            outside: self.outside.clone(),
            hours: self.settings.databases.checksum_hours.unwrap_or(PROVED),
        };
        self.graph.add(&id, Role::Fact, step).after(after);
        id
    }

    /// Adds that a backup of a server came back.
    fn restored(&mut self, backup: &NewBackup, primary: &Rc<Server>, server: &Rc<Server>, after: &[String]) -> String {
        let (tools, id) = (format!("backup-tools.{}", server.name), format!("backup.{}", server.name));
        let states = self.applied(server, &["migrate.host.restore"], Value::Null);
        self.graph.add(&tools, Role::Fact, states).after(after);
        let roles = match self.seeding.family {
            Family::MariaDb => ("backup", "restore"),
            Family::MySql => ("backup_clone", "restore_clone"),
        };
        let job = |word: &str| Worker {
            outside: self.outside.clone(),
            host: self.host(server),
            folder: self.seeding.folder.clone(),
            job: format!("{}-{word}", server.name),
            seconds: ANSWER,
        };
        let step = Restored {
            source: primary.clone(),
            server: server.clone(),
            takes: job("backup"),
            restores: job("restore"),
            roles,
            told: vec![
                ("FOLDER", backup.folder.clone()),
                ("DEFAULTS_FILE", self.defaults(server)),
                ("TAKE", backup.take(self.seeding.family)),
                ("RESTORE", backup.restore.clone()),
            ],
            outside: self.outside.clone(),
            state_dir: self.settings.state_dir.clone(),
            hours: backup.hours,
            limit_ms: backup.limit,
        };
        self.graph.add(&id, Role::Fact, step).after([&tools]).after(after);
        id
    }

    fn worker(&self, server: &Server, job: &str) -> Worker {
        let folder = self.seeding.folder.clone();
        let word = if server.name == job { "receive" } else { "send" };
        let job = format!("{job}-{word}");
        Worker { outside: self.outside.clone(), host: self.host(server), folder, job, seconds: ANSWER }
    }

    /// Writes what a new server of the chain must say; its own options come last.
    fn configuration(&self, server: &Server) -> String {
        let id = self.seeding.server_id(&server.node, server.address);
        let own = match self.seeding.family {
            Family::MariaDb => "log_slave_updates=ON\nbinlog_format=ROW\ngtid_strict_mode=ON",
            // MariaDB's replicas fetch anew by themselves what a crash left of their relay log. Rows are all that it logs.
            Family::MySql => "log_replica_updates=ON\ngtid_mode=ON\nenforce_gtid_consistency=ON\nrelay_log_recovery=ON",
        };
        let mut lines = format!(
            "{MARK}: a server of the chain.\n[mysqld]\nserver_id={id}\nreport_host={name}\nbind_address=0.0.0.0\n\
             log_bin=binlog\nrelay_log=relaylog\n{own}\n\
             sync_binlog=1\ninnodb_flush_log_at_trx_commit=1\nskip_name_resolve=ON\n\
             binlog_expire_logs_seconds={kept}\n",
            name = server.name,
            kept = self.settings.databases.soak_hours * 3_600
        );
        for (option, value) in self.seeding.options(&server.node) {
            lines += &format!("{option}={value}\n");
        }
        lines
    }
}

/// Adds, once, that a node of the new side answers, with whatever it is to have; returns the step.
pub(super) fn host(graph: &mut Graph, settings: &Settings, outside: &Outside, node: &str) -> String {
    let (id, made, volumes) = (format!("host.new-{node}"), format!("server.{node}"), format!("volume.{node}."));
    if !graph.nodes().iter().any(|node| node.id == id) {
        let minion = settings.node(Side::New, node).and_then(|node| node.minion.clone());
        let limit_ms = settings.prepare.as_ref().map_or(0, |prepare| prepare.deadlines.host);
        let step = HostAnswers { outside: outside.clone(), host: minion.unwrap_or_default(), limit_ms };
        let ids = graph.nodes().iter().map(|node| node.id.clone());
        let made: Vec<String> = ids.filter(|id| *id == made || id.starts_with(&volumes)).collect();
        graph.add(&id, Role::Fact, step).after(made);
    }
    id
}

/// Names a file in the folder of another.
fn beside(path: &str, name: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{name}")
}
