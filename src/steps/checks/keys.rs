//! Whether keys can be what they are asked to be: those that people log in with, and those of new minions.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::steps::cloud::{Project, same_key};
use std::rc::Rc;

/// Key pairs in the cloud, and keys of minions on the controller.
pub struct KeysFree(pub Rc<Project>);

impl Topic for KeysFree {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("keys");
        let project = &self.0;
        let pairs = project.cloud.key_pairs().await?;
        for (name, key) in &project.prepare.key_pairs {
            if pairs.iter().any(|pair| pair.name == *name && !same_key(&pair.public_key, key)) {
                let mend =
                    format!("give migrate:prepare:key_pairs:{name} another name, or delete the one in the cloud");
                notes.block(name, "the cloud has another key under this name", mend);
            }
        }
        let there = |name: &&String| pairs.iter().any(|pair| pair.name == **name);
        let new = project.prepare.key_pairs.keys().filter(|name| !there(name)).count() as u64;
        if new > 0 {
            notes.within("key_pairs", new, pairs.len() as u64, project.cloud.limits().await?.key_pairs);
        }
        for (node, wanted) in &project.prepare.servers {
            let Some(name) = &wanted.key_pair else { continue };
            if !project.prepare.key_pairs.contains_key(name) && !pairs.iter().any(|pair| pair.name == *name) {
                let mend = format!("put the public key into migrate:prepare:key_pairs:{name}");
                notes.block(node, format!("there is no key pair {name}"), mend);
            }
        }
        let servers = project.cloud.servers().await?;
        let missing: Vec<String> = project
            .prepare
            .servers
            .keys()
            .filter(|node| project.ours(node, &servers).is_empty())
            .filter_map(|node| project.nodes.get(node).and_then(|node| node.minion.clone()))
            .collect();
        if !missing.is_empty() {
            for minion in project.outside.known(&missing).await? {
                let mend = "delete that key on the controller, or give the node another minion id";
                notes.block(&minion, "a key of this minion is accepted already, and its server is not there", mend);
            }
        }
        Ok(notes.findings)
    }
}
