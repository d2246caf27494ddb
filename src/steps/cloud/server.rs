//! Whether a node's server is up.
//!
//! Invariant: before a server is asked for, and after every answer that is not clear, it is looked for by its mark; one that
//! is there is waited for and taken over. No two requests name one port, so at most one of them can make a server that
//! runs. Only a server of ours that came out in error is deleted, once, and made again.

use super::{Project, STAYS};
use crate::cloud::{Server, Status};
use crate::error::{Error, Result};
use crate::event::now;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a server of ours that came out in error is made again.
const REMAKES: usize = 1;
/// Letters of base64 that Nova takes as user data (nova/api/openstack/compute/schemas/servers.py, `user_data`).
const MOST_USER_DATA: usize = 65_535;

/// A server as it is, or shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub address: Option<IpAddr>,
    pub flavor: String,
    pub image: String,
    pub key_pair: Option<String>,
    pub status: Status,
}

/// What was seen in the act.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerUp {
    pub id: Option<String>,
    /// Why the flavor, where the server was made here.
    pub flavor: Option<String>,
    /// Seconds since the Unix epoch.
    pub asked_at: Option<f64>,
    pub up_at: Option<f64>,
    /// What servers of ours for this node died of.
    pub faults: Vec<String>,
}

/// The server of a node.
pub struct ServerMade {
    pub project: Rc<Project>,
    pub node: String,
    /// The step whose evidence is the id of the group that keeps it apart.
    pub apart: Option<String>,
}

impl ServerMade {
    async fn machine(&self, server: &Server) -> Result<Machine> {
        let flavors = self.project.cloud.flavors().await?;
        let images = self.project.cloud.images().await?;
        let flavor = flavors.iter().find(|flavor| flavor.id == server.flavor).map(|flavor| flavor.name.clone());
        let id = server.image.clone().unwrap_or_default();
        let image = images.iter().find(|image| image.id == id).map(|image| image.name.clone());
        let wanted = self.project.nodes.get(&self.node).map(|node| node.private);
        let address = server.addresses.iter().find(|address| Some(**address) == wanted).or(server.addresses.first());
        Ok(Machine {
            // One that is not up yet shows no address; its port has it.
            address: address.copied().or(if server.status == Status::Active { None } else { wanted }),
            flavor: flavor.unwrap_or_else(|| server.flavor.clone()),
            image: image.unwrap_or(id),
            key_pair: server.key_pair.clone(),
            status: server.status,
        })
    }

    /// Tells what was seen; a node is not settled while failed doubles of its server are there.
    async fn seen(&self, ours: &[&Server], up: ServerUp) -> Result<Seen<Option<Machine>, ServerUp>> {
        let Some(server) = ours.first() else { return Ok(Seen { fact: None, evidence: up }) };
        let mut machine = self.machine(server).await?;
        if ours.len() > 1 && machine.status == Status::Active {
            machine.status = Status::Building;
        }
        Ok(Seen { fact: Some(machine), evidence: ServerUp { id: Some(server.id.clone()), ..up } })
    }

    /// Builds the request but for its port, and what is said about the flavor.
    async fn request(&self, to: &Machine, earlier: &Earlier, user_data: &str) -> Result<(Value, String)> {
        let project = &self.project;
        let wanted = &project.prepare.servers[&self.node];
        let image = project.image(&self.node, wanted).await?;
        let flavors = project.cloud.flavors().await?;
        let flavor = flavors.iter().find(|flavor| flavor.name == to.flavor).ok_or_else(|| {
            Error::remote(&project.cloud.name, format!("the flavor {} is not there any more", to.flavor))
        })?;
        let found = project.flavor(wanted, Some(&image)).await?;
        let why = found.best.iter().find(|candidate| candidate.flavor == to.flavor);
        let why = why.map_or_else(|| "as planned".to_owned(), |candidate| candidate.why.clone());
        let mut server = json!({
            "name": self.node,
            "flavorRef": flavor.id,
            "imageRef": image.id,
            "user_data": user_data,
            "config_drive": true,
            "metadata": project.mark(&self.node).metadata(),
        });
        if let Some(key_pair) = &to.key_pair {
            server["key_name"] = json!(key_pair);
        }
        if let Some(zone) = &wanted.availability_zone {
            server["availability_zone"] = json!(zone);
        }
        let mut body = json!({"server": server});
        if let Some(apart) = &self.apart {
            let group: Option<String> = earlier.of(apart)?;
            body["os:scheduler_hints"] = json!({"group": group});
        }
        Ok((body, why))
    }

