//! Files that people write through the site, as pictures of a wiki: they lie beside the databases, and move with them.

use super::carried::{Carried, Tree, default};
use super::{Settings, Side};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The nodes on which such files lie, and which they are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uploads {
    /// A node of the old side.
    pub old: String,
    /// A node of the new side.
    pub new: String,
    /// The port of either node over which the files come in.
    #[serde(default = "port")]
    pub port: u16,
    pub paths: Vec<Tree>,
    /// Names, or whole paths of the old node, that stay where they are, as thumbnails that are made anew.
    #[serde(default)]
    pub exclude: Vec<String>,
    #[serde(default = "default::packages")]
    pub packages: Vec<String>,
    /// Where both nodes keep what they need for it.
    #[serde(default = "default::folder")]
    pub folder: String,
    /// Milliseconds for all passes of one step.
    #[serde(default = "default::limit")]
    pub limit: u64,
}

impl Uploads {
    /// Returns what is carried.
    pub fn carried(&self) -> Carried<'_> {
        Carried {
            old: &self.old,
            new: &self.new,
            port: self.port,
            paths: &self.paths,
            exclude: &self.exclude,
            packages: &self.packages,
            folder: &self.folder,
            limit: self.limit,
        }
    }
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    let mut doors: BTreeMap<(Side, &str, u16), &str> = BTreeMap::new();
    let deployment = settings.prepare.as_ref().and_then(|prepare| prepare.deployment.as_ref());
    if let Some(deployment) = deployment {
        doors.insert((Side::New, &deployment.new, deployment.port), "prepare:deployment");
    }
    for (name, uploads) in &settings.uploads {
        let key = format!("uploads:{name}");
        let carried = uploads.carried();
        carried.consistent(settings, &key)?;
        let wrong = |path: &str, found: String, expected: &str| Error::Settings {
            path: format!("migrate:{key}{path}"),
            found,
            expected: expected.into(),
            hint: "pillar-example/migrate.sls shows every key".into(),
        };
        // It names steps, and folders on hosts.
        if name.is_empty() || !name.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_".contains(sign)) {
            return Err(wrong("", format!("the name {name:?}"), "letters, digits, - and _"));
        }
        if uploads.paths.is_empty() {
            return Err(wrong(":paths", "no path".into(), "the trees in which people's files lie"));
        }
        // They are carried at one time.
        for side in [Side::Old, Side::New] {
            if let Some(other) = doors.insert((side, carried.node(side), uploads.port), name) {
                return Err(wrong(":port", uploads.port.to_string(), &format!("another port than that of {other}")));
            }
        }
    }
    Ok(())
}

fn port() -> u16 {
    4446
}
