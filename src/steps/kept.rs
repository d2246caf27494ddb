//! What clean-up left standing, and why; and what people must still change.

use super::cloud::Project;
use super::deed::Deed;
use crate::cloud::{Answer, Cloud, Volume};
use crate::edge::Fastly;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::Outside;
use crate::step::Earlier;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Lists the volumes of a cloud; none where it has no such service.
async fn volumes(cloud: &Cloud) -> Answer<Rc<Vec<Volume>>> {
    match cloud.block_storage().await? {
        Some(_) => cloud.volumes().await,
        None => Ok(Rc::default()),
    }
}

/// Where is looked.
pub struct Kept {
    pub new: Option<Project>,
    pub old: Option<Cloud>,
    /// The id of the old side's server that alone has the last backup.
    pub holder: Option<String>,
    pub fastly: Option<Fastly>,
    /// The pillar's names of the CDN services, by id.
    pub services: BTreeMap<String, String>,
    /// Database accounts of the migration that stay.
    pub accounts: Vec<String>,
    pub outside: Outside,
    /// The minions of nodes that stay, each with why.
    pub minions: BTreeMap<String, &'static str>,
    pub rotate: Vec<String>,
}

/// One thing that stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// `server`, `port`, `volume`, `security group`, `server group`, `key pair`, `service`, `minion key`, `database account`.
    pub what: String,
    pub place: String,
    pub name: String,
    pub id: String,
    pub why: String,
}

/// Everything that stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    pub kept: Vec<Standing>,
    pub rotate: Vec<String>,
}

const FOREIGN: &str = "it does not carry our mark";
/// Why something stays.
pub const SITE: &str = "the site lives by it";
const NOT_OURS: &str = "of the old cloud only servers go";
pub const UNNAMED: &str = "migrate:cleanup:old_nodes does not name it";
pub const HOLDS: &str =
    "the last backup is there alone: once it was carried away, say so in migrate:cleanup:backup:carried_to";

impl Kept {
    async fn new_side(&self, project: &Project, kept: &mut Vec<Standing>) -> Result<()> {
        let cloud = &project.cloud;
        let why = |ours: bool| if ours { SITE } else { FOREIGN }.to_owned();
        let mut note = |what: &str, name: &str, id: &str, ours: bool| {
            kept.push(Standing {
                what: what.into(),
                place: cloud.name.clone(),
                name: name.into(),
                id: id.into(),
                why: why(ours),
            });
        };
        for server in cloud.servers().await?.iter() {
            let ours = project.prepare.servers.keys().any(|node| project.mark(node).is_on(server));
            note("server", &server.name, &server.id, ours);
        }
        for port in cloud.ports().await?.iter() {
            let ours = project.prepare.servers.keys().any(|node| project.mark(node).is_on_port(port));
            note("port", &port.name, &port.id, ours);
        }
        if cloud.block_storage().await?.is_some() {
            for volume in cloud.volumes().await?.iter() {
                let ours = project.prepare.servers.keys().any(|node| project.mark(node).is_on_volume(None, volume));
                note("volume", &volume.name, &volume.id, ours);
            }
        }
        for group in cloud.security_groups().await?.iter() {
            let ours = project.prepare.security_groups.keys().any(|name| project.mark(name).is_on_group(group));
            note("security group", &group.name, &group.id, ours);
        }
        for group in cloud.server_groups().await?.iter() {
            let ours = project.prepare.apart.keys().any(|name| project.mark(name).name() == group.name);
            note("server group", &group.name, &group.id, ours);
        }
        for pair in cloud.key_pairs().await?.iter() {
            note("key pair", &pair.name, &pair.name, project.prepare.key_pairs.contains_key(&pair.name));
        }
        Ok(())
    }
}

impl Deed for Kept {
    type Evidence = Inventory;

    const KEPT: &'static str = "it only looked";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<Inventory> {
        let mut kept = Vec::new();
        if let Some(project) = &self.new {
            self.new_side(project, &mut kept).await?;
        }
        if let Some(old) = &self.old {
            for server in old.servers().await?.iter() {
                let why = if self.holder.as_ref() == Some(&server.id) {
                    HOLDS
                } else if server.word == "SHUTOFF" {
                    "it stands stopped; once its period is over the same command deletes it, where the pillar names it"
                } else {
                    UNNAMED
                };
                let place = old.name.clone();
                let (name, id) = (server.name.clone(), server.id.clone());
                kept.push(Standing { what: "server".into(), place, name, id, why: why.into() });
            }
            let mut volume = |name: String, id: String, why: String| {
                kept.push(Standing { what: "volume".into(), place: old.name.clone(), name, id, why });
            };
            // A project's rights may shrink as it is left; the rest of the list is worth having.
            match volumes(old).await {
                Ok(found) => {
                    found.iter().for_each(|one| volume(one.name.clone(), one.id.clone(), NOT_OURS.into()));
                }
                Err(refusal) => {
                    volume(String::new(), String::new(), format!("they cannot be listed: {}", Error::from(refusal)));
                }
            }
        }
        if let Some(fastly) = &self.fastly {
            for (id, name) in fastly.services().await? {
                let why = if self.services.contains_key(&id) { SITE } else { FOREIGN };
                kept.push(Standing { what: "service".into(), place: "the CDN".into(), name, id, why: why.into() });
            }
        }
        let minions: Vec<String> = self.minions.keys().cloned().collect();
        for name in self.outside.accepted(&minions).await? {
            let why = self.minions.get(&name).copied().unwrap_or(UNNAMED);
            let (what, place) = ("minion key".to_owned(), "the controller".to_owned());
            kept.push(Standing { what, place, name, id: String::new(), why: why.into() });
        }
        for account in &self.accounts {
            let why = "migrate:cleanup:database_users does not name it";
            let (what, place) = ("database account".to_owned(), "the databases".to_owned());
            kept.push(Standing { what, place, name: account.clone(), id: String::new(), why: why.into() });
        }
        Ok(Inventory { kept, rotate: self.rotate.clone() })
    }
}
