//! Whether a server's port is there: its address is known before anything boots.

use super::{Project, STAYS};
use crate::cloud::{Answer, NewPort, Port, Refusal};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// What a port holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reserved {
    pub address: Option<IpAddr>,
    /// By name.
    pub security_groups: BTreeSet<String>,
}

/// The port of a node; its evidence is its id.
pub struct PortMade {
    pub project: Rc<Project>,
    pub node: String,
}

impl PortMade {
    async fn port(&self) -> Result<Option<Port>> {
        let mark = self.project.mark(&self.node);
        Ok(self.project.cloud.ports().await?.iter().find(|port| mark.is_on_port(port)).cloned())
    }

    fn groups(&self) -> Vec<String> {
        self.project.prepare.servers.get(&self.node).map(|wanted| wanted.security_groups.clone()).unwrap_or_default()
    }

    async fn seen(&self, port: Option<Port>) -> Result<Seen<Option<Reserved>, Option<String>>> {
        let Some(port) = port else { return Ok(Seen { fact: None, evidence: None }) };
        let groups = self.project.cloud.security_groups().await?;
        let named = |id: &String| {
            groups.iter().find(|group| group.id == *id).map_or_else(|| id.clone(), |group| group.name.clone())
        };
        let mut security_groups: BTreeSet<String> = port.security_groups.iter().map(named).collect();
        if self.groups().is_empty() {
            // Who asks for none gets the project's own default one.
            security_groups.remove("default");
        }
        let fact = Reserved { address: port.addresses.first().copied(), security_groups };
        Ok(Seen { fact: Some(fact), evidence: Some(port.id) })
    }
}

impl Project {
    async fn new_port(
        &self,
        permit: &Permit,
        node: &str,
        network: &str,
        address: IpAddr,
        groups: &[String],
    ) -> Answer<String> {
        let description = self.mark(node).description();
        let port = NewPort { name: node, description: &description, network, address, security_groups: groups };
        let named =
            |refusal: Refusal| Refusal { what: format!("{} for {node} with {address}", refusal.what), ..refusal };
        self.cloud.create_port(permit, &port).await.map_err(named)
    }

    /// Takes a port for a server, one that no request has named yet: its id is what fences off a request of a dead run, or
    /// of an answer that never came. Whoever carries that out late finds its port gone, and so makes nothing that runs.
    pub(super) async fn unused_port(&self, permit: &Permit, node: &str) -> Answer<String> {
        let mark = self.mark(node);
        let ports = self.cloud.ports().await?;
        let found = ports.iter().find(|port| mark.is_on_port(port));
        if let Some(port) = found {
            if self.unused_ports.borrow_mut().remove(&port.id) {
                return Ok(port.id.clone());
            }
            if !port.device.is_empty() {
                let what = format!("the port {} of {node}", port.id);
                return Err(self.cloud.refusal_of(&what, &format!("the device {} has it already", port.device)));
            }
            self.cloud.delete_port(permit, &port.id).await?;
        }
        let told = |error: Error| self.cloud.refusal_of(&format!("the port of {node}"), &error.to_string());
        let network = self.network().await.map_err(told)?;
        let wanted = self.prepare.servers.get(node).map(|wanted| wanted.security_groups.clone()).unwrap_or_default();
        let names = if wanted.is_empty() { vec!["default".to_owned()] } else { wanted };
        let groups = self.group_ids(&names).await.map_err(told)?;
        let Some(address) = self.nodes.get(node).map(|node| node.private) else {
            return Err(told(Error::NotYet("its address".into())));
        };
        self.new_port(permit, node, &network.id, address, &groups).await
    }
}

impl Step for PortMade {
    type Fact = Option<Reserved>;
    type Evidence = Option<String>;

    async fn observe(&self) -> Result<Seen<Option<Reserved>, Option<String>>> {
        self.seen(self.port().await?).await
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Option<Reserved>> {
        let address = self.project.nodes.get(&self.node).map(|node| node.private);
        Ok(Some(Reserved { address, security_groups: self.groups().into_iter().collect() }))
    }

    async fn set(
        &self,
        permit: &Permit,
        to: &Option<Reserved>,
        _: &Earlier,
    ) -> Result<Seen<Option<Reserved>, Option<String>>> {
        let Some(to) = to else { return self.observe().await };
        let Some(address) = to.address else { return Err(Error::NotYet(format!("the address of {}", self.node))) };
        let cloud = &self.project.cloud;
        let mut names: Vec<String> = to.security_groups.iter().cloned().collect();
        if names.is_empty() {
            names.push("default".into());
        }
        let groups = self.project.group_ids(&names).await?;
        match self.port().await? {
            Some(port) if port.addresses.first() != Some(&address) => {
                let problem = format!(
                    "the port of {} has the address {}, and shall have {address}; delete the port {} if nothing uses it",
                    self.node,
                    port.addresses.first().map_or_else(|| "none".to_owned(), ToString::to_string),
                    port.id
                );
                return Err(Error::remote(&cloud.name, problem));
            }
            Some(port) => {
                if self.seen(Some(port.clone())).await?.fact.as_ref() != Some(to) {
                    cloud.regroup_port(permit, &port.id, &groups).await?;
                }
            }
            None => {
                let _turn = self.project.unless_interrupted(self.project.pace.turn()).await?;
                let network = self.project.network().await?;
                let mark = self.project.mark(&self.node);
                let made = self
                    .project
                    .ask_clearly(
                        async || self.project.new_port(permit, &self.node, &network.id, address, &groups).await,
                        async || {
                            let ports = cloud.ports().await?;
                            Ok(ports.iter().find(|port| mark.is_on_port(port)).map(|port| port.id.clone()))
                        },
                    )
                    .await?;
                self.project.unused_ports.borrow_mut().insert(made);
            }
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<Option<Reserved>> {
        Undo::Leave(STAYS)
    }

    fn half_done(&self, found: &Option<Reserved>, _old: &Option<Reserved>, new: &Option<Reserved>) -> bool {
        let address = |reserved: &Option<Reserved>| reserved.as_ref().map(|reserved| reserved.address);
        address(found) == address(new)
    }
}
