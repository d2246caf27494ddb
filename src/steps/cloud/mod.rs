//! The facts of a new cloud: groups, keys, ports, servers, volumes. One kind per file.
//!
//! Invariant: what is there is found by its mark and taken over, never made twice; what carries no mark of ours is never
//! changed. Nothing here is undone by an abort: a cloud half built is gone on with, and only clean-up removes.

mod key_pair;
mod old_node;
mod port;
mod removed;
mod security_group;
mod server;
mod server_group;
mod volume;

pub use key_pair::{KeyPairImported, same_key};
pub use old_node::{Leaving, OldNode, OldNodeLeaves};
pub use port::{PortMade, Reserved};
pub use removed::{Removed, Thing};
pub use security_group::{RulesSet, SecurityGroupMade};
pub use server::{Machine, ServerMade, ServerUp};
pub use server_group::ServerGroupMade;
pub use volume::{Disk, VolumeAttached, VolumeMade};

use crate::cloud::flavor::{Match, Need, matched};
use crate::cloud::{Answer, Cloud, Image, Mark, Network, NewRule, Pace, Refusal, Server, Status};
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::settings::{Node, Prepare, Wanted};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Why an abort leaves what prepare made.
const STAYS: &str = "it is marked and goes on to be used by the next run; only clean-up removes what was made";

/// How often an answer that may mean too much, or too late, is followed by another try.
const TRIES: u32 = 5;

/// A project of the new cloud, and what is to stand in it.
pub struct Project {
    pub cloud: Cloud,
    pub pace: Pace,
    pub prepare: Prepare,
    pub nodes: BTreeMap<String, Node>,
    pub outside: Outside,
    /// The ports that this process made and has not given to any request.
    pub unused_ports: RefCell<BTreeSet<String>>,
}

impl Project {
    /// Marks what is called so.
    pub fn mark(&self, name: &str) -> Mark {
        Mark::new(&self.prepare.site, name)
    }

