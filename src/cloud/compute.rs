//! Servers and what belongs to them: flavors, key pairs, groups, limits.

use super::{Answer, Cloud, text};
use crate::journal::Permit;
use futures_util::TryStreamExt;
use osauth::services::COMPUTE;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One flavor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flavor {
    pub id: String,
    pub name: String,
    pub vcpus: u32,
    /// MiB.
    pub ram: u64,
    /// GiB.
    pub disk: u64,
    pub extra_specs: BTreeMap<String, String>,
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Active,
    Building,
    Error,
    /// Asked to be deleted: it is listed, under any status, until it has gone.
    Deleting,
    /// Stopped, paused, resized: what somebody else does with it.
    Other,
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub id: String,
    pub name: String,
    pub status: Status,
    /// The cloud's own word for the status.
    pub word: String,
    pub fault: Option<String>,
    /// Whether it ever ran.
    pub ran: bool,
    /// When anything of it last changed, as the cloud writes it: it was started or stopped, for example.
    pub updated: String,
    pub metadata: BTreeMap<String, String>,
    pub addresses: Vec<IpAddr>,
    pub floating: Vec<IpAddr>,
    pub flavor: String,
    pub image: Option<String>,
    pub key_pair: Option<String>,
    pub availability_zone: Option<String>,
    pub security_groups: Vec<String>,
    /// The ids of everything that is attached, where it boots from a volume that one too.
    pub volumes: Vec<String>,
}

impl Server {
    /// Lists its volumes where one of them is more than its root disk; which of them is that, nobody says.
    pub fn data_volumes(&self) -> &[String] {
        let root = usize::from(self.image.is_none());
        if self.volumes.len() > root { &self.volumes } else { &[] }
    }
}

/// One key pair.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyPair {
    pub name: String,
    pub public_key: String,
}

/// One server group.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerGroup {
    pub id: String,
    pub name: String,
    /// The ids of servers.
    pub members: Vec<String>,
}

/// One limit; nothing where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub used: u64,
    pub most: Option<u64>,
}

/// The limits of the project.
#[derive(Debug, Clone)]
pub struct Limits {
    pub instances: Limit,
    pub cores: Limit,
    pub ram: Limit,
    pub server_groups: Limit,
    /// Of one group.
    pub server_group_members: Option<u64>,
    pub key_pairs: Option<u64>,
}

impl Cloud {
    pub(super) async fn read_flavors(&self) -> Answer<Vec<Flavor>> {
        let found: Vec<openstack::compute::Flavor> = self
            .typed("flavors", async |cloud| cloud.find_flavors().detailed().into_stream().try_collect().await)
            .await?;
        Ok(found
            .iter()
            .map(|flavor| Flavor {
                id: flavor.id().clone(),
                name: flavor.name().clone(),
                vcpus: flavor.vcpu_count(),
                ram: flavor.ram_size(),
                disk: flavor.root_size(),
                extra_specs: flavor.extra_specs().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            })
            .collect())
    }

    pub(super) async fn read_servers(&self) -> Answer<Vec<Server>> {
        Ok(self.list(COMPUTE, &["servers", "detail"], "servers", &[]).await?.iter().map(server).collect())
    }

    pub(super) async fn read_key_pairs(&self) -> Answer<Vec<KeyPair>> {
        let found = self.typed("key pairs", async |cloud| cloud.list_keypairs().await).await?;
        Ok(found
            .iter()
            .map(|pair| KeyPair { name: pair.name().clone(), public_key: pair.public_key().clone() })
            .collect())
    }

