//! What the migration keeps on the site's hosts: small files, read and written through their minions.
//!
//! Invariant: a file is written by atomic rename, and a host that does not answer is an error, never a success.

mod body;
mod certificate;
pub mod compare;
mod configuration;
pub mod page;
mod pass;
mod states;
mod trees;
mod tripwire;
mod urls;
mod vhost;
mod worker;

pub use configuration::{Text, live, rendered};
pub use pass::Pass;
pub use states::{Amiss, HostStates, States};
pub use trees::{ABSENT, Hashes, Lacking, Look, Trees};
pub use tripwire::{Counted, Crossing, MEMORY, ROOM, Watch, counted, rules};
pub use vhost::{Checked, check, lines};
pub use worker::{Brought, Standing, Work, Worker};

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::{Call, Outside};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A file on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostFile {
    pub host: String,
    pub path: String,
}

impl HostFile {
    /// Names the file in facts and messages.
    pub fn key(&self) -> String {
        format!("{}:{}", self.host, self.path)
    }
}

/// Reads files on hosts; what is not there is nothing.
///
/// A minion writes whole lines only, so a last line without an end is read as one: else what an abort puts back would be
/// neither as it was nor as it should be.
///
/// # Errors
/// [`Error::Remote`] where a host does not answer, or a file is there and cannot be read.
pub async fn read(outside: &Outside, files: &[HostFile], seconds: u64) -> Result<BTreeMap<String, Option<String>>> {
    let mut contents = BTreeMap::new();
    for (path, hosts) in by_path(files) {
        let answers = outside.call(&hosts, vec![Call::new("file.read", json!({"path": path}))], seconds).await?;
        for (host, said) in answers {
            let content = match said.into_iter().next() {
                Some(Ok(Value::String(text))) => Some(format!("{}\n", text.trim_end_matches('\n'))),
                Some(Err(problem)) if problem.contains("No such file or directory") => None,
                other => return Err(Error::remote(&host, format!("reading {path}: unexpected answer {other:?}"))),
            };
            contents.insert(HostFile { host, path: path.clone() }.key(), content);
        }
    }
    Ok(contents)
}

/// Writes files on hosts, or removes those whose content is nothing; one job for all hosts that shall have the same.
///
/// # Errors
/// [`Error::Remote`] where a host does not answer or refuses.
pub async fn write(
    outside: &Outside,
    _permit: &Permit,
    files: &[HostFile],
    contents: &BTreeMap<String, Option<String>>,
    seconds: u64,
) -> Result<()> {
    let mut groups: BTreeMap<(&str, Option<String>), Vec<String>> = BTreeMap::new();
    for file in files {
        let content = contents.get(&file.key()).cloned().flatten();
        groups.entry((&file.path, content)).or_default().push(file.host.clone());
    }
    for ((path, content), hosts) in groups {
        let calls = match content {
            // The reader sees the old file or the new one, never a half; a state run that is under way hinders nothing.
            Some(content) => {
                let half = format!("{path}.saltext-migrate");
                vec![
                    Call::new("file.makedirs", json!({"path": path})),
                    Call::new("file.write", json!({"path": half, "args": [content.trim_end_matches('\n')]})),
                    Call::new("file.set_mode", json!({"path": half, "mode": "0644"})),
                    Call::new("file.rename", json!({"src": half, "dst": path})),
                ]
            }
            None => vec![Call::new("file.remove", json!({"path": path}))],
        };
        for (host, said) in outside.call(&hosts, calls, seconds).await? {
            if let Some(Err(problem)) = said.into_iter().find(std::result::Result::is_err) {
                return Err(Error::remote(&host, format!("writing {path}: {problem}")));
            }
        }
    }
    Ok(())
}

/// Names the hosts that do not answer.
///
/// # Errors
/// [`Error::Remote`] where nobody could be asked.
pub async fn silent(outside: &Outside, hosts: &[String], seconds: u64) -> Result<Vec<String>> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let answers = outside.call_some(hosts, vec![Call::new("test.ping", json!({}))], seconds).await?;
    Ok(hosts.iter().filter(|host| !answers.contains_key(*host)).cloned().collect())
}

/// Tells which hosts answer.
pub async fn answering(outside: &Outside, hosts: &[String], seconds: u64) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    outside.call(hosts, vec![Call::new("test.ping", json!({}))], seconds).await.map(|_| ())
}

fn by_path(files: &[HostFile]) -> BTreeMap<String, Vec<String>> {
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        paths.entry(file.path.clone()).or_default().push(file.host.clone());
    }
    paths
}
