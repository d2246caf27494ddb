//! Whether a node's volume is there, and attached to its server.
//!
//! Invariant: before a volume is asked for, and after every answer that is not clear, it is looked for by its mark; one that
//! is there is waited for and taken over. Nothing fences off a request that the cloud carries out late, so two may come; but
//! a volume is marked as blank until just before it is attached for the first time, and only blank ones are ever deleted.

use super::{Project, STAYS};
use crate::cloud::{BLANK, Condition, NewVolume, Server, Volume};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::settings::WantedVolume;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a volume that came out in error is made again, and one that came off again is attached again.
const AGAIN: usize = 1;

/// A volume as it is, or shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    pub gigabytes: u64,
    /// Nothing where the pillar leaves the choice to the cloud.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Whether it is there, and the only one.
    pub ready: bool,
}

impl Project {
    /// Finds the volumes that carry a mark: those that were in use before those that never were, and then the oldest.
    pub fn our_volumes<'a>(&self, node: &str, name: &str, volumes: &'a [Volume]) -> Vec<&'a Volume> {
        let mark = self.mark(node);
        let ours = |volume: &&Volume| mark.is_on_volume(Some(name), volume) && volume.condition != Condition::Deleting;
        let mut found: Vec<&Volume> = volumes.iter().filter(ours).collect();
        found.sort_by_key(|volume| (volume.blank(), volume.condition == Condition::Error, &volume.made, &volume.id));
        found
    }

    fn wanted_volume(&self, node: &str, name: &str) -> Option<&WantedVolume> {
        self.prepare.servers.get(node)?.volumes.get(name)
    }

    /// Looks at the volumes once more, a tick after the last look.
    async fn volumes_again(&self, limit: Instant) -> Result<Rc<Vec<Volume>>> {
        let (after, tick) = (Instant::now(), self.tick());
        self.look_again(limit, async || self.cloud.volumes_after(after, tick).await).await
    }

    fn volume_limit(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.prepare.deadlines.server)
    }
}

/// The volume of a node, by its name in the pillar; its evidence is its id.
pub struct VolumeMade {
    pub project: Rc<Project>,
    pub node: String,
    pub name: String,
}

impl VolumeMade {
    fn disk(&self, volume: &Volume, ready: bool) -> Disk {
        let asked = self.project.wanted_volume(&self.node, &self.name).is_some_and(|wanted| wanted.kind.is_some());
        Disk { gigabytes: volume.gigabytes, kind: asked.then(|| volume.kind.clone()), ready }
    }

    fn seen(&self, ours: &[&Volume]) -> Seen<Option<Disk>, Option<String>> {
        let Some(volume) = ours.first() else { return Seen { fact: None, evidence: None } };
        let there = matches!(volume.condition, Condition::Available | Condition::Attaching | Condition::InUse);
        Seen { fact: Some(self.disk(volume, there && ours.len() == 1)), evidence: Some(volume.id.clone()) }
    }

    async fn make(&self, permit: &Permit, to: &Disk) -> Result<()> {
        let project = &self.project;
        let (name, wanted) = (format!("{}-{}", self.node, self.name), project.wanted_volume(&self.node, &self.name));
        let volume = NewVolume {
            name: &name,
            gigabytes: to.gigabytes,
            kind: to.kind.as_deref(),
            availability_zone: wanted.and_then(|wanted| wanted.availability_zone.as_deref()),
            metadata: project.mark(&self.node).volume_metadata(&self.name),
        };
        let ask = async || project.cloud.create_volume(permit, &volume).await;
        let made = async || {
            let volumes = project.cloud.volumes().await?;
            Ok(project.our_volumes(&self.node, &self.name, &volumes).first().map(|volume| volume.id.clone()))
        };
        project.ask_clearly(ask, made).await.map(|_| ())
    }

