//! Networks, ports and security groups.

use super::{Answer, Cloud, text};
use crate::journal::Permit;
use ipnet::IpNet;
use osauth::services::NETWORK;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One network.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    pub id: String,
    pub name: String,
}

/// One subnet.
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    pub network: String,
    pub cidr: String,
    pub gateway: Option<IpAddr>,
    /// First and last address that servers may have.
    pub pools: Vec<(IpAddr, IpAddr)>,
    first: IpAddr,
    last: IpAddr,
}

impl Subnet {
    #[cfg(test)]
    pub(super) fn of(network: &str, cidr: &str, gateway: Option<IpAddr>, first: IpAddr, last: IpAddr) -> Self {
        Self { network: network.into(), cidr: cidr.into(), gateway, pools: vec![(first, last)], first, last }
    }

    /// Tells whether an address belongs to it.
    pub fn has(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }
}

/// One port.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    pub id: String,
    pub name: String,
    pub description: String,
    pub network: String,
    pub addresses: Vec<IpAddr>,
    pub security_groups: Vec<String>,
    pub device: String,
}

/// One security group, with its incoming rules.
#[derive(Debug, Clone, PartialEq)]
pub struct SecurityGroup {
    pub id: String,
    pub name: String,
    pub description: String,
    pub rules: Vec<NewRule>,
}

/// A port to be made.
pub struct NewPort<'a> {
    pub name: &'a str,
    pub description: &'a str,
    pub network: &'a str,
    pub address: IpAddr,
    pub security_groups: &'a [String],
}

/// An incoming rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    pub protocol: Option<String>,
    pub ports: Option<(u16, u16)>,
    pub network: Option<String>,
    /// The id of the group whose servers, or of the list whose addresses, may come in.
    pub group: Option<String>,
    /// Whether it is about IPv6.
    pub six: bool,
}

impl NewRule {
    /// Writes the rule as one word, so that two can be compared.
    pub fn key(&self) -> String {
        // Neutron keeps a rule in a form of its own (neutron.db.securitygroups_db): every port is none, and so on.
        let network =
            self.network.as_ref().map(|text| text.parse::<IpNet>().map_or(text.clone(), |net| net.to_string()));
        let six = network.as_ref().is_some_and(|network| network.contains(':'));
        let protocol = self.protocol.as_ref().map_or_else(|| "any".to_owned(), |word| word.to_lowercase());
        let protocol = match protocol.as_str() {
            "icmp" | "icmpv6" | "1" | "58" if six => "ipv6-icmp",
            other => other,
        };
        let ports = self.ports.filter(|ports| *ports != (1, u16::MAX));
        let ports = ports.map_or_else(|| "any".to_owned(), |(first, last)| format!("{first}-{last}"));
        let from = self.group.as_ref().or(network.as_ref()).cloned().unwrap_or_else(|| "anywhere".into());
        format!("{protocol} {ports} from {from}")
    }

    fn read(rule: &Value) -> Self {
        let option = |key: &str| rule.get(key).and_then(Value::as_str).map(str::to_owned);
        let port = |key: &str| rule.get(key).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let group = option("remote_group_id").or_else(|| option("remote_address_group_id"));
        let six = text(rule, "ethertype") == "IPv6";
        // Everybody of one family has no prefix.
        let everybody = (group.is_none() && six).then(|| "::/0".to_owned());
        Self {
            protocol: option("protocol"),
            // Of ICMP it is the type, which may be without a code.
            ports: port("port_range_min").map(|first| (first, port("port_range_max").unwrap_or(first))),
            network: option("remote_ip_prefix").or(everybody),
            group,
            six,
        }
    }
}

/// How much of a quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    /// Nothing where there is no limit.
    pub most: Option<u64>,
}

impl Cloud {
    pub(super) async fn read_networks(&self) -> Answer<Vec<Network>> {
        let found = self.typed("networks", async |cloud| cloud.list_networks().await).await?;
        Ok(found
            .iter()
            .map(|network| Network { id: network.id().clone(), name: network.name().clone().unwrap_or_default() })
            .collect())
    }

    pub(super) async fn read_subnets(&self) -> Answer<Vec<Subnet>> {
        let found = self.typed("subnets", async |cloud| cloud.list_subnets().await).await?;
        Ok(found
            .iter()
            .map(|subnet| Subnet {
                network: subnet.network_id().clone(),
                cidr: subnet.cidr().to_string(),
                gateway: subnet.gateway_ip(),
                pools: subnet.allocation_pools().iter().map(|pool| (pool.start, pool.end)).collect(),
                first: subnet.cidr().network(),
                last: subnet.cidr().broadcast(),
            })
            .collect())
    }

    pub(super) async fn read_ports(&self) -> Answer<Vec<Port>> {
        let ours = self.of_the_project().await?;
        Ok(self.list(NETWORK, &["ports"], "ports", &ours).await?.iter().map(port).collect())
    }

    pub(super) async fn read_security_groups(&self) -> Answer<Vec<SecurityGroup>> {
        let ours = self.of_the_project().await?;
        let found = self.list(NETWORK, &["security-groups"], "security_groups", &ours).await?;
        Ok(found.iter().map(group).collect())
    }

