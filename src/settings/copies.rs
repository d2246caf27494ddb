//! What a copy of a CDN service is called, and what of it differs on purpose.
//!
//! Invariant: no two copies share a name or a domain.

use super::Settings;
use super::check::wrong;
use crate::error::Result;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A copy of a service that serves test domains from the new side.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The name of the copy in the CDN account.
    pub name: String,
    /// What it serves: never a name that people use.
    pub domains: Vec<String>,
    /// Whether the domains are of the model in which no version holds them; else as those of the service itself.
    #[serde(default)]
    pub versionless: Option<bool>,
    /// Log endpoints that the copy has too, by name, with the fields that differ; all others are left out.
    #[serde(default)]
    pub logs: BTreeMap<String, BTreeMap<String, Value>>,
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    let mut names = BTreeMap::new();
    let mut domains = BTreeMap::new();
    for (service, copy) in settings
        .edge
        .iter()
        .flat_map(|edge| &edge.services)
        .filter_map(|(service, settings)| Some((service, settings.copy.as_ref()?)))
    {
        let path = |key: &str| format!("edge:services:{service}:copy:{key}");
        if copy.name.trim().is_empty() {
            return Err(wrong(&path("name"), "an empty name", "a name for the copy", "for example docs-copy"));
        }
        if let Some(first) = names.insert(copy.name.as_str(), service) {
            let hint = format!("the copy of {first} has it");
            return Err(wrong(&path("name"), &copy.name, "a name that no other copy has", &hint));
        }
        if copy.domains.is_empty() {
            let hint = "for example [docs-copy.example.org]: a test needs a name to ask for";
            return Err(wrong(&path("domains"), "an empty list", "at least one test domain", hint));
        }
        for domain in &copy.domains {
            if let Some(first) = domains.insert(domain.to_lowercase(), service) {
                let hint = format!("the copy of {first} has it");
                return Err(wrong(&path("domains"), domain, "a domain that no other copy has", &hint));
            }
        }
    }
    Ok(())
}
