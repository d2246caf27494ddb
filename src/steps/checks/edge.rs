//! Whether every CDN service can be switched.

use super::{Notes, Topic};
use crate::edge::Fastly;
use crate::error::Result;
use crate::event::Finding;
use crate::settings::{Edge, Purge};
use std::collections::BTreeSet;

/// The services, and the addresses that nodes own.
pub struct EdgeReady {
    pub fastly: Fastly,
    pub edge: Edge,
    /// Addresses of either side that have a counterpart on the other.
    pub owned: BTreeSet<String>,
}

impl Topic for EdgeReady {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("edge");
        match self.fastly.scopes().await {
            Ok(scopes) if scopes.iter().any(|scope| scope == "global") => {}
            Ok(scopes) => notes.block(
                "token",
                format!("its scopes are [{}]", scopes.join(", ")),
                "make a token of scope global for these services",
            ),
            Err(error) => {
                notes.block("token", error.to_string(), "correct migrate:edge:token and migrate:edge:api");
                return Ok(notes.findings);
            }
        }
        for (name, service) in &self.edge.services {
            match self.fastly.active(&service.id).await {
                Ok(Some(active)) => {
                    for (backend, address) in &active.backends {
                        if !self.owned.contains(address) && !service.leave.contains(backend) {
                            let mend = format!(
                                "give the node with {address} a counterpart in migrate:nodes, or name {backend} in migrate:edge:services:{name}:leave"
                            );
                            notes.block(
                                name,
                                format!("backend {backend} points to {address}, which no node of both sides owns"),
                                mend,
                            );
                        }
                    }
                }
                Ok(None) => notes.block(
                    name,
                    "it has no active version",
                    "activate one, or take it out of migrate:edge:services",
                ),
                Err(error) => notes.block(name, error.to_string(), format!("correct migrate:edge:services:{name}:id")),
            }
            if service.probe.is_none() {
                notes.warn(
                    name,
                    "it has no probe, so the API's word is taken for the edge's",
                    format!("set migrate:edge:services:{name}:probe"),
                );
            }
            if service.purge == Purge::Nothing {
                notes.warn(
                    name,
                    "nothing is purged, so pages cached before the switch live on",
                    format!("set migrate:edge:services:{name}:purge"),
                );
            }
        }
        Ok(notes.findings)
    }
}