    /// Deletes what is surely blank of the volumes that we do not keep; says whether there was any.
    async fn clear(&self, permit: &Permit, doubles: &[&Volume]) -> Result<bool> {
        let goes =
            |volume: &&&Volume| volume.blank() && matches!(volume.condition, Condition::Available | Condition::Error);
        let mut some = false;
        for double in doubles.iter().filter(goes) {
            self.project.cloud.delete_volume(permit, &double.id).await?;
            some = true;
        }
        Ok(some)
    }

    fn problem(&self, what: &str) -> Error {
        Error::remote(&self.project.cloud.name, format!("the volume {} of {}: {what}", self.name, self.node))
    }
}

impl Step for VolumeMade {
    type Fact = Option<Disk>;
    type Evidence = Option<String>;

    async fn observe(&self) -> Result<Seen<Option<Disk>, Option<String>>> {
        let volumes = self.project.cloud.volumes().await?;
        Ok(self.seen(&self.project.our_volumes(&self.node, &self.name, &volumes)))
    }

    /// What is there is wanted as it is: a volume that exists is never changed, and how it differs is a finding.
    async fn want(&self, _earlier: &Earlier) -> Result<Option<Disk>> {
        let volumes = self.project.cloud.volumes().await?;
        if let Some(volume) = self.project.our_volumes(&self.node, &self.name, &volumes).first()
            && volume.condition != Condition::Error
        {
            return Ok(Some(self.disk(volume, true)));
        }
        let wanted = self.project.wanted_volume(&self.node, &self.name);
        Ok(wanted.map(|wanted| Disk { gigabytes: wanted.gigabytes, kind: wanted.kind.clone(), ready: true }))
    }

    async fn set(&self, permit: &Permit, to: &Option<Disk>, _: &Earlier) -> Result<Seen<Option<Disk>, Option<String>>> {
        let project = &self.project;
        let Some(to) = to else { return self.observe().await };
        let _turn = project.unless_interrupted(project.pace.turn()).await?;
        let (limit, mut failed) = (project.volume_limit(), 0);
        let mut volumes = project.cloud.volumes().await?;
        loop {
            let ours = project.our_volumes(&self.node, &self.name, &volumes);
            match ours.split_first() {
                None => self.make(permit, to).await?,
                Some((volume, [])) => match volume.condition {
                    Condition::Available | Condition::Attaching | Condition::InUse => return Ok(self.seen(&ours)),
                    Condition::Error if volume.blank() && failed < AGAIN => {
                        failed += 1;
                        self.clear(permit, &ours).await?;
                    }
                    Condition::Error => {
                        let id = &volume.id;
                        let why = format!("openstack volume message list --resource-uuid {id} says why");
                        return Err(self.problem(&format!("{id} is in error, and stays to be looked at: {why}")));
                    }
                    Condition::Creating | Condition::Deleting => {
                        project.in_time(limit, &format!("the volume {} of {} to be there", self.name, self.node))?;
                    }
                    Condition::Other => {
                        let what = format!("{} is {}: somebody else is at work on it", volume.id, volume.word);
                        return Err(self.problem(&what));
                    }
                },
                Some((_, doubles)) => {
                    if !self.clear(permit, doubles).await? {
                        if doubles.iter().any(|double| !double.blank()) {
                            let ids: Vec<&str> = ours.iter().map(|volume| volume.id.as_str()).collect();
                            let found = format!("{} volumes carry its mark: {}", ids.len(), ids.join(", "));
                            return Err(self.problem(&format!("{found}; delete all but one")));
                        }
                        project.in_time(limit, &format!("doubles of the volume {} of {}", self.name, self.node))?;
                    }
                }
            }
            // What was seen before we acted would show that we had not.
            volumes = project.volumes_again(limit).await?;
        }
    }

    fn undo(&self) -> Undo<Option<Disk>> {
        Undo::Leave(STAYS)
    }

    /// One of ours that is on its way, failed on it, or came twice.
    fn half_done(&self, found: &Option<Disk>, _old: &Option<Disk>, _new: &Option<Disk>) -> bool {
        found.as_ref().is_some_and(|disk| !disk.ready)
    }
}