    async fn make(&self, permit: &Permit, to: &Machine, earlier: &Earlier) -> Result<String> {
        let project = &self.project;
        let minion = project.nodes.get(&self.node).and_then(|node| node.minion.clone()).unwrap_or_default();
        let user_data =
            project.outside.user_data(permit, &minion, &project.prepare.masters, &project.prepare.first_boot).await?;
        // What Nova refuses it shows, and a key is in it.
        if user_data.len() > MOST_USER_DATA {
            let problem = format!(
                "what {} is told at its first boot has {} letters in base64, and the cloud takes {MOST_USER_DATA}: shorten migrate:prepare:first_boot",
                self.node,
                user_data.len()
            );
            return Err(Error::remote(&project.cloud.name, problem));
        }
        let (body, why) = self.request(to, earlier, &user_data).await?;
        project
            .ask_clearly(
                async || {
                    let port = project.unused_port(permit, &self.node).await?;
                    let mut body = body.clone();
                    body["server"]["networks"] = json!([{"port": port}]);
                    project.cloud.create_server(permit, &body).await
                },
                async || {
                    let servers = project.cloud.servers().await?;
                    Ok(project.ours(&self.node, &servers).first().map(|server| server.id.clone()))
                },
            )
            .await?;
        Ok(why)
    }

    /// Deletes a server of ours that came out in error, and waits until it is gone: it holds the port.
    async fn clear(&self, permit: &Permit, server: &Server, limit: Instant) -> Result<()> {
        let cloud = &self.project.cloud;
        cloud.delete_server(permit, &server.id).await?;
        loop {
            let servers = self.next_look(Instant::now(), limit).await?;
            if !servers.iter().any(|found| found.id == server.id) {
                return Ok(());
            }
            self.in_time(limit, &format!("the failed server {} to go", server.id))?;
        }
    }

    /// Looks at the servers after a time, a tick after the last look.
    async fn next_look(&self, after: Instant, limit: Instant) -> Result<Rc<Vec<Server>>> {
        let (project, tick) = (&self.project, self.project.tick());
        project.look_again(limit, async || project.cloud.servers_after(after, tick).await).await
    }

    fn in_time(&self, limit: Instant, what: &str) -> Result<()> {
        self.project.in_time(limit, &format!("{}: {what}", self.node))
    }
}

/// Stands where the cloud has nothing that fits.
const NOTHING: &str = "none that fits";

impl Step for ServerMade {
    type Fact = Option<Machine>;
    type Evidence = ServerUp;

    async fn observe(&self) -> Result<Seen<Option<Machine>, ServerUp>> {
        let servers = self.project.cloud.servers().await?;
        self.seen(&self.project.ours(&self.node, &servers), ServerUp::default()).await
    }

    /// What is there is wanted as it is: a server that exists is never changed, and how it differs is a finding.
    async fn want(&self, _earlier: &Earlier) -> Result<Option<Machine>> {
        let project = &self.project;
        let servers = project.cloud.servers().await?;
        if let Some(server) = project.ours(&self.node, &servers).first()
            && (server.status != Status::Error || server.ran)
        {
            return Ok(Some(Machine { status: Status::Active, ..self.machine(server).await? }));
        }
        let wanted = &project.prepare.servers[&self.node];
        // What is not there is a finding of the fleet's check, beside all others, and nothing is made.
        let image = match project.image(&self.node, wanted).await {
            Err(Error::Settings { .. }) => None,
            found => Some(found?),
        };
        let found = project.flavor(wanted, image.as_ref()).await?;
        Ok(Some(Machine {
            address: project.nodes.get(&self.node).map(|node| node.private),
            flavor: found.chosen().map_or_else(|| NOTHING.to_owned(), |chosen| chosen.flavor.clone()),
            image: image.map_or_else(|| NOTHING.to_owned(), |image| image.name),
            key_pair: wanted.key_pair.clone(),
            status: Status::Active,
        }))
    }

