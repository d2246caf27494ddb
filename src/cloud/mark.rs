//! The mark by which what we made is known in the cloud.
//!
//! Invariant: what does not carry it whole is not ours.

use super::{Port, SecurityGroup, Server};
use serde_json::{Value, json};

const KEY: &str = "saltext-migrate";

/// The mark of one thing of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    site: String,
    name: String,
}

impl Mark {
    /// Marks what is called so in the pillar.
    pub fn new(site: &str, name: &str) -> Self {
        Self { site: site.to_owned(), name: name.to_owned() }
    }

    /// The mark as a server's metadata.
    pub fn metadata(&self) -> Value {
        json!({KEY: self.site, format!("{KEY}-node"): self.name})
    }

    /// The mark as a description, where there is no metadata.
    pub fn description(&self) -> String {
        format!("{KEY} {} {}", self.site, self.name)
    }

    /// The mark as a name, where there is neither.
    pub fn name(&self) -> String {
        format!("{KEY}-{}-{}", self.site, self.name)
    }

    /// Tells whether a server carries it.
    pub fn is_on(&self, server: &Server) -> bool {
        let has = |key: &str, value: &str| server.metadata.get(key).is_some_and(|found| found == value);
        has(KEY, &self.site) && has(&format!("{KEY}-node"), &self.name)
    }

    /// Tells whether a port carries it.
    pub fn is_on_port(&self, port: &Port) -> bool {
        port.description == self.description()
    }

    /// Tells whether a security group carries it.
    pub fn is_on_group(&self, group: &SecurityGroup) -> bool {
        group.description == self.description()
    }
}
