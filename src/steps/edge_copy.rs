//! Whether a copy of a CDN service stands beside it, and differs in nothing but what is meant to differ.

use crate::edge::{Content, Copied, Fastly, writes};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::settings::Copy;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A service, and what its copy shall be.
pub struct Twin {
    pub fastly: Fastly,
    /// The pillar's name of the service.
    pub name: String,
    /// The service that is copied.
    pub source: String,
    pub copy: Copy,
    /// New address by old address.
    pub addresses: BTreeMap<String, String>,
    /// Backends that stay where they point, by name.
    pub leave: Vec<String>,
}

/// A copy as it was seen; nothing in it is a secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resemblance {
    /// The copy's id; empty where there is none.
    pub service: String,
    pub name: String,
    pub version: u64,
    /// The version of the service that it is like.
    pub like: u64,
    /// Where its backends point, by name.
    pub backends: BTreeMap<String, String>,
    pub domains: Vec<String>,
    pub objects: usize,
    /// What the service has and the copy has not, on purpose or because it cannot be read.
    pub left_out: Vec<String>,
    /// Fields in which it differs and should not; no values, for some are keys.
    pub differences: Vec<String>,
    /// How many writes it takes to make it so.
    pub writes: u64,
}

/// What a copy shall be.
pub(super) struct Wanted {
    pub content: Content,
    pub like: u64,
    pub left_out: Vec<String>,
    /// Addresses that no node owns, by backend.
    pub unowned: BTreeMap<String, String>,
    /// Domains that the service itself serves.
    pub served: Vec<String>,
}

impl Twin {
    /// Works out from the active version of the service what its copy shall be.
    pub(super) async fn wanted(&self) -> Result<Wanted> {
        let active = self.fastly.active(&self.source).await?;
        let active = active.ok_or_else(|| Error::remote(self.system(), "it has no active version to copy"))?;
        let kind = self.fastly.type_of(&self.source).await?;
        if kind != "vcl" {
            return Err(Error::remote(self.system(), format!("it is of kind {kind}; only kind vcl can be copied")));
        }
        let mut content = self.fastly.content(&self.source, active.number).await?;
        let mut left_out = self.fastly.uncopied(&self.source, active.number).await?;
        left_out.append(&mut content.unreadable);
        left_out.extend(content.log_to(&self.copy.logs));
        let versionless = self.copy.versionless.unwrap_or_else(|| content.versionless_domains());
        let served = content.domains();
        content.serve(&self.copy.domains, versionless);
        let (mut pointed, mut unowned) = (BTreeMap::new(), BTreeMap::new());
        let owned: Vec<&String> = self.addresses.values().collect();
        for (backend, address) in content.backends() {
            match self.addresses.get(&address) {
                _ if self.leave.contains(&backend) => {}
                Some(new) => {
                    pointed.insert(backend, new.clone());
                }
                None if owned.contains(&&address) => {}
                None => {
                    unowned.insert(backend, address);
                }
            }
        }
        content.point(&pointed);
        Ok(Wanted { content, like: active.number, left_out, unowned, served })
    }

    /// Finds the copy by its mark, whatever became of its name.
    pub(super) async fn find(&self) -> Result<Option<Copied>> {
        Ok(self.fastly.copies(Some(&self.source)).await?.into_iter().next())
    }

    /// Compares what stands with what shall stand.
    pub(super) async fn compare(&self, wanted: &Wanted) -> Result<Resemblance> {
        let copy = self.find().await?;
        let version = copy.as_ref().and_then(|copy| copy.active);
        let have = match (&copy, version) {
            (Some(copy), Some(version)) => Some(self.fastly.content(&copy.id, version).await?),
            _ => None,
        };
        let begun = match (&copy, copy.as_ref().and_then(|copy| copy.draft)) {
            (Some(copy), Some(draft)) => Some(self.fastly.content(&copy.id, draft).await?),
            _ => None,
        };
        let differences = have.as_ref().map_or_else(Vec::new, |have| wanted.content.differences(have));
        let standing = have.is_some() && differences.is_empty();
        let base = begun.as_ref().or(have.as_ref());
        // A version that serves cannot be edited: it is cloned first.
        let clones = u64::from(have.is_some() && begun.is_none());
        Ok(Resemblance {
            service: copy.as_ref().map(|copy| copy.id.clone()).unwrap_or_default(),
            name: copy.map_or_else(|| self.copy.name.clone(), |copy| copy.name),
            version: version.unwrap_or_default(),
            like: wanted.like,
            backends: wanted.content.backends(),
            domains: wanted.content.domains(),
            objects: wanted.content.len(),
            left_out: wanted.left_out.clone(),
            differences: differences.iter().map(ToString::to_string).collect(),
            writes: if standing { 0 } else { writes(&wanted.content, base) + clones },
        })
    }

