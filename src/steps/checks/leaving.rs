//! Whether the old side can go: the new one has served long enough, the way back was given up in so many words, and nobody
//! uses what is to go.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::{self, Finding};
use crate::settings::GIVEN_UP;
use crate::steps::cloud::OldNode;
use std::rc::Rc;

/// The time since the site moved, and what was said of the way back.
pub struct Soaked {
    /// When the promotion of the last flip was done; nothing where the site is not on the new side.
    pub served_since: Option<f64>,
    pub hours: f64,
    pub words: String,
    pub new: Rc<Server>,
    /// The old primary, whether it stands or not: who opened it may have started its node for that.
    pub old: Rc<Server>,
}

impl Topic for Soaked {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("soak");
        match self.served_since {
            None => notes.block(
                "site",
                "the last move was not a flip that was finished",
                "clean-up is for a site on the new side",
            ),
            Some(since) => {
                let hours = (event::now() - since) / 3600.0;
                if hours < self.hours {
                    let found = format!("the new side has served for {}", of(hours, self.hours));
                    notes.doubt("site", found, "wait, or shorten migrate:cleanup:soak_hours");
                }
            }
        }
        // Somebody may have gone back by hand, or from another machine.
        let back = "clean-up is for a site on the new side: salt-run migrate.status";
        match self.new.status().await {
            Ok(status) if status.read_only => {
                notes.block(&self.new.name, "it refuses writes: people are not served by it", back)
            }
            Err(error) => {
                notes.doubt(&self.new.name, format!("whether people are served by it cannot be seen: {error}"), back)
            }
            Ok(_) => {}
        }
        if self.old.status().await.is_ok_and(|status| !status.read_only) {
            notes.block(&self.old.name, "it accepts writes: people may be served by it", back);
        }
        if self.words.trim().trim_end_matches('.') != GIVEN_UP {
            let found = "the way back is not given up";
            notes.block(
                "revert",
                found,
                format!("where that is so, write it: migrate:cleanup:give_up_revert: '{GIVEN_UP}'"),
            );
        }
        Ok(notes.findings)
    }
}

/// Says how much of a time is over, in hours, or in seconds where it is less than one.
fn of(hours: f64, all: f64) -> String {
    if all < 1.0 {
        return format!("{:.0} of {:.0} s", hours * 3600.0, all * 3600.0);
    }
    format!("{hours:.1} of {all} hours")
}

/// Who is still there on servers that are to go.
pub struct Disused {
    /// The old side's servers that still answer, and the relay.
    pub servers: Vec<Rc<Server>>,
    /// Whether nobody may follow it: the relay.
    pub unfollowed: Option<Rc<Server>>,
    /// Every server of the pillar, which can say itself whom it follows.
    pub declared: Vec<Rc<Server>>,
    /// The accounts of replication and of the tool.
    pub known: Vec<String>,
    /// Whether the hosts count who comes.
    pub counted: bool,
}

impl Topic for Disused {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("disuse");
        if !self.counted {
            let found = "nobody counts who comes to the old nodes: only who is connected now is seen";
            notes.warn("old side", found, "load the tripwire (migrate:tripwire), and wait");
        }
        for server in &self.servers {
            let connected = match server.connected().await {
                Ok(connected) => connected,
                // Who does not answer us serves nobody else either; but it may come back.
                Err(error) => {
                    notes.warn(
                        &server.name,
                        format!("it cannot be asked who uses it: {error}"),
                        "see that it is down on purpose",
                    );
                    continue;
                }
            };
            for (account, connections) in connected {
                if !self.known.contains(&account) {
                    let found = format!("{account} has {connections} connections open");
                    notes.doubt(&server.name, found, "find out who it is: it would lose its database");
                }
            }
        }
        if let Some(relay) = &self.unfollowed {
            let mut elsewhere = Vec::new();
            for server in &self.declared {
                // Who does not answer may follow it still.
                let Ok(status) = server.status().await else { continue };
                if status.channel.as_ref().is_none_or(|channel| channel.source != relay.place()) {
                    elsewhere.push(status.server_id);
                }
            }
            let listed = relay.replica_ids().await.unwrap_or_default();
            // A server lists a replica that left until it next has something to send to it.
            for id in listed.into_iter().filter(|id| !elsewhere.contains(id)) {
                let found = format!("the server with server_id {id} still follows it");
                notes.block(&relay.name, found, "point that server to the new primary first");
            }
        }
        Ok(notes.findings)
    }
}

/// What is left of the old side's data when its servers are gone.
pub struct BackupKept {
    /// Whether the pillar asks for a last backup.
    pub asked: bool,
    /// Whether it was taken, since the site moved.
    pub taken: bool,
    /// Whether it is said where people carried it.
    pub carried: bool,
    /// The node that is to go and alone has it, as far as anybody said.
    pub holds: Option<String>,
}

impl Topic for BackupKept {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("backup");
        if !self.asked && !self.taken {
            let mend = "name it: migrate:cleanup:backup; or force this, and say where the old side's data is kept";
            notes.doubt("old side", "no last backup of it is asked for, and its servers go", mend);
        }
        if self.carried && !self.taken {
            let found = "it is said where the last backup was carried, and it was not taken yet";
            notes.block(
                "old side",
                found,
                "take migrate:cleanup:backup:carried_to out, and say it once the file is there",
            );
        }
        if let Some(node) = &self.holds {
            let found = "the last backup is on this node alone, or will be: so it is left running, with its minion";
            let mend = "carry it away once it was taken, say where to (migrate:cleanup:backup:carried_to), and type the same command again";
            notes.warn(&format!("old-{node}"), found, mend);
        }
        Ok(notes.findings)
    }
}

/// The servers of the old cloud that the pillar names.
pub struct OldNodesAre(pub Vec<Rc<OldNode>>);

impl Topic for OldNodesAre {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("old-nodes");
        for node in &self.0 {
            if let Some(another) = node.another().await? {
                let mend = format!("correct migrate:cleanup:old_nodes:{}; nothing else is touched", node.node);
                notes.block(&node.node, format!("{another}: not this node"), mend);
            }
            if let Some((found, mend)) = node.doubt().await? {
                notes.doubt(&node.node, found, mend);
            }
        }
        Ok(notes.findings)
    }
}
