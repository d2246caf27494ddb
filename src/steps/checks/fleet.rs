//! Whether every server gets a flavor and an image, every volume its type, and all of them fit into the project.

use super::{Notes, Topic};
use crate::cloud::{Condition, Server, Status, Volume};
use crate::error::{Error, Result};
use crate::event::Finding;
use crate::settings::{Wanted, WantedVolume};
use crate::step::{Earlier, Step};
use crate::steps::cloud::{PortMade, Project, Reserved};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Flavors, images, zones, and the limits of the project.
pub struct FleetFits(pub Rc<Project>);

/// How a server becomes what it is not.
const ANEW: &str = "delete it to have it made anew, if that matters; a server that is there is never changed";

/// What the servers that are not there yet will take.
#[derive(Default)]
struct Sum {
    servers: u64,
    vcpus: u64,
    ram: u64,
}

impl Topic for FleetFits {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("fleet");
        let project = &self.0;
        let servers = project.cloud.servers().await?;
        let zones = project.cloud.availability_zones().await?;
        let mut sum = Sum::default();
        for (node, wanted) in &project.prepare.servers {
            if let Some(zone) = wanted.availability_zone.as_ref().filter(|zone| !zones.contains(zone)) {
                let found = format!("there is no availability zone {zone}; open are {}", zones.join(", "));
                notes.block(node, found, format!("correct migrate:prepare:servers:{node}:availability_zone"));
            }
            let ours = project.ours(node, &servers);
            match ours.first() {
                None => {
                    // One that is being deleted leaves its place to it.
                    let leaves = !project.marked(node, &servers).is_empty();
                    let sum = if leaves { &mut Sum::default() } else { &mut sum };
                    self.new_server(&mut notes, node, wanted, sum).await?;
                }
                Some(server) => {
                    if server.status == Status::Error && !server.ran {
                        // It is made again, in its own place.
                        self.new_server(&mut notes, node, wanted, &mut Sum::default()).await?;
                    }
                    self.standing_server(&mut notes, node, wanted, server).await?;
                    let fault = server.fault.clone().unwrap_or_else(|| "no reason is given".into());
                    if server.status == Status::Error && server.ran {
                        let found = format!("its server {} ran, and is in error now: {fault}", server.id);
                        let mend = format!(
                            "look at it, then openstack server set --state active {}; or delete it to have it made anew",
                            server.id
                        );
                        notes.block(node, found, mend);
                    } else if server.status == Status::Error {
                        notes.warn(node, format!("its server is in error: {fault}"), "it is made again by the run");
                    } else if server.status == Status::Other {
                        let found = format!("its server {} is {}", server.id, server.word);
                        notes.block(node, found, "start it, or delete it to have it made anew");
                    }
                    if ours.iter().filter(|server| server.status == Status::Active).count() > 1 {
                        let ids: Vec<&str> = ours.iter().map(|server| server.id.as_str()).collect();
                        let found = format!("{} servers carry its mark: {}", ids.len(), ids.join(", "));
                        notes.block(node, found, "delete all but one");
                    }
                }
            }
        }
        if sum.servers > 0 {
            let limits = project.cloud.limits().await?;
            for (what, asked, limit) in [
                ("instances", sum.servers, limits.instances),
                ("cores", sum.vcpus, limits.cores),
                ("ram (MiB)", sum.ram, limits.ram),
            ] {
                notes.within(what, asked, limit.used, limit.most);
            }
        }
        self.apart(&mut notes, &servers).await?;
        if project.prepare.servers.values().any(|wanted| !wanted.volumes.is_empty()) {
            self.volumes(&mut notes).await?;
        }
        Ok(notes.findings)
    }
}

impl FleetFits {
    async fn new_server(&self, notes: &mut Notes, node: &str, wanted: &Wanted, sum: &mut Sum) -> Result<()> {
        let project = &self.0;
        let image = match project.image(node, wanted).await {
            Ok(image) => Some(image),
            Err(Error::Settings { found, expected, hint, .. }) => {
                notes.block(node, format!("its image is {found}, expected {expected}"), hint);
                None
            }
            Err(other) => return Err(other),
        };
        let matched = project.flavor(wanted, image.as_ref()).await?;
        let Some(chosen) = matched.chosen() else {
            let found = format!(
                "no flavor has {} vCPU, {} MiB and {} GiB; {}",
                wanted.vcpus,
                wanted.ram,
                wanted.disk,
                matched.misses()
            );
            let mend = format!(
                "ask for a flavor, set migrate:prepare:allow_smaller, or name one in migrate:prepare:servers:{node}:flavor"
            );
            notes.block(node, found, mend);
            return Ok(());
        };
        let flavors = project.cloud.flavors().await?;
        if let Some(flavor) = flavors.iter().find(|flavor| flavor.name == chosen.flavor) {
            sum.servers += 1;
            sum.vcpus += u64::from(flavor.vcpus);
            sum.ram += flavor.ram;
        }
        if chosen.distance > 0.0 && !matched.pinned {
            let best: Vec<String> = matched
                .best
                .iter()
                .map(|candidate| {
                    format!("{} ({}; distance {:.2})", candidate.flavor, candidate.why, candidate.distance)
                })
                .collect();
            let found = format!("no flavor is exactly what is wanted; the nearest: {}", best.join(", then "));
            notes.warn(node, found, format!("name another in migrate:prepare:servers:{node}:flavor, if you want it"));
        }
        Ok(())
    }

