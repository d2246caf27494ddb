//! The names that people use, and the node of the new side that serves each.

use super::Node;
use super::check::wrong;
use crate::error::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One service as people see it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vhost {
    /// The host names; the first is the canonical one.
    pub hosts: Vec<String>,
    /// The node of the new side that serves them.
    pub node: String,
    #[serde(default = "default_path")]
    pub path: String,
    #[serde(default = "default_scheme")]
    pub scheme: Scheme,
    /// The scheme's own where it is left out.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default = "default_status")]
    pub status: u16,
    /// What the page must hold.
    #[serde(default)]
    pub holds: Option<String>,
    /// A certificate authority beside the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// How a service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// Returns the word of URLs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the port that URLs leave out.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

fn default_path() -> String {
    "/".into()
}

fn default_scheme() -> Scheme {
    Scheme::Https
}

fn default_status() -> u16 {
    200
}

/// Refuses a service without a host name, on an unknown node, or with a path that is none.
pub(super) fn check(vhosts: &BTreeMap<String, Vhost>, nodes: &BTreeMap<String, Node>) -> Result<()> {
    for (name, vhost) in vhosts {
        let path = |key: &str| format!("vhosts:{name}:{key}");
        if vhost.hosts.is_empty() {
            return Err(wrong(&path("hosts"), "an empty list", "at least one host name", "name what people type"));
        }
        if !nodes.contains_key(&vhost.node) {
            let known: Vec<&str> = nodes.keys().map(String::as_str).collect();
            let expected = format!("one of migrate:nodes:new: {}", known.join(", "));
            return Err(wrong(&path("node"), &vhost.node, &expected, "add the node, or correct its name"));
        }
        if !vhost.path.starts_with('/') {
            return Err(wrong(&path("path"), &vhost.path, "a path that begins with /", "for example /wiki/Main_Page"));
        }
    }
    Ok(())
}
