//! Whether the network has the addresses that are asked for, and nothing of somebody else's stands in the way.

use super::{Notes, Topic};
use crate::cloud::inventory::free;
use crate::cloud::{Network, Port, Subnet};
use crate::error::{Error, Result};
use crate::event::Finding;
use crate::steps::cloud::Project;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// The network, its addresses, the security groups, and the quotas of both.
pub struct NetworkReady(pub Rc<Project>);

impl Topic for NetworkReady {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("network");
        let project = &self.0;
        let network = match project.network().await {
            Ok(network) => network,
            Err(Error::Settings { found, expected, hint, .. }) => {
                notes.block("network", format!("it is {found}, expected {expected}"), hint);
                return Ok(notes.findings);
            }
            Err(other) => return Err(other),
        };
        let (ports, subnets) = (project.cloud.ports().await?, project.cloud.subnets().await?);
        let subnets: Vec<Subnet> = subnets.iter().filter(|subnet| subnet.network == network.id).cloned().collect();
        let of_ports = ports.iter().filter(|port| port.network == network.id).flat_map(|port| port.addresses.clone());
        let taken = of_ports.chain(project.nodes.values().map(|node| node.private)).collect();
        let mut ground = Ground { network: &network, subnets: &subnets, ports: &ports, taken };
        let mut new_ports = 0;
        for node in project.prepare.servers.keys() {
            let Some(address) = project.nodes.get(node).map(|node| node.private) else { continue };
            if !self.address(&mut notes, node, address, &mut ground) {
                new_ports += 1;
            }
        }
        let (new_groups, new_rules) = self.groups(&mut notes).await?;
        let quotas = project.cloud.network_quotas().await?;
        for (what, asked) in [("port", new_ports), ("security_group", new_groups), ("security_group_rule", new_rules)] {
            let Some(usage) = quotas.get(what) else { continue };
            notes.within(what, asked, usage.used, usage.most);
        }
        Ok(notes.findings)
    }
}

/// What the project sees of its network.
struct Ground<'a> {
    network: &'a Network,
    subnets: &'a [Subnet],
    ports: &'a [Port],
    /// Addresses of ports, and of nodes of the pillar.
    taken: BTreeSet<IpAddr>,
}

impl NetworkReady {
    /// Looks whether a node can have its address; returns whether its port is there already.
    fn address(&self, notes: &mut Notes, node: &str, address: IpAddr, ground: &mut Ground<'_>) -> bool {
        let Ground { network, subnets, ports, taken } = ground;
        let mark = self.0.mark(node);
        let pillar = format!("correct migrate:nodes:new:{node}:private");
        if !subnets.iter().any(|subnet| subnet.has(address)) {
            let all: Vec<&str> = subnets.iter().map(|subnet| subnet.cidr.as_str()).collect();
            let found = format!("{address} is in no subnet of {}, which has {}", network.name, all.join(", "));
            notes.block(node, found, pillar.clone());
        }
        if subnets.iter().any(|subnet| subnet.gateway == Some(address)) {
            notes.block(node, format!("{address} is the gateway of {}", network.name), pillar.clone());
        }
        let theirs =
            |port: &&Port| port.network == network.id && port.addresses.contains(&address) && !mark.is_on_port(port);
        if let Some(port) = ports.iter().find(theirs) {
            let found =
                format!("{address} is taken by the port {} ({:?}) of device {:?}", port.id, port.name, port.device);
            match free(Some(address), subnets, taken) {
                Some(other) => notes.block(node, found, format!("{pillar} ({other} seems free), or free the address")),
                None if address.is_ipv4() => {
                    let full = format!("{found}, and {} is full: no address of its pools is free", network.name);
                    notes.block(node, full, "free addresses, or name a larger network in migrate:prepare:network");
                }
                None => notes.block(node, found, format!("{pillar}, or free the address")),
            }
        }
        match ports.iter().find(|port| mark.is_on_port(port)) {
            Some(port) if port.addresses.first() != Some(&address) => {
                let found = format!("its port {} has another address than {address}", port.id);
                notes.block(node, found, format!("{pillar}, or delete the port if nothing uses it"));
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Looks at security groups; returns how many groups and rules are to be made.
    async fn groups(&self, notes: &mut Notes) -> Result<(u64, u64)> {
        let project = &self.0;
        let groups = project.cloud.security_groups().await?;
        let (mut new_groups, mut new_rules) = (0, 0);
        for (name, group) in &project.prepare.security_groups {
            let mark = project.mark(name);
            if groups.iter().any(|found| mark.is_on_group(found)) {
                continue;
            }
            new_groups += 1;
            // Two of outgoing traffic come by themselves.
            new_rules += group.rules.len() as u64 + 2;
            if groups.iter().any(|found| found.name == *name) {
                let found = format!("a security group {name} is there, and is not ours");
                let mend = format!(
                    "take it as it is by taking {name} out of migrate:prepare:security_groups, or give ours another name"
                );
                notes.block(name, found, mend);
            }
        }
        for (node, wanted) in &project.prepare.servers {
            for name in &wanted.security_groups {
                let known = project.prepare.security_groups.contains_key(name)
                    || groups.iter().any(|group| group.name == *name || group.id == *name);
                if !known {
                    let mend = format!("correct migrate:prepare:servers:{node}:security_groups");
                    notes.block(node, format!("there is no security group {name}"), mend);
                }
            }
        }
        Ok((new_groups, new_rules))
    }
}