    /// Says how a server of ours that is there differs from what it would be today.
    async fn standing_server(&self, notes: &mut Notes, node: &str, wanted: &Wanted, server: &Server) -> Result<()> {
        let project = &self.0;
        let flavors = project.cloud.flavors().await?;
        let image = project.image(node, wanted).await.ok();
        let matched = project.flavor(wanted, image.as_ref()).await?;
        let flavor = flavors.iter().find(|flavor| flavor.id == server.flavor);
        let has = flavor.map_or(server.flavor.as_str(), |flavor| flavor.name.as_str());
        if matched.chosen().is_some_and(|chosen| chosen.flavor != has) {
            let now = matched.chosen().map(|chosen| chosen.flavor.as_str()).unwrap_or_default();
            let found = format!("its server is there with the flavor {has}, and would get {now} today");
            notes.warn(
                node,
                found,
                "resize it, or delete it to have it made anew; a server that is there is never changed",
            );
        }
        if let (Some(id), Some(image)) = (&server.image, &image)
            && *id != image.id
        {
            let images = project.cloud.images().await?;
            let name = images.iter().find(|image| image.id == *id).map_or("an image that is gone", |image| &image.name);
            let found = format!(
                "its server is there with the image {name} ({id}), and would get {} ({}) today",
                image.name, image.id
            );
            notes.warn(node, found, ANEW);
        }
        let zone = wanted.availability_zone.as_ref();
        for (what, has, shall) in [
            ("key pair", server.key_pair.as_ref(), wanted.key_pair.as_ref()),
            // Where none is asked for the cloud chose one.
            ("availability zone", zone.and(server.availability_zone.as_ref()), zone),
        ] {
            if has != shall {
                let named = |name: Option<&String>| name.cloned().unwrap_or_else(|| "none".into());
                let found =
                    format!("its server is there with the {what} {}, and would get {} today", named(has), named(shall));
                notes.warn(node, found, ANEW);
            }
        }
        let port = PortMade { project: project.clone(), node: node.to_owned() };
        let (has, shall) = (port.observe().await?.fact, port.want(&Earlier::default()).await?);
        if let (Some(has), Some(shall)) = (has, shall)
            && has.security_groups != shall.security_groups
        {
            let names = |reserved: &Reserved| {
                let names: Vec<&str> = reserved.security_groups.iter().map(String::as_str).collect();
                if names.is_empty() { "none but the default one".to_owned() } else { names.join(", ") }
            };
            let found = format!("its port has the security groups {}, and shall have {}", names(&has), names(&shall));
            let mend = format!(
                "a run sets them; what was added by hand and shall stay belongs into migrate:prepare:servers:{node}:security_groups"
            );
            notes.warn(node, found, mend);
        }
        Ok(())
    }

    /// Names servers that are there, and were not made in the group that keeps them apart.
    async fn beside_one_another(&self, notes: &mut Notes, servers: &[Server]) -> Result<()> {
        let project = &self.0;
        let there: Vec<(&String, &String, &str)> = (project.prepare.apart.iter())
            .flat_map(|(name, nodes)| nodes.iter().map(move |node| (name, node)))
            .filter_map(|(name, node)| Some((name, node, project.ours(node, servers).first()?.id.as_str())))
            .collect();
        if there.is_empty() {
            return Ok(());
        }
        let groups = project.cloud.server_groups().await?;
        for (name, node, id) in there {
            let group = groups.iter().find(|group| group.name == project.mark(name).name());
            if !group.is_some_and(|group| group.members.iter().any(|member| member == id)) {
                let found =
                    format!("its server is there, and not kept apart in {name}: it may share a host with another");
                notes.warn(node, found, ANEW);
            }
        }
        Ok(())
    }

    /// Looks at the groups of servers that are kept apart, and at how many each may hold.
    async fn apart(&self, notes: &mut Notes, servers: &[Server]) -> Result<()> {
        let project = &self.0;
        self.beside_one_another(notes, servers).await?;
        let misses = |nodes: &Vec<String>| nodes.iter().any(|node| project.ours(node, servers).is_empty());
        let growing: Vec<(&String, u64)> = project
            .prepare
            .apart
            .iter()
            .filter(|(_, nodes)| misses(nodes))
            .map(|(name, nodes)| (name, nodes.len() as u64))
            .collect();
        if growing.is_empty() {
            return Ok(());
        }
        let (groups, limits) = (project.cloud.server_groups().await?, project.cloud.limits().await?);
        let there = |name: &str| groups.iter().any(|group| group.name == project.mark(name).name());
        let new = growing.iter().filter(|(name, _)| !there(name)).count() as u64;
        notes.within("server_groups", new, limits.server_groups.used, limits.server_groups.most);
        for (name, members) in growing {
            if let Some(most) = limits.server_group_members.filter(|most| members > *most) {
                let found = format!("a group of servers may have {most}, and {members} are to be kept apart in {name}");
                let mend =
                    "have the quota server_group_members raised, or make two groups of it in migrate:prepare:apart";
                notes.block("server_group_members", found, mend);
            }
        }
        Ok(())
    }

