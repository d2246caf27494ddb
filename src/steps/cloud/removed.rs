//! Whether what prepare made for the time of the move alone is gone again.
//!
//! Invariant: what carries no mark of ours is not seen here at all, whatever it is called; so nothing else can be deleted.

use super::{Project, same_key};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    Server,
    Port,
    SecurityGroup,
    KeyPair,
    ServerGroup,
    /// Every volume of a server of that name.
    Volume,
}

/// The ids of those that carry our mark for a name; none, in the end.
pub struct Removed {
    pub project: Rc<Project>,
    pub thing: Thing,
    pub name: String,
}

impl Removed {
    async fn ours(&self) -> Result<BTreeSet<String>> {
        let (cloud, mark) = (&self.project.cloud, self.project.mark(&self.name));
        Ok(match self.thing {
            Thing::Server => {
                let servers = cloud.servers().await?;
                self.project.marked(&self.name, &servers).iter().map(|server| server.id.clone()).collect()
            }
            Thing::Port => {
                let ports = cloud.ports().await?;
                ports.iter().filter(|port| mark.is_on_port(port)).map(|port| port.id.clone()).collect()
            }
            Thing::SecurityGroup => {
                let groups = cloud.security_groups().await?;
                groups.iter().filter(|group| mark.is_on_group(group)).map(|group| group.id.clone()).collect()
            }
            Thing::ServerGroup => {
                let groups = cloud.server_groups().await?;
                let name = mark.name();
                groups.iter().filter(|group| group.name == name).map(|group| group.id.clone()).collect()
            }
            Thing::Volume => {
                let volumes = cloud.volumes().await?;
                volumes
                    .iter()
                    .filter(|volume| mark.is_on_volume(None, volume))
                    .map(|volume| volume.id.clone())
                    .collect()
            }
            Thing::KeyPair => {
                // It bears no mark: the name and the key together are one.
                let wanted = self.project.prepare.key_pairs.get(&self.name).cloned().unwrap_or_default();
                let pairs = cloud.key_pairs().await?;
                let ours =
                    |pair: &&crate::cloud::KeyPair| pair.name == self.name && same_key(&pair.public_key, &wanted);
                pairs.iter().filter(ours).map(|pair| pair.name.clone()).collect()
            }
        })
    }

    async fn delete(&self, permit: &Permit, id: &str) -> Result<()> {
        let cloud = &self.project.cloud;
        let answer = match self.thing {
            Thing::Server => cloud.delete_server(permit, id).await,
            Thing::Port => cloud.delete_port(permit, id).await,
            Thing::SecurityGroup => cloud.delete_security_group(permit, id).await,
            Thing::KeyPair => cloud.delete_key_pair(permit, id).await,
            Thing::ServerGroup => cloud.delete_server_group(permit, id).await,
            Thing::Volume => cloud.delete_volume(permit, id).await,
        };
        Ok(answer?)
    }
}

impl Step for Removed {
    type Fact = BTreeSet<String>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Self::Fact, ()>> {
        Ok(Seen { fact: self.ours().await?, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Self::Fact> {
        Ok(BTreeSet::new())
    }

    async fn set(&self, permit: &Permit, to: &Self::Fact, _earlier: &Earlier) -> Result<Seen<Self::Fact, ()>> {
        let limit_ms = self.project.prepare.deadlines.server;
        let until = Instant::now() + Duration::from_millis(limit_ms);
        for id in self.ours().await?.difference(to) {
            self.delete(permit, id).await?;
        }
        // Servers and volumes go after the answer, not before it; the API has no wait for that.
        loop {
            let seen = self.observe().await?;
            if seen.fact == *to {
                return Ok(seen);
            }
            if Instant::now() >= until {
                let what = format!("{}: the end of {}", self.project.cloud.name, self.name);
                return Err(Error::Deadline { what, limit_ms });
            }
            tokio::time::sleep(Duration::from_millis(self.project.prepare.deadlines.tick)).await;
        }
    }

    fn undo(&self) -> Undo<Self::Fact> {
        Undo::Leave("what was deleted is gone; prepare makes it again")
    }

    fn half_done(&self, found: &Self::Fact, old: &Self::Fact, new: &Self::Fact) -> bool {
        new.is_subset(found) && found.is_subset(old)
    }
}