    pub(super) async fn read_server_groups(&self) -> Answer<Vec<ServerGroup>> {
        let found = self.list(COMPUTE, &["os-server-groups"], "server_groups", &[]).await?;
        let members = |group: &Value| -> Vec<String> {
            group["members"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let read =
            |group: &Value| ServerGroup { id: text(group, "id"), name: text(group, "name"), members: members(group) };
        Ok(found.iter().map(read).collect())
    }

    /// Reads the limits of the project.
    pub async fn limits(&self) -> Answer<Limits> {
        let answer = self.call(COMPUTE, Method::GET, &["limits"], &[], None).await?;
        let limits = answer.pointer("/limits/absolute").cloned().unwrap_or_default();
        let number = |key: &str| limits.get(key).and_then(Value::as_i64);
        let most = |key: &str| number(key).and_then(|most| u64::try_from(most).ok());
        let limit = |used: &str, key: &str| Limit {
            used: number(used).and_then(|used| u64::try_from(used).ok()).unwrap_or(0),
            most: most(key),
        };
        Ok(Limits {
            instances: limit("totalInstancesUsed", "maxTotalInstances"),
            cores: limit("totalCoresUsed", "maxTotalCores"),
            ram: limit("totalRAMUsed", "maxTotalRAMSize"),
            server_groups: limit("totalServerGroupsUsed", "maxServerGroups"),
            server_group_members: most("maxServerGroupMembers"),
            key_pairs: most("maxTotalKeypairs"),
        })
    }

    /// Lists the availability zones that take servers.
    pub async fn availability_zones(&self) -> Answer<Vec<String>> {
        let found = self.list(COMPUTE, &["os-availability-zone"], "availabilityZoneInfo", &[]).await?;
        let open = |zone: &&Value| zone.pointer("/zoneState/available").and_then(Value::as_bool) == Some(true);
        Ok(found.iter().filter(open).map(|zone| text(zone, "zoneName")).collect())
    }

    /// Asks for a server, and returns its id; the body is the API's own.
    pub async fn create_server(&self, _permit: &Permit, body: &Value) -> Answer<String> {
        let made = self.call(COMPUTE, Method::POST, &["servers"], &[], Some(body)).await?;
        Ok(made.get("server").map(|server| text(server, "id")).unwrap_or_default())
    }

    /// Deletes a server of ours; one that is gone is no error.
    pub async fn delete_server(&self, _permit: &Permit, id: &str) -> Answer<()> {
        self.delete(COMPUTE, "servers", id).await
    }

    /// Asks for a server to be shut down; the server itself is told to, as by its power button.
    pub async fn stop_server(&self, _permit: &Permit, id: &str) -> Answer<()> {
        let body = json!({"os-stop": null});
        match self.call(COMPUTE, Method::POST, &["servers", id, "action"], &[], Some(&body)).await {
            // It is on its way down, or there, already.
            Err(refusal) if matches!(refusal.status, Some(404 | 409)) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Deletes a public key; one that is gone is no error.
    pub async fn delete_key_pair(&self, _permit: &Permit, name: &str) -> Answer<()> {
        self.delete(COMPUTE, "os-keypairs", name).await
    }

    /// Deletes a group of servers; one that is gone is no error.
    pub async fn delete_server_group(&self, _permit: &Permit, id: &str) -> Answer<()> {
        self.delete(COMPUTE, "os-server-groups", id).await
    }

    /// Brings a public key in.
    pub async fn import_key_pair(&self, _permit: &Permit, name: &str, public_key: &str) -> Answer<()> {
        let body = json!({"keypair": {"name": name, "public_key": public_key}});
        self.call(COMPUTE, Method::POST, &["os-keypairs"], &[], Some(&body)).await.map(|_| ())
    }

    /// Makes a group whose servers share no hypervisor.
    pub async fn create_server_group(&self, _permit: &Permit, name: &str) -> Answer<()> {
        let body = json!({"server_group": {"name": name, "policies": ["anti-affinity"]}});
        self.call(COMPUTE, Method::POST, &["os-server-groups"], &[], Some(&body)).await.map(|_| ())
    }
}

fn server(found: &Value) -> Server {
    let word = text(found, "status");
    let status = match word.as_str() {
        _ if text(found, "OS-EXT-STS:task_state") == "deleting" => Status::Deleting,
        "ACTIVE" => Status::Active,
        "BUILD" | "REBUILD" => Status::Building,
        "ERROR" => Status::Error,
        _ => Status::Other,
    };
    let map = |key: &str| found.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let inner = |key: &str| found.get(key).map(|inner| text(inner, "id")).filter(|id| !id.is_empty());
    let option = |key: &str| Some(text(found, key)).filter(|word| !word.is_empty());
    let (mut addresses, mut floating) = (Vec::new(), Vec::new());
    for address in map("addresses").values().filter_map(Value::as_array).flatten() {
        let Ok(parsed) = text(address, "addr").parse() else { continue };
        let fixed = text(address, "OS-EXT-IPS:type") != "floating";
        if fixed { &mut addresses } else { &mut floating }.push(parsed);
    }
    let list = |key: &str| found.get(key).and_then(Value::as_array).into_iter().flatten();
    Server {
        id: text(found, "id"),
        name: text(found, "name"),
        status,
        word,
        updated: text(found, "updated"),
        ran: found.get("OS-SRV-USG:launched_at").is_some_and(|at| !at.is_null()),
        fault: found.pointer("/fault/message").and_then(Value::as_str).map(str::to_owned),
        metadata: map("metadata")
            .into_iter()
            .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        addresses,
        floating,
        flavor: inner("flavor").unwrap_or_default(),
        image: inner("image"),
        key_pair: option("key_name"),
        availability_zone: option("OS-EXT-AZ:availability_zone"),
        security_groups: list("security_groups").map(|group| text(group, "name")).collect(),
        volumes: list("os-extended-volumes:volumes_attached").map(|volume| text(volume, "id")).collect(),
    }
}
