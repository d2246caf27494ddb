//! Volumes: the disks that servers have beside their root disks.

use super::network::usages;
use super::{Answer, BLANK, Cloud, Usage, text};
use crate::journal::Permit;
use osauth::services::{COMPUTE, ServiceType};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The words by which catalogues know block storage of version 3: the usual one first.
const WORDS: [&str; 3] = ["volumev3", "block-storage", "block-store"];

/// Block storage, by the word that a catalogue has for it. Its address is taken as it stands there: many clouds want the
/// project's id in it, which is in no address that the service itself tells.
#[derive(Debug, Clone, Copy)]
pub struct BlockStorage(&'static str);

impl ServiceType for BlockStorage {
    fn catalog_type(&self) -> &'static str {
        self.0
    }

    fn version_discovery_supported(&self) -> bool {
        false
    }
}

/// How far a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Creating,
    Available,
    Attaching,
    InUse,
    Error,
    Deleting,
    /// What somebody else does with it.
    Other,
}

/// Where a volume is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The server's id.
    pub server: String,
    /// As the cloud names it; the guest may have another name for it.
    pub device: String,
}

/// One volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    pub id: String,
    pub name: String,
    /// GiB.
    pub gigabytes: u64,
    /// The name of its type.
    pub kind: String,
    pub condition: Condition,
    /// The cloud's own word for the condition.
    pub word: String,
    pub bootable: bool,
    /// When it was made, as the cloud writes it; the same form for all, so that it sorts.
    pub made: String,
    pub metadata: BTreeMap<String, String>,
    pub attachments: Vec<Attachment>,
}

impl Volume {
    /// Tells whether it is one of ours on which nothing ever was.
    pub fn blank(&self) -> bool {
        self.metadata.contains_key(BLANK) && self.attachments.is_empty()
    }
}

/// A volume to be made.
pub struct NewVolume<'a> {
    pub name: &'a str,
    /// GiB.
    pub gigabytes: u64,
    /// Nothing for the cloud's own choice.
    pub kind: Option<&'a str>,
    pub availability_zone: Option<&'a str>,
    pub metadata: Value,
}

impl Cloud {
    /// Finds block storage in the catalogue; nothing where the cloud has none.
    pub async fn block_storage(&self) -> Answer<Option<BlockStorage>> {
        for word in WORDS {
            if self.has(BlockStorage(word)).await? {
                return Ok(Some(BlockStorage(word)));
            }
        }
        Ok(None)
    }

    async fn storage(&self) -> Answer<BlockStorage> {
        let none = || self.refusal_of("volumes", "the catalogue has no block storage in this region");
        self.block_storage().await?.ok_or_else(none)
    }

    pub(super) async fn read_volumes(&self) -> Answer<Vec<Volume>> {
        let found = self.list(self.storage().await?, &["volumes", "detail"], "volumes", &[]).await?;
        Ok(found.iter().map(volume).collect())
    }

    /// Lists the names of the volume types that the project may use.
    pub async fn volume_types(&self) -> Answer<Vec<String>> {
        let found = self.list(self.storage().await?, &["types"], "volume_types", &[]).await?;
        Ok(found.iter().map(|kind| text(kind, "name")).collect())
    }

    /// Lists the availability zones that take volumes.
    pub async fn volume_zones(&self) -> Answer<Vec<String>> {
        let found = self.list(self.storage().await?, &["os-availability-zone"], "availabilityZoneInfo", &[]).await?;
        let open = |zone: &&Value| zone.pointer("/zoneState/available").and_then(Value::as_bool) == Some(true);
        Ok(found.iter().filter(open).map(|zone| text(zone, "zoneName")).collect())
    }

    /// Reads the quotas of volumes of the project, by the API's own names; empty where the cloud does not tell.
    pub async fn volume_quotas(&self) -> Answer<BTreeMap<String, Usage>> {
        let Some(project) = self.project().await? else { return Ok(BTreeMap::new()) };
        let (path, usage) = (["os-quota-sets", project.as_str()], [("usage", "True".to_owned())]);
        match self.call(self.storage().await?, Method::GET, &path, &usage, None).await {
            Ok(answer) => Ok(usages(answer.get("quota_set"), "in_use")),
            // A policy may keep it from the project.
            Err(refusal) if matches!(refusal.status, Some(403 | 404)) => Ok(BTreeMap::new()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Asks for a volume, and returns its id.
    pub async fn create_volume(&self, _permit: &Permit, volume: &NewVolume<'_>) -> Answer<String> {
        let mut wanted = json!({"name": volume.name, "size": volume.gigabytes, "metadata": volume.metadata});
        if let Some(kind) = volume.kind {
            wanted["volume_type"] = json!(kind);
        }
        if let Some(zone) = volume.availability_zone {
            wanted["availability_zone"] = json!(zone);
        }
        let body = json!({"volume": wanted});
        let made = self.call(self.storage().await?, Method::POST, &["volumes"], &[], Some(&body)).await?;
        Ok(made.get("volume").map(|volume| text(volume, "id")).unwrap_or_default())
    }

    /// Takes one word out of a volume's metadata; one that is not there is no error.
    pub async fn forget_of_volume(&self, _permit: &Permit, id: &str, key: &str) -> Answer<()> {
        let path = ["volumes", id, "metadata", key];
        match self.call(self.storage().await?, Method::DELETE, &path, &[], None).await {
            Err(refusal) if refusal.status == Some(404) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Deletes a volume of ours; one that is gone is no error.
    pub async fn delete_volume(&self, _permit: &Permit, id: &str) -> Answer<()> {
        self.delete(self.storage().await?, "volumes", id).await
    }

    /// Asks for a volume to be attached to a server; a volume that is attached, or on its way, is refused by the cloud.
    pub async fn attach_volume(&self, _permit: &Permit, server: &str, volume: &str) -> Answer<()> {
        let body = json!({"volumeAttachment": {"volumeId": volume}});
        let path = ["servers", server, "os-volume_attachments"];
        self.call(COMPUTE, Method::POST, &path, &[], Some(&body)).await.map(|_| ())
    }
}

fn volume(found: &Value) -> Volume {
    let word = text(found, "status");
    let condition = match word.as_str() {
        "creating" | "downloading" => Condition::Creating,
        "available" => Condition::Available,
        "reserved" | "attaching" | "detaching" => Condition::Attaching,
        "in-use" => Condition::InUse,
        "error" => Condition::Error,
        "deleting" => Condition::Deleting,
        _ => Condition::Other,
    };
    let metadata = found.get("metadata").and_then(Value::as_object).into_iter().flatten();
    let attachments = found.get("attachments").and_then(Value::as_array).into_iter().flatten();
    Volume {
        id: text(found, "id"),
        name: text(found, "name"),
        gigabytes: found.get("size").and_then(Value::as_u64).unwrap_or(0),
        kind: text(found, "volume_type"),
        condition,
        word,
        bootable: text(found, "bootable") == "true",
        made: text(found, "created_at"),
        metadata: metadata.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
        attachments: attachments
            .map(|at| Attachment { server: text(at, "server_id"), device: text(at, "device") })
            .collect(),
    }
}
