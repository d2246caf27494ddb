//! What a transfer looks at before it begins: each topic, for this direction.

use super::Transfer;
use crate::engine::Role;
use crate::error::Result;
use crate::phases::edge;
use crate::settings::Side;
use crate::site;
use crate::steps::checks::{
    Accounts, BackupCameBack, Check, ComparisonMade, Configuration, DataCompared, Hosts, Likeness, Moved, NamesBeside,
    OthersAtWork, Privileges, Room, Topology, Transactions, Tripwire, UploadsLacking, Versions, Workload,
};
use crate::steps::checksum_hash;

impl Transfer<'_> {
    pub(super) fn checks(&mut self) -> Result<()> {
        let all = self.servers.all().to_vec();
        let primaries = vec![self.from.clone(), self.to.clone()];
        let databases = &self.settings.databases;
        let mut known = databases.may_bypass_fence.clone();
        let admin = databases.accounts.admin.user.clone();
        known.push(admin.clone());
        let nodes = self.settings.notice.nodes.of(self.from_side).iter().filter_map(|name| {
            let (here, there) =
                (self.settings.node(self.from_side, name)?, self.settings.node(self.from_side.other(), name)?);
            Some((name.clone(), here.private, there.private))
        });
        let accounts = Accounts {
            from: self.from.clone(),
            to: self.to.clone(),
            ours: [&databases.accounts.admin, &databases.accounts.marker, &databases.accounts.replication]
                .map(|account| account.user.clone()),
            nodes: nodes.collect(),
            limit_ms: databases.max_lag,
        };
        let minions = self.minions();
        let without_minion = all.iter().filter(|server| self.minion(server).is_none()).cloned().collect();
        let hosts = Hosts {
            outside: self.outside.clone(),
            minions,
            seconds: self.settings.notice.host_seconds,
            without_minion,
        };
        let room = Room {
            outside: self.outside.clone(),
            state_dir: self.settings.state_dir.clone(),
            servers: all.iter().map(|server| (server.clone(), self.minion(server))).collect(),
            seconds: self.settings.notice.host_seconds,
        };
        for (id, trees) in &self.uploads {
            let lacking = UploadsLacking { trees: trees.clone(), last: false };
            self.graph.add(format!("check.{id}"), Role::Check, Check(lacking));
        }
        let graph = &mut self.graph;
        let (from, to) = (self.from.clone(), self.to.clone());
        graph.add("check.room", Role::Check, Check(room));
        let others = OthersAtWork { target: to.clone(), state_dir: self.settings.state_dir.clone() };
        graph.add("check.others", Role::Check, Check(others));
        let mut beside = self.servers.replicas(self.settings, to.side);
        beside.extend(self.servers.relay().filter(|relay| relay.side == to.side));
        let versions = Versions { from: from.clone(), to: to.clone(), beside };
        graph.add("check.versions", Role::Check, Check(versions));
        graph.add("check.likeness", Role::Check, Check(Likeness { from, to, soak_hours: databases.soak_hours }));
        // On the way back the new side has the truth, and the old one what it was sent.
        if let Some(hours) = databases.checksum_hours.filter(|_| self.from_side == Side::Old) {
            let (source, replica) = (self.from.name.clone(), self.to.name.clone());
            let hash = checksum_hash(&self.from, &self.to, &[]);
            let data = DataCompared { source, replica, state_dir: self.settings.state_dir.clone(), hours, hash };
            graph.add("check.data", Role::Check, Check(data));
        }
        let backup = self.settings.prepare.as_ref().and_then(|prepare| prepare.backup.as_ref());
        if let Some(backup) = backup.filter(|_| self.from_side == Side::Old) {
            let (server, state_dir) = (format!("new-{}", backup.node), self.settings.state_dir.clone());
            let came = BackupCameBack { server, state_dir, hours: backup.hours };
            graph.add("check.backup", Role::Check, Check(came));
        }
        let quarantine_domain = databases.quarantine_domain;
        let transactions =
            Transactions { servers: all.clone(), from: self.from.clone(), to: self.to.clone(), quarantine_domain };
        graph.add("check.transactions", Role::Check, Check(transactions));
        let topology = Topology {
            servers: all.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            tls: databases.tls.is_some(),
        };
        graph.add("check.topology", Role::Check, Check(topology));
        graph.add(
            "check.configuration",
            Role::Check,
            Check(Configuration { servers: all.clone(), primaries: primaries.clone() }),
        );
        graph.add("check.accounts", Role::Check, Check(accounts));
        graph.add("check.privileges", Role::Check, Check(Privileges { primaries, known, admin }));
        let replication = databases.accounts.replication.user.clone();
        let workload = Workload { from: self.from.clone(), to: self.to.clone(), servers: all, replication };
        graph.add("check.workload", Role::Check, Check(workload));
        graph.add("check.hosts", Role::Check, Check(hosts));
        // A revert goes to the side that everything knows.
        if let Some(told) = self.settings.tripwire.as_ref().filter(|_| self.from_side == Side::Old) {
            let tripwire = Tripwire {
                outside: self.outside.clone(),
                watches: site::rules(self.settings),
                quiet: told.quiet,
                seconds: told.host_seconds,
                deserted: None,
            };
            graph.add("check.tripwire", Role::Check, Check(tripwire));
        }
        // People looked at the new side before it serves; on the way back there is nothing new to look at.
        if let Some(compare) = self.settings.compare.as_ref().filter(|_| self.from_side == Side::Old) {
            let made = ComparisonMade {
                state_dir: self.settings.state_dir.clone(),
                valid_hours: compare.valid_hours,
                pillar: self.settings.hash.clone(),
            };
            graph.add("check.comparison", Role::Check, Check(made));
        }
        if let Some(fastly) = &self.fastly {
            let ready = edge::ready(self.settings, fastly, self.from_side, &self.switches, false)?;
            graph.add("check.edge", Role::Check, Check(ready));
        }
        if !self.settings.names.is_empty() {
            let moved = self.settings.names.iter().filter_map(|(name, settings)| {
                let (record, old) = settings.on(self.settings, self.from_side)?;
                let (_, new) = settings.on(self.settings, self.from_side.other())?;
                Some(Moved { name: name.clone(), record, old, new, ttl: settings.ttl })
            });
            graph.add("check.names", Role::Check, Check(NamesBeside(moved.collect())));
        }
        Ok(())
    }

    fn minions(&self) -> Vec<String> {
        let notices = [Side::Old, Side::New].into_iter().flat_map(|side| {
            self.settings
                .notice
                .nodes
                .of(side)
                .iter()
                .filter_map(move |name| self.settings.node(side, name)?.minion.clone())
        });
        let uploads = self.uploads.iter().flat_map(|(_, trees)| [&trees.pushes, &trees.takes]);
        let notices = notices.chain(uploads.map(|worker| worker.host.clone()));
        let mut minions: Vec<String> =
            notices.chain([&self.from, &self.to].into_iter().filter_map(|server| self.minion(server))).collect();
        minions.sort();
        minions.dedup();
        minions
    }
}