    /// Asks the network service whom it takes us for; nothing where it does not tell.
    pub(super) async fn project(&self) -> Answer<Option<String>> {
        let mut held = self.project.lock().await;
        if let Some(project) = &*held {
            return Ok(project.clone());
        }
        let project = match self.call(NETWORK, Method::GET, &["quotas", "tenant"], &[], None).await {
            Ok(answer) => answer.pointer("/tenant/tenant_id").and_then(Value::as_str).map(str::to_owned),
            Err(refusal) if matches!(refusal.status, Some(403 | 404)) => None,
            Err(refusal) => return Err(refusal),
        };
        *held = Some(project.clone());
        Ok(project)
    }

    /// Narrows a list to our project: an administrator is shown everybody's.
    async fn of_the_project(&self) -> Answer<Vec<(&'static str, String)>> {
        Ok(self.project().await?.map(|id| ("project_id", id)).into_iter().collect())
    }

    /// Reads the network quotas of the project, by the API's own names; empty where the cloud does not tell.
    pub async fn network_quotas(&self) -> Answer<BTreeMap<String, Usage>> {
        let Some(project) = self.project().await? else { return Ok(BTreeMap::new()) };
        let path = ["quotas", project.as_str(), "details.json"];
        let details = match self.call(NETWORK, Method::GET, &path, &[], None).await {
            Ok(details) => details,
            // An extension, and one that a policy may keep from the project.
            Err(refusal) if matches!(refusal.status, Some(403 | 404)) => return Ok(BTreeMap::new()),
            Err(refusal) => return Err(refusal),
        };
        Ok(usages(details.get("quota"), "used"))
    }

    /// Makes a port with one address, and returns its id.
    pub async fn create_port(&self, _permit: &Permit, port: &NewPort<'_>) -> Answer<String> {
        let body = json!({"port": {
            "name": port.name,
            "description": port.description,
            "network_id": port.network,
            "fixed_ips": [{"ip_address": port.address}],
            "security_groups": port.security_groups,
        }});
        let made = self.call(NETWORK, Method::POST, &["ports"], &[], Some(&body)).await?;
        Ok(made.get("port").map(|port| text(port, "id")).unwrap_or_default())
    }

    /// Deletes a port of ours; one that is gone is no error.
    pub async fn delete_port(&self, _permit: &Permit, id: &str) -> Answer<()> {
        self.delete(NETWORK, "ports", id).await
    }

    /// Gives a port of ours other security groups.
    pub async fn regroup_port(&self, _permit: &Permit, id: &str, groups: &[String]) -> Answer<()> {
        let body = json!({"port": {"security_groups": groups}});
        self.call(NETWORK, Method::PUT, &["ports", id], &[], Some(&body)).await.map(|_| ())
    }

    /// Makes a security group without incoming rules.
    pub async fn create_security_group(&self, _permit: &Permit, name: &str, description: &str) -> Answer<()> {
        let body = json!({"security_group": {"name": name, "description": description}});
        self.call(NETWORK, Method::POST, &["security-groups"], &[], Some(&body)).await.map(|_| ())
    }

    /// Deletes a security group; one that is gone is no error.
    pub async fn delete_security_group(&self, _permit: &Permit, id: &str) -> Answer<()> {
        self.delete(NETWORK, "security-groups", id).await
    }

    /// Lets somebody in; a rule that is there already is no error.
    pub async fn create_rule(&self, _permit: &Permit, group: &str, rule: &NewRule) -> Answer<()> {
        let body = json!({"security_group_rule": {
            "security_group_id": group,
            "direction": "ingress",
            "ethertype": if rule.six { "IPv6" } else { "IPv4" },
            "protocol": rule.protocol,
            "port_range_min": rule.ports.map(|(first, _)| first),
            "port_range_max": rule.ports.map(|(_, last)| last),
            "remote_ip_prefix": rule.network,
            "remote_group_id": rule.group,
        }});
        match self.call(NETWORK, Method::POST, &["security-group-rules"], &[], Some(&body)).await {
            Err(refusal) if refusal.status == Some(409) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// Reads quotas with how much of each is used; each service has another word for that.
pub(super) fn usages(quotas: Option<&Value>, used: &str) -> BTreeMap<String, Usage> {
    let number = |usage: &Value, key: &str| usage.get(key).and_then(Value::as_i64);
    let quotas = quotas.and_then(Value::as_object).into_iter().flatten().filter(|(_, usage)| usage.is_object());
    quotas
        .map(|(name, usage)| {
            let used = number(usage, used).unwrap_or(0) + number(usage, "reserved").unwrap_or(0);
            let most = number(usage, "limit").and_then(|limit| u64::try_from(limit).ok());
            (name.clone(), Usage { used: u64::try_from(used).unwrap_or(0), most })
        })
        .collect()
}

fn port(found: &Value) -> Port {
    let list = |key: &str| found.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    Port {
        id: text(found, "id"),
        name: text(found, "name"),
        description: text(found, "description"),
        network: text(found, "network_id"),
        addresses: list("fixed_ips").iter().filter_map(|fixed| text(fixed, "ip_address").parse().ok()).collect(),
        security_groups: list("security_groups").iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
        device: text(found, "device_id"),
    }
}

fn group(found: &Value) -> SecurityGroup {
    let rules = found.get("security_group_rules").and_then(Value::as_array);
    SecurityGroup {
        id: text(found, "id"),
        name: text(found, "name"),
        description: text(found, "description"),
        rules: rules
            .into_iter()
            .flatten()
            .filter(|rule| text(rule, "direction") == "ingress")
            .map(NewRule::read)
            .collect(),
    }
}
