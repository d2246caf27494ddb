//! Volumes of the old side: a node that has more of them than its new server gets is named before that one is made without;
//! and what is on them nobody here copies.

use super::{Notes, Topic};
use crate::cloud::{Cloud, Server};
use crate::error::Result;
use crate::event::Finding;
use crate::settings::WantedVolume;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// What old servers have beside their root disks.
pub struct VolumesLeft {
    pub cloud: Rc<Cloud>,
    /// The nodes that get a new server.
    pub nodes: BTreeMap<String, OldHome>,
}

/// A node as it is found in the old cloud, and what its new server gets.
pub struct OldHome {
    pub addresses: Vec<IpAddr>,
    pub asked: BTreeMap<String, WantedVolume>,
}

impl Topic for VolumesLeft {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("volumes");
        let servers = match self.cloud.servers().await {
            Ok(servers) => servers,
            // The old cloud's API may be gone, and the move goes on.
            Err(refusal) => {
                notes.warn(&self.cloud.name, refusal.to_string(), "look yourself whether old nodes have volumes");
                return Ok(notes.findings);
            }
        };
        for (node, home) in &self.nodes {
            let is = |server: &&Server| {
                server.addresses.iter().chain(&server.floating).any(|at| home.addresses.contains(at))
            };
            for server in servers.iter().filter(is) {
                let (volumes, from_volume) = (server.data_volumes(), server.image.is_none());
                if volumes.is_empty() {
                    continue;
                }
                let root = if from_volume { ", one of which it boots from" } else { "" };
                let has =
                    format!("its old server {} has {} volumes: {}{root}", server.id, volumes.len(), volumes.join(", "));
                let names: Vec<&str> = home.asked.keys().map(String::as_str).collect();
                let gets = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let found = format!("{has}; the new one gets {gets}, and nobody copies what is on them");
                if names.len() < volumes.len() - usize::from(from_volume) {
                    let mend = format!(
                        "ask for one in migrate:prepare:servers:{node}:volumes and carry its files, or say why nothing on it is needed"
                    );
                    notes.doubt(node, found, mend);
                } else {
                    notes.warn(
                        node,
                        found,
                        "carry the files yourself, as with rsync; databases are copied in any case",
                    );
                }
            }
        }
        Ok(notes.findings)
    }
}