    /// Refuses what a copy must never do.
    pub(super) fn allowed(&self, wanted: &Wanted) -> Result<()> {
        if let Some((backend, address)) = wanted.unowned.iter().next() {
            return Err(Error::Settings {
                path: format!("migrate:edge:services:{}", self.name),
                found: format!("backend {backend} at {address}"),
                expected: "an address of a node that has a counterpart of the same name".into(),
                hint: format!("give the node a counterpart in migrate:nodes, or name {backend} under leave"),
            });
        }
        let taken = self
            .copy
            .domains
            .iter()
            .find(|domain| wanted.served.iter().any(|served| served.eq_ignore_ascii_case(domain)));
        match taken {
            Some(domain) => Err(Error::Settings {
                path: format!("migrate:edge:services:{}:copy:domains", self.name),
                found: format!("{domain}, which people use"),
                expected: "test domains alone".into(),
                hint: "give the copy a name of its own below a domain that you own".into(),
            }),
            None => Ok(()),
        }
    }

    fn system(&self) -> String {
        format!("edge service {}", self.name)
    }
}

/// `true` once a copy serves the test domains, and is like the service.
pub struct TwinStands(pub Rc<Twin>);

impl Step for TwinStands {
    type Fact = bool;
    type Evidence = Resemblance;

    async fn observe(&self) -> Result<Seen<bool, Resemblance>> {
        let likeness = self.0.compare(&self.0.wanted().await?).await?;
        // A copy that is half done is none, and is finished by the same call.
        let stands = likeness.version != 0 && likeness.differences.is_empty();
        Ok(Seen { fact: stands, evidence: likeness })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, Resemblance>> {
        let twin = &self.0;
        let wanted = twin.wanted().await?;
        twin.allowed(&wanted)?;
        let before = twin.compare(&wanted).await?;
        if before.version != 0 && before.differences.is_empty() {
            return Ok(Seen { fact: *to, evidence: before });
        }
        let fastly = &twin.fastly;
        let copy = match twin.find().await? {
            Some(copy) => copy,
            None => {
                if let Some(foreign) = fastly.named(&twin.copy.name).await? {
                    return Err(Error::Settings {
                        path: format!("migrate:edge:services:{}:copy:name", twin.name),
                        found: format!("{}, the name of service {foreign}, which is no copy of ours", twin.copy.name),
                        expected: "a name that no service has".into(),
                        hint: "choose another name; a service that does not carry our mark is never touched".into(),
                    });
                }
                fastly.make_copy(permit, &twin.source, &twin.copy.name).await?
            }
        };
        let version = match (copy.draft, copy.active) {
            (Some(draft), _) => draft,
            (None, Some(active)) => fastly.clone_version(permit, &copy.id, active).await?,
            (None, None) => {
                let latest = fastly.versions(&copy.id).await?.into_iter().map(|version| version.number).max();
                fastly.clone_version(permit, &copy.id, latest.unwrap_or(1)).await?
            }
        };
        fastly.fill(permit, &copy.id, version, &wanted.content).await?;
        // Not the answers count, but what is there.
        let wrong = wanted.content.differences(&fastly.content(&copy.id, version).await?);
        if !wrong.is_empty() {
            let words: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            let problem = format!("its copy {} is not like it in: {}", copy.id, words.join(", "));
            return Err(Error::remote(twin.system(), problem));
        }
        fastly.validate(&copy.id, version).await?;
        fastly.activate(permit, &copy.id, version).await?;
        let after = twin.compare(&wanted).await?;
        let stands = after.version != 0 && after.differences.is_empty();
        Ok(Seen { fact: stands, evidence: Resemblance { writes: before.writes, ..after } })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave("a copy serves test domains alone; the same command finishes it, and remove-copies removes it")
    }
}

/// `true` once no copy of a service stands.
pub struct NoTwin {
    pub fastly: Fastly,
    /// The service itself.
    pub source: String,
}

impl Step for NoTwin {
    type Fact = bool;
    type Evidence = Vec<String>;

    async fn observe(&self) -> Result<Seen<bool, Vec<String>>> {
        let copies = self.fastly.copies(Some(&self.source)).await?;
        let ids: Vec<String> = copies.into_iter().map(|copy| copy.id).collect();
        Ok(Seen { fact: ids.is_empty(), evidence: ids })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, _to: &bool, _earlier: &Earlier) -> Result<Seen<bool, Vec<String>>> {
        let copies = self.fastly.copies(Some(&self.source)).await?;
        for copy in &copies {
            self.fastly.remove_copy(permit, copy).await?;
        }
        let left = self.observe().await?;
        Ok(Seen { fact: left.fact, evidence: copies.into_iter().map(|copy| copy.id).collect() })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave("a copy that is gone is made again by the copy command")
    }
}
