//! What is asked of both sides, and which of it may differ.
//!
//! Invariant: every service that is named here is one of `vhosts`, with a node of the same part on the old side.

use super::Settings;
use super::check::wrong;
use crate::error::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The value of `migrate:compare`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compare {
    /// Paths that are always asked for, by service of `vhosts`; the service's own path is always among them.
    pub paths: BTreeMap<String, Vec<String>>,
    /// The path of the sitemap, by service: it is read on the old side.
    pub sitemaps: BTreeMap<String, String>,
    /// An access log on this machine, by service: what is asked for most is asked for here.
    pub access_logs: BTreeMap<String, PathBuf>,
    /// How many paths of one service are asked for, at most.
    pub most: usize,
    /// How many paths are asked for at once.
    pub at_once: usize,
    /// Texts by which parts of a page are known that may differ.
    pub ignore: Vec<String>,
    /// Response headers that may differ.
    pub ignore_headers: Vec<String>,
    /// What must be refused on the new side.
    pub edits: Vec<Edit>,
    /// Where the notice of the test must show.
    pub notices: Vec<Shown>,
    /// By which ways: past the CDN, through the copied service, through the CDN's staging network.
    pub ways: Vec<WayName>,
    /// Days for which the new side's certificates must still be valid.
    pub certificate_days: f64,
    /// How many times as slow as the old side the new one may be.
    pub slower: f64,
    /// Hours for which a comparison holds.
    pub valid_hours: f64,
    /// Milliseconds for one answer.
    pub answer: u64,
}

impl Default for Compare {
    fn default() -> Self {
        Self {
            paths: BTreeMap::new(),
            sitemaps: BTreeMap::new(),
            access_logs: BTreeMap::new(),
            most: 200,
            at_once: 4,
            ignore: Vec::new(),
            ignore_headers: Vec::new(),
            edits: Vec::new(),
            notices: Vec::new(),
            ways: vec![WayName::Origin],
            certificate_days: 14.0,
            slower: 2.0,
            valid_hours: 72.0,
            answer: 15_000,
        }
    }
}

/// A way to the new side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WayName {
    Origin,
    Copy,
    Staged,
}

impl WayName {
    /// Returns the pillar's word for the way.
    pub fn word(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Copy => "copy",
            Self::Staged => "staged",
        }
    }
}

/// An edit that must not be saved.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub vhost: String,
    pub path: String,
    /// The fields of the form, as a browser would send them.
    pub form: BTreeMap<String, String>,
    /// What the refusal holds.
    pub refused: String,
}

/// A page that shows the notice of the test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    pub vhost: String,
    pub path: String,
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    let Some(compare) = &settings.compare else { return Ok(()) };
    let known = |path: String, name: &str| match settings.vhosts.get(name) {
        Some(vhost) if settings.nodes.old.contains_key(&vhost.node) => Ok(()),
        Some(vhost) => {
            let hint = "the old side is asked at the node of the same name";
            Err(wrong(&path, &vhost.node, "a node of migrate:nodes:old too", hint))
        }
        None => {
            let all: Vec<&str> = settings.vhosts.keys().map(String::as_str).collect();
            let expected = format!("one of migrate:vhosts: {}", all.join(", "));
            Err(wrong(&path, name, &expected, "add the service to migrate:vhosts, or correct its name"))
        }
    };
    for (key, names) in [
        ("paths", compare.paths.keys().collect::<Vec<_>>()),
        ("sitemaps", compare.sitemaps.keys().collect()),
        ("access_logs", compare.access_logs.keys().collect()),
        ("edits", compare.edits.iter().map(|edit| &edit.vhost).collect()),
        ("notices", compare.notices.iter().map(|shown| &shown.vhost).collect()),
    ] {
        for name in names {
            known(format!("compare:{key}:{name}"), name)?;
        }
    }
    if settings.vhosts.is_empty() {
        return Err(wrong(
            "compare",
            "no service to compare",
            "services in migrate:vhosts",
            "describe what people call",
        ));
    }
    for name in settings.vhosts.keys() {
        known(format!("vhosts:{name}:node"), name)?;
    }
    if !(1..=64).contains(&compare.at_once) {
        return Err(wrong("compare:at_once", &compare.at_once.to_string(), "a number from 1 to 64", "4 is gentle"));
    }
    for path in compare.paths.values().flatten().chain(compare.sitemaps.values()) {
        if !path.starts_with('/') {
            return Err(wrong("compare:paths", path, "a path that begins with /", "for example /wiki/Main_Page"));
        }
    }
    Ok(())
}
