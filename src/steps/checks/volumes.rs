//! Volumes of the old side: prepare makes none, so a node that has some is named before its new server is made without.

use super::{Notes, Topic};
use crate::cloud::{Cloud, Server};
use crate::error::Result;
use crate::event::Finding;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// What old servers have beside their root disks.
pub struct VolumesLeft {
    pub cloud: Rc<Cloud>,
    /// The nodes that get a new server, each with its old addresses.
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
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
        for (node, addresses) in &self.nodes {
            let is =
                |server: &&Server| server.addresses.iter().chain(&server.floating).any(|at| addresses.contains(at));
            for server in servers.iter().filter(is) {
                let volumes = server.data_volumes();
                if volumes.is_empty() {
                    continue;
                }
                let root = if server.image.is_none() { ", one of which it boots from" } else { "" };
                let found = format!(
                    "its old server {} has {} volumes that are neither made nor copied: {}{root}",
                    server.id,
                    volumes.len(),
                    volumes.join(", ")
                );
                notes.doubt(
                    node,
                    found,
                    "make a volume for the new server and carry its files, or say why nothing on it is needed",
                );
            }
        }
        Ok(notes.findings)
    }
}
