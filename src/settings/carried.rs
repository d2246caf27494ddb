//! Trees of files that go from a node of one side to a node of the other, and how they are carried.

use super::{Settings, Side};
use crate::error::{Error, Result};
use serde::Deserialize;

/// A tree of files; on the new node it may have another place.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Tree {
    Same(String),
    Elsewhere { old: String, new: String },
}

impl Tree {
    /// Returns its place on a side.
    pub fn on(&self, side: Side) -> &str {
        match (self, side) {
            (Self::Same(path), _)
            | (Self::Elsewhere { old: path, .. }, Side::Old)
            | (Self::Elsewhere { new: path, .. }, Side::New) => path,
        }
    }
}

/// What a part of the pillar says of the files that it has carried.
#[derive(Debug, Clone, Copy)]
pub struct Carried<'a> {
    /// A node of the old side.
    pub old: &'a str,
    /// A node of the new side.
    pub new: &'a str,
    pub port: u16,
    pub paths: &'a [Tree],
    pub exclude: &'a [String],
    pub packages: &'a [String],
    pub folder: &'a str,
    pub limit: u64,
}

impl<'a> Carried<'a> {
    /// Returns the name of its node on a side.
    pub fn node(&self, side: Side) -> &'a str {
        match side {
            Side::Old => self.old,
            Side::New => self.new,
        }
    }

    /// Lists the trees as a side has them.
    pub fn paths(&self, side: Side) -> Vec<String> {
        self.paths.iter().map(|tree| tree.on(side).to_owned()).collect()
    }

    /// Lists what is left alone, as a side has it.
    pub fn excluded(&self, side: Side) -> Vec<String> {
        let place = |pattern: &String| {
            let below = |tree: &Tree| {
                let rest = pattern.strip_prefix(tree.on(Side::Old))?;
                rest.starts_with('/').then(|| format!("{}{rest}", tree.on(side)))
            };
            self.paths.iter().find_map(below).unwrap_or_else(|| pattern.clone())
        };
        self.exclude.iter().map(place).collect()
    }

    /// Refuses what is said of it at a place of the pillar.
    pub(super) fn consistent(&self, settings: &Settings, key: &str) -> Result<()> {
        let wrong = |path: &str, found: &str, expected: &str| Error::Settings {
            path: format!("migrate:{key}:{path}"),
            found: format!("{found:?}"),
            expected: expected.into(),
            hint: "pillar-example/migrate.sls shows every key".into(),
        };
        for side in [Side::Old, Side::New] {
            let name = self.node(side);
            if settings.node(side, name).is_none_or(|node| node.minion.is_none()) {
                let expected = format!("a node of migrate:nodes:{} that has a minion", side.word());
                return Err(wrong(side.word(), name, &expected));
            }
        }
        for path in self.paths(Side::Old).iter().chain(&self.paths(Side::New)) {
            let plain = path.starts_with('/') && !path.ends_with('/') && !path.contains([' ', ',', '\n', '\'']);
            if !plain || path.split('/').any(|part| part == "..") {
                return Err(wrong("paths", path, "a whole path, as /srv/code, without blanks and commas"));
            }
        }
        // Two programs read them, and only these they take for the same.
        for pattern in self.exclude {
            let whole = pattern.starts_with('/') && !pattern.ends_with('/') && !pattern.contains(['*', '?', '[', '\\']);
            if !whole && (pattern.is_empty() || pattern.contains('/')) {
                let expected =
                    "a name without /, as thumb or *.tmp, or a whole path, as /srv/images/thumb, without * ? [";
                return Err(wrong("exclude", pattern, expected));
            }
        }
        Ok(())
    }
}

/// What holds where the pillar says nothing.
pub(super) mod default {
    pub fn packages() -> Vec<String> {
        ["rsync", "socat", "openssl", "b3sum", "attr"].map(str::to_owned).into()
    }
    pub fn folder() -> String {
        "/var/lib/saltext-migrate/carry".into()
    }
    pub fn limit() -> u64 {
        14_400_000
    }
}