    /// Finds the servers that carry a node's mark, also those that are being deleted, the healthiest first.
    pub fn marked<'a>(&self, node: &str, servers: &'a [Server]) -> Vec<&'a Server> {
        let mark = self.mark(node);
        let mut found: Vec<&Server> = servers.iter().filter(|server| mark.is_on(server)).collect();
        let health = |status| match status {
            Status::Active => 0,
            Status::Building => 1,
            Status::Other => 2,
            Status::Error => 3,
            Status::Deleting => 4,
        };
        found.sort_by(|one, other| (health(one.status), &one.id).cmp(&(health(other.status), &other.id)));
        found
    }

    /// Finds the servers that a node has, or will have, the healthiest first.
    pub fn ours<'a>(&self, node: &str, servers: &'a [Server]) -> Vec<&'a Server> {
        let mut found = self.marked(node, servers);
        found.retain(|server| server.status != Status::Deleting);
        found
    }

    /// Finds the network of the new side.
    ///
    /// # Errors
    /// [`Error::Settings`] where there is none, or more than one, of the name.
    pub async fn network(&self) -> Result<Network> {
        let networks = self.cloud.networks().await?;
        let name = &self.prepare.network;
        let found: Vec<&Network> =
            networks.iter().filter(|network| network.name == *name || network.id == *name).collect();
        if let [network] = found[..] {
            return Ok(network.clone());
        }
        let all: Vec<&str> = networks.iter().map(|network| network.name.as_str()).collect();
        Err(Error::Settings {
            path: "migrate:prepare:network".into(),
            found: format!("{name:?}, of which there are {}", found.len()),
            expected: format!("one of {}", all.join(", ")),
            hint: "name a network of the new cloud, or give its id".into(),
        })
    }

    /// Finds the image of a server.
    ///
    /// # Errors
    /// [`Error::Settings`] where there is none, or more than one, of the name, or it is not ready.
    pub async fn image(&self, node: &str, wanted: &Wanted) -> Result<Image> {
        let images = self.cloud.images().await?;
        let name = self.prepare.image_of(wanted).unwrap_or_default();
        let found: Vec<&Image> = images.iter().filter(|image| image.name == name || image.id == name).collect();
        let found = match found[..] {
            [image] if image.active => return Ok(image.clone()),
            [_] => format!("{name:?}, which is not active"),
            _ => format!("{name:?}, of which there are {}", found.len()),
        };
        let all: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        Err(Error::Settings {
            path: format!("migrate:prepare:servers:{node}:image"),
            found,
            expected: format!("one active image, by name or id: {}", all.join(", ")),
            hint: "upload the image to the new cloud, or name another".into(),
        })
    }

    /// Matches a flavor to a server.
    pub async fn flavor(&self, wanted: &Wanted, image: Option<&Image>) -> Answer<Match> {
        Ok(matched(&Need::new(wanted, self.prepare.allow_smaller, image), &self.cloud.flavors().await?))
    }

    /// Finds the ids of security groups, by name: our own by their mark, others as they are.
    ///
    /// # Errors
    /// [`Error::Remote`] where one is not there.
    pub async fn group_ids(&self, names: &[String]) -> Result<Vec<String>> {
        let groups = self.cloud.security_groups().await?;
        names
            .iter()
            .map(|name| {
                let ours = self.prepare.security_groups.contains_key(name).then(|| self.mark(name));
                let fits = |group: &&crate::cloud::SecurityGroup| match &ours {
                    Some(mark) => mark.is_on_group(group),
                    None => group.name == *name || group.id == *name,
                };
                groups
                    .iter()
                    .find(fits)
                    .map(|group| group.id.clone())
                    .ok_or_else(|| Error::remote(&self.cloud.name, format!("there is no security group {name}")))
            })
            .collect()
    }

    /// Builds the rules of a group of ours, each with its key in names of groups and in ids of groups.
    fn rules(&self, name: &str, ids: &BTreeMap<String, String>) -> Vec<(String, NewRule)> {
        let rules = self.prepare.security_groups.get(name).map(|group| group.rules.as_slice()).unwrap_or_default();
        rules
            .iter()
            .map(|rule| {
                let group = self.prepare.security_groups.contains_key(&rule.from).then(|| rule.from.clone());
                let named = NewRule {
                    protocol: rule.protocol.clone(),
                    ports: rule.ports.as_ref().and_then(crate::settings::Ports::range),
                    six: group.is_none() && rule.from.contains(':'),
                    network: group.is_none().then(|| rule.from.clone()),
                    group,
                };
                let key = named.key();
                let group = named.group.as_ref().and_then(|name| ids.get(name).cloned());
                (key, NewRule { group, ..named })
            })
            .collect()
    }

    /// Asks until the answer is clear: what may have been done all the same is looked for before it is asked again.
    ///
    /// # Errors
    /// The refusal, at once where the cloud said no, else after the last try.
    async fn ask_clearly<T>(
        &self,
        ask: impl AsyncFn() -> Answer<T>,
        done: impl AsyncFn() -> Answer<Option<T>>,
    ) -> Result<T> {
        let mut tried = 0;
        loop {
            let refusal = match ask().await {
                Ok(made) => {
                    self.pace.went_well();
                    return Ok(made);
                }
                Err(refusal) => refusal,
            };
            tried += 1;
            if !refusal.busy() && !refusal.unclear() {
                // After an answer that was not clear a no may mean: it is there already.
                let made = if tried > 1 { done().await? } else { None };
                return made.ok_or_else(|| refusal.into());
            }
            self.pace.too_much(self.rest(&refusal, tried));
            // Late is not never: a request that timed out here may still be worked on there.
            for look in 0..3 {
                if look > 0 {
                    self.unless_interrupted(tokio::time::sleep(self.tick())).await?;
                }
                match done().await {
                    Ok(Some(made)) => return Ok(made),
                    Ok(None) if refusal.busy() => break,
                    Ok(None) => {}
                    Err(again) if tried >= TRIES => return Err(again.into()),
                    Err(_) => {}
                }
            }
            if tried >= TRIES {
                return Err(refusal.into());
            }
            self.unless_interrupted(tokio::time::sleep(self.rest(&refusal, tried))).await?;
        }
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(self.prepare.deadlines.tick)
    }

    /// Looks at what is on its way. A look that failed changes nothing and is repeated.
    async fn look_again<T>(&self, limit: Instant, look: impl AsyncFn() -> Answer<T>) -> Result<T> {
        loop {
            match self.unless_interrupted(look()).await? {
                Ok(found) => return Ok(found),
                Err(refusal) if (refusal.busy() || refusal.unclear()) && Instant::now() < limit => {
                    let rest = refusal.retry_after.unwrap_or(self.tick());
                    self.pace.too_much(rest);
                    self.unless_interrupted(tokio::time::sleep(rest)).await?;
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// Lets a wait go on until its limit.
    fn in_time(&self, limit: Instant, what: &str) -> Result<()> {
        if Instant::now() < limit {
            return Ok(());
        }
        Err(Error::Deadline { what: what.to_owned(), limit_ms: self.prepare.deadlines.server })
    }

    fn rest(&self, refusal: &Refusal, tried: u32) -> Duration {
        refusal
            .retry_after
            .unwrap_or_else(|| self.tick().saturating_mul(1 << tried.min(4)))
            .min(Duration::from_secs(60))
    }

    /// Waits for something that may take long, or until somebody asks the run to end.
    async fn unless_interrupted<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            came = wait => Ok(came),
            why = self.outside.interrupted() => Err(Error::Interrupted(why)),
        }
    }
}