    /// Looks at every volume that is asked for, and at what those that are not there yet will take.
    async fn volumes(&self, notes: &mut Notes) -> Result<()> {
        let cloud = &self.0.cloud;
        if cloud.block_storage().await?.is_none() {
            let found = "the catalogue has no block storage in this region";
            notes.block("volumes", found, "take migrate:prepare:servers:NODE:volumes out, or ask the provider");
            return Ok(());
        }
        let (found, servers) = (cloud.volumes().await?, cloud.servers().await?);
        let (types, zones) = (cloud.volume_types().await?, cloud.volume_zones().await?);
        // By the names that quotas have; those of one type follow it.
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        let mut largest = 0;
        for (node, wanted) in &self.0.prepare.servers {
            let server = self.0.marked(node, &servers).first().map(|server| server.id.clone());
            for (name, volume) in &wanted.volumes {
                let subject = format!("{node}:{name}");
                let pillar = format!("migrate:prepare:servers:{node}:volumes:{name}");
                let ours = self.0.our_volumes(node, name, &found);
                if ours.iter().any(|volume| volume.condition != Condition::Error) {
                    standing_volume(notes, &subject, volume, &ours, server.as_deref());
                    continue;
                }
                if let Some(kind) = volume.kind.as_ref().filter(|kind| !types.contains(kind)) {
                    let found = format!("there is no volume type {kind}; there are {}", types.join(", "));
                    notes.block(&subject, found, format!("correct {pillar}:type"));
                }
                if let Some(zone) = volume.availability_zone.as_ref().filter(|zone| !zones.contains(zone)) {
                    let found =
                        format!("there is no availability zone {zone} for volumes; open are {}", zones.join(", "));
                    notes.block(&subject, found, format!("correct {pillar}:availability_zone"));
                }
                largest = largest.max(volume.gigabytes);
                let of_type = volume.kind.as_ref().map(|kind| format!("_{kind}"));
                for suffix in [Some(String::new()), of_type].into_iter().flatten() {
                    *sums.entry(format!("volumes{suffix}")).or_default() += 1;
                    *sums.entry(format!("gigabytes{suffix}")).or_default() += volume.gigabytes;
                }
            }
        }
        let quotas = if sums.is_empty() { BTreeMap::new() } else { cloud.volume_quotas().await? };
        for (what, asked) in sums {
            if let Some(quota) = quotas.get(&what) {
                notes.within(&what, asked, quota.used, quota.most);
            }
        }
        if let Some(most) =
            quotas.get("per_volume_gigabytes").and_then(|quota| quota.most).filter(|most| largest > *most)
        {
            let found = format!("a volume may have {most} GiB, and {largest} are asked for");
            notes.block("per_volume_gigabytes", found, "ask for smaller volumes, or have the quota raised");
        }
        Ok(())
    }
}

/// Says how a volume of ours that is there differs from what it would be today.
fn standing_volume(notes: &mut Notes, subject: &str, wanted: &WantedVolume, ours: &[&Volume], server: Option<&str>) {
    let Some(volume) = ours.first() else { return };
    let id = &volume.id;
    if let Some(at) = volume.attachments.iter().find(|at| Some(at.server.as_str()) != server) {
        let found = format!("its volume {id} is attached to the server {}", at.server);
        notes.block(subject, found, "detach it there: it belongs to the server of its node");
    } else if volume.condition == Condition::Other {
        notes.block(subject, format!("its volume {id} is {}", volume.word), "wait, or find out who is at work on it");
    }
    if ours.iter().filter(|volume| !volume.blank()).count() > 1 {
        let ids: Vec<&str> = ours.iter().map(|volume| volume.id.as_str()).collect();
        notes.block(subject, format!("{} volumes carry its mark: {}", ids.len(), ids.join(", ")), "delete all but one");
    }
    let kind = wanted.kind.as_ref().filter(|kind| **kind != volume.kind);
    if kind.is_some() || wanted.gigabytes != volume.gigabytes {
        let asked = kind.map_or_else(String::new, |kind| format!(" of type {kind}"));
        let found = format!(
            "its volume {id} is there with {} GiB of type {}, and would get {}{asked} today",
            volume.gigabytes, volume.kind, wanted.gigabytes
        );
        notes.warn(subject, found, "extend or retype it yourself; a volume that is there is never changed");
    }
}
