//! The mark by which what we made is known in the cloud.
//!
//! Invariant: what does not carry it whole is not ours.

use super::{Port, SecurityGroup, Server, Volume};
use serde_json::{Value, json};

const KEY: &str = "saltext-migrate";

/// The word in a volume's metadata that says that nothing was ever on it: we take it away before the volume is attached for
/// the first time.
pub const BLANK: &str = "saltext-migrate-blank";

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

    /// The mark, with the name of one of a node's volumes, as the metadata of one that is new.
    pub fn volume_metadata(&self, volume: &str) -> Value {
        json!({KEY: self.site, format!("{KEY}-node"): self.name, format!("{KEY}-volume"): volume, BLANK: "yes"})
    }

    /// Tells whether a volume carries it; whichever of the node's it is, where no name is given.
    pub fn is_on_volume(&self, name: Option<&str>, volume: &Volume) -> bool {
        let has = |key: &str| volume.metadata.get(key).map(String::as_str);
        let called = has(&format!("{KEY}-volume"));
        has(KEY) == Some(&self.site)
            && has(&format!("{KEY}-node")) == Some(&self.name)
            && called.is_some()
            && (name.is_none() || called == name)
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
