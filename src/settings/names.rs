//! DNS names that people reach without the CDN: an apex, a host of its own.
//!
//! Invariant: each has a value on either side, given or taken from its node.

use super::check::wrong;
use super::{Settings, Side, Sides};
use crate::error::Result;
use serde::Deserialize;
use std::net::IpAddr;

/// One DNS name, and what it says on each side.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The node whose public address it is.
    #[serde(default)]
    pub node: Option<String>,
    /// Its values, where they are no addresses of one node.
    #[serde(default)]
    pub values: Option<Sides<String>>,
    /// The type of the record, where it is no address.
    #[serde(default)]
    pub record: Option<String>,
    /// Seconds for which others keep it.
    pub ttl: u64,
}

impl Name {
    /// Returns the record's type and value on one side.
    pub fn on(&self, settings: &Settings, side: Side) -> Option<(String, String)> {
        let node = self.node.as_ref().and_then(|node| settings.node(side, node));
        let value = match &self.values {
            Some(values) => values.of(side).clone(),
            None => node?.public?.to_string(),
        };
        let record = match (&self.record, value.parse()) {
            (Some(record), _) => record.clone(),
            (None, Ok(IpAddr::V6(_))) => "AAAA".into(),
            (None, Ok(IpAddr::V4(_))) => "A".into(),
            (None, Err(_)) => "CNAME".into(),
        };
        Some((record, value))
    }
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    for (name, settings_of) in &settings.names {
        let path = format!("names:{name}");
        if settings_of.node.is_some() == settings_of.values.is_some() {
            let hint = "for example {node: app1, ttl: 300}";
            return Err(wrong(&path, "both of node and values, or neither", "one of them", hint));
        }
        for side in [Side::Old, Side::New] {
            if settings_of.on(settings, side).is_none() {
                let node = settings_of.node.clone().unwrap_or_default();
                let expected = format!("a node with a public address in migrate:nodes:{}", side.word());
                return Err(wrong(&format!("{path}:node"), &node, &expected, "set its public address, or give values"));
            }
        }
    }
    Ok(())
}