/// What was attached where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub volume: String,
    pub server: String,
    /// As the cloud names it; the guest may have another name for it.
    pub device: String,
}

/// Whether a node's volume is attached to its server.
pub struct VolumeAttached {
    pub project: Rc<Project>,
    pub node: String,
    pub name: String,
}

impl VolumeAttached {
    fn place(volume: &Volume, server: &Server) -> Option<Place> {
        let at = volume.attachments.iter().find(|at| at.server == server.id);
        at.filter(|_| volume.condition == Condition::InUse).map(|at| Place {
            volume: volume.id.clone(),
            server: server.id.clone(),
            device: at.device.clone(),
        })
    }

    async fn attach(&self, permit: &Permit, volume: &Volume, server: &Server) -> Result<()> {
        let cloud = &self.project.cloud;
        // From now on it may have something on it.
        if volume.metadata.contains_key(BLANK) {
            cloud.forget_of_volume(permit, &volume.id, BLANK).await?;
        }
        let ask = async || cloud.attach_volume(permit, &server.id, &volume.id).await;
        let done = async || {
            let volumes = cloud.volumes().await?;
            let found = volumes.iter().find(|found| found.id == volume.id);
            Ok(found.filter(|found| found.condition != Condition::Available).map(|_| ()))
        };
        self.project.ask_clearly(ask, done).await
    }
}

impl Step for VolumeAttached {
    type Fact = bool;
    type Evidence = Option<Place>;

    async fn observe(&self) -> Result<Seen<bool, Option<Place>>> {
        let (volumes, servers) = (self.project.cloud.volumes().await?, self.project.cloud.servers().await?);
        let volumes = self.project.our_volumes(&self.node, &self.name, &volumes);
        let servers = self.project.ours(&self.node, &servers);
        let place = volumes.first().zip(servers.first()).and_then(|(volume, server)| Self::place(volume, server));
        Ok(Seen { fact: place.is_some(), evidence: place })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, _to: &bool, _: &Earlier) -> Result<Seen<bool, Option<Place>>> {
        let project = &self.project;
        let (limit, mut asked) = (project.volume_limit(), 0);
        let servers = project.cloud.servers().await?;
        let server = project.ours(&self.node, &servers).first().copied().cloned();
        let server = server.ok_or_else(|| Error::NotYet(format!("the server of {}", self.node)))?;
        let mut volumes = project.cloud.volumes().await?;
        loop {
            let ours = project.our_volumes(&self.node, &self.name, &volumes);
            let volume =
                *ours.first().ok_or_else(|| Error::NotYet(format!("the volume {} of {}", self.name, self.node)))?;
            if let Some(place) = Self::place(volume, &server) {
                return Ok(Seen { fact: true, evidence: Some(place) });
            }
            let what = format!("the volume {} of {} ({})", self.name, self.node, volume.id);
            match volume.condition {
                Condition::Available if asked <= AGAIN => {
                    asked += 1;
                    self.attach(permit, volume, &server).await?;
                }
                Condition::Available => {
                    let problem = format!("{what} came off the server {} again, {asked} times", server.id);
                    return Err(Error::remote(
                        &project.cloud.name,
                        format!("{problem}; attach it by hand, to see why"),
                    ));
                }
                Condition::Attaching => project.in_time(limit, &format!("{what} to be attached"))?,
                _ => {
                    let at: Vec<&str> = volume.attachments.iter().map(|at| at.server.as_str()).collect();
                    let at = if at.is_empty() { String::new() } else { format!(", on the server {}", at.join(", ")) };
                    let problem = format!("{what} is {}{at}, and shall be on {}", volume.word, server.id);
                    return Err(Error::remote(&project.cloud.name, format!("{problem}; detach it there")));
                }
            }
            volumes = project.volumes_again(limit).await?;
        }
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave(STAYS)
    }
}
