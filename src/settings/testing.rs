//! The time in which people try the new side: what they read, and what must run on one side alone.
//!
//! Invariant: what is held names one thing that a host can stop: a service, or a file of cron's.

use super::check::wrong;
use super::{Settings, Side};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The value of `migrate:test`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Testing {
    /// What testers read where they would save.
    #[serde(default = "notice")]
    pub notice: String,
    #[serde(default)]
    pub noindex: Option<Noindex>,
    #[serde(default)]
    pub announcement: Option<Announcement>,
}

impl Settings {
    /// Writes what people read on the new side before it serves.
    pub fn mirror_notice(&self) -> String {
        let told = self.test.as_ref().map_or_else(notice, |testing| testing.notice.clone());
        format!("{}\n", told.trim_end())
    }
}

fn notice() -> String {
    "This is a test site: edits are not saved.".into()
}

/// How search engines are kept out of the new side.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Noindex {
    /// A file that the web server reads.
    #[serde(default = "noindex_path")]
    pub path: String,
    #[serde(default = "noindex_content")]
    pub content: String,
    /// The service that is reloaded.
    #[serde(default)]
    pub service: Option<String>,
}

fn noindex_path() -> String {
    "/etc/nginx/conf.d/saltext-migrate-noindex.conf".into()
}

fn noindex_content() -> String {
    "add_header X-Robots-Tag \"noindex, nofollow\" always;\n".into()
}

/// What the community is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// When the move is to be, in words.
    pub when: String,
    /// Whom to tell what is wrong.
    pub contact: String,
    /// What will not work, beyond saving.
    #[serde(default)]
    pub limits: Vec<String>,
    /// Another text, with {when}, {contact}, {hosts}, {domains}, {limits} and {notice} in it.
    #[serde(default)]
    pub template: Option<String>,
}

/// What must run on one side alone: a job runner, a bot, a mail queue, a dump.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Singleton {
    /// The node that runs it, by its name on both sides.
    pub node: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A file below /etc/cron.d, or the crontab of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
}

/// What stands still from before the window until clean-up or revert.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Freeze {
    /// A file whose presence keeps people and tools from deploying.
    pub lock: Option<String>,
    /// Nodes of both sides that have it.
    pub nodes: Vec<String>,
    /// Whether the database hosts apply no highstate.
    pub highstate: bool,
    /// Files of cron on the database hosts that rest, as those of [`Singleton::cron`].
    pub crons: Vec<String>,
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    for (name, singleton) in &settings.singletons {
        let path = format!("singletons:{name}");
        match (&singleton.service, &singleton.cron) {
            (Some(_), None) => {}
            (None, Some(file))
                if file.starts_with('/') && !file.rsplit('/').next().is_some_and(|n| n.contains('.')) => {}
            (None, Some(file)) => {
                let hint = "cron reads no file with a dot in its name, and that is how one is held";
                return Err(wrong(
                    &format!("{path}:cron"),
                    file,
                    "a whole path without a dot in the file's name",
                    hint,
                ));
            }
            _ => {
                let hint = "for example {node: app1, service: mw-jobs}, or {node: db1, cron: /etc/cron.d/dump}";
                return Err(wrong(&path, "both or neither", "one of `service` and `cron`", hint));
            }
        }
        for side in [Side::Old, Side::New] {
            host(settings, &path, side, &singleton.node)?;
        }
    }
    if let Some(freeze) = &settings.freeze {
        for node in &freeze.nodes {
            let path = format!("freeze:nodes:{node}");
            if [Side::Old, Side::New].iter().all(|side| settings.node(*side, node).is_none()) {
                return Err(wrong(&path, node, "a node of either side", "add the node, or correct its name"));
            }
        }
        let (old, new) = (&settings.databases.old, &settings.databases.new);
        let primaries = [&old.primary, &new.primary].into_iter();
        let databases: Vec<&String> = primaries.chain(&old.replicas).chain(&new.replicas).chain(&new.relay).collect();
        for (index, cron) in freeze.crons.iter().enumerate() {
            let both = settings
                .singletons
                .iter()
                .find(|(_, one)| one.cron.as_ref() == Some(cron) && databases.contains(&&one.node));
            if let Some((name, one)) = both {
                let hint =
                    format!("migrate:singletons:{name} holds it on {} already: take it out of one of them", one.node);
                return Err(wrong(&format!("freeze:crons:{index}"), cron, "a file that no singleton holds", &hint));
            }
        }
        if freeze.nodes.is_empty() != freeze.lock.is_none() {
            let hint = "for example freeze: {lock: /srv/deploy.lock, nodes: [deployment]}";
            return Err(wrong("freeze", "a lock without nodes, or nodes without a lock", "both, or neither", hint));
        }
    }
    let empty = settings.test.as_ref().is_some_and(|testing| testing.notice.trim().is_empty());
    if empty {
        let hint = "for example 'This is a test site: edits are not saved.'";
        return Err(wrong("test:notice", "an empty text", "what testers shall read where they would save", hint));
    }
    Ok(())
}

fn host(settings: &Settings, path: &str, side: Side, node: &str) -> Result<()> {
    match settings.node(side, node) {
        Some(found) if found.minion.is_some() => Ok(()),
        _ => {
            let expected = format!("a node of migrate:nodes:{} that has a minion", side.word());
            Err(wrong(&format!("{path}:node"), node, &expected, "it is stopped and started through its minion"))
        }
    }
}