    async fn set(
        &self,
        permit: &Permit,
        to: &Option<Machine>,
        earlier: &Earlier,
    ) -> Result<Seen<Option<Machine>, ServerUp>> {
        let project = &self.project;
        let Some(to) = to else { return self.observe().await };
        // Held until it is up: what is asked of the cloud at once is what it builds at once.
        let _turn = project.unless_interrupted(project.pace.turn()).await?;
        let limit = Instant::now() + Duration::from_millis(project.prepare.deadlines.server);
        let mut up = ServerUp::default();
        let mut servers = project.cloud.servers().await?;
        loop {
            let ours = project.ours(&self.node, &servers);
            if ours.len() > 1 {
                // A request that was carried out too late to be seen: its port is gone, so it can only come out in error.
                if let Some(double) = ours.iter().skip(1).find(|server| server.status == Status::Error && !server.ran) {
                    self.clear(permit, double, limit).await?;
                } else if ours.iter().all(|server| server.status != Status::Building) {
                    let ids: Vec<&str> = ours.iter().map(|server| server.id.as_str()).collect();
                    let found = format!("{} servers carry the mark of {}: {}", ids.len(), self.node, ids.join(", "));
                    return Err(Error::remote(&project.cloud.name, format!("{found}; delete all but one")));
                } else {
                    self.in_time(limit, "its doubles to come out")?;
                }
                servers = self.next_look(Instant::now(), limit).await?;
                continue;
            }
            match ours.first() {
                Some(server) if server.status == Status::Active => {
                    up.up_at = up.asked_at.map(|_| now());
                    return self.seen(&ours, up).await;
                }
                Some(server) if server.status == Status::Error && server.ran => {
                    let problem = format!(
                        "the server {} of {} ran, and is in error now: it is not ours to delete, for it may hold data; reset its state, or delete it to have it made anew",
                        server.id, self.node
                    );
                    return Err(Error::remote(&project.cloud.name, problem));
                }
                Some(server) if server.status == Status::Error => {
                    let fault = server.fault.clone().unwrap_or_else(|| "the cloud gives no reason".into());
                    up.faults.push(fault.clone());
                    if up.faults.len() > REMAKES {
                        let problem = format!(
                            "the server {} of {} came out in error: {fault}; it stays to be looked at, and is made again by the next run",
                            server.id, self.node
                        );
                        return Err(Error::remote(&project.cloud.name, problem));
                    }
                    self.clear(permit, server, limit).await?;
                }
                Some(server) if server.status == Status::Other => {
                    let problem = format!(
                        "the server {} of {} is {}: somebody else is at work on it",
                        server.id, self.node, server.word
                    );
                    return Err(Error::remote(&project.cloud.name, problem));
                }
                Some(server) => self.in_time(limit, &format!("the server {} to be up", server.id))?,
                // It holds the port, and its place in a group that is kept apart.
                None if !project.marked(&self.node, &servers).is_empty() => {
                    self.in_time(limit, "its server that is being deleted to go")?;
                }
                None => {
                    up.asked_at.get_or_insert_with(now);
                    up.flavor = Some(self.make(permit, to, earlier).await?);
                }
            }
            // What was seen before we acted would show that we had not.
            servers = self.next_look(Instant::now(), limit).await?;
        }
    }

    fn undo(&self) -> Undo<Option<Machine>> {
        Undo::Leave(STAYS)
    }

    /// One of ours that is on its way, or failed on it.
    fn half_done(&self, found: &Option<Machine>, _old: &Option<Machine>, _new: &Option<Machine>) -> bool {
        found.as_ref().is_some_and(|machine| matches!(machine.status, Status::Building | Status::Error))
    }
}
