//! Whether old and new were compared: a record of what the comparison saw.

use crate::edge::Fastly;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::proof::Proof;
use crate::settings::{Service, Settings, Side, Vhost, WayName};
use crate::site::compare::{Comparison, Tester, Way};
use crate::site::page::Place;
use crate::step::{Earlier, Seen, Step, Undo};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The record's subject.
pub const COMPARISON: &str = "comparison";

/// Compares old and new by every way of the pillar, and keeps a record of it.
///
/// # Errors
/// [`Error::Settings`] where the pillar names nothing to compare; whatever hinders looking.
pub async fn compared(settings: &Settings) -> Result<Comparison> {
    let compare = settings.compare.as_ref().ok_or_else(|| Error::Settings {
        path: "migrate:compare".into(),
        found: "nothing".into(),
        expected: "what is asked of both sides".into(),
        hint: "compare: {} is enough where migrate:vhosts names services; pillar-example/migrate.sls has more".into(),
    })?;
    let mut ways = Vec::new();
    for (name, vhost) in &settings.vhosts {
        for way in &compare.ways {
            let answer = Duration::from_millis(compare.answer);
            let made = match way {
                WayName::Origin => Some(origin(settings, name, vhost, answer)?),
                WayName::Copy => copy(settings, name, vhost, answer)?,
                WayName::Staged => staged(settings, name, vhost, answer).await?,
            };
            ways.extend(made);
        }
    }
    let named = settings.vhosts.values().flat_map(|vhost| vhost.hosts.clone());
    let old = settings.nodes.old.values().flat_map(|node| [Some(node.private), node.public]).flatten();
    let production: BTreeSet<String> = named
        .chain(settings.addresses.public.clone())
        .map(|name| name.to_lowercase())
        .chain(old.map(|address| address.to_string()))
        .collect();
    let notice = settings.test.as_ref().map(|testing| testing.notice.as_str());
    let tester = Tester { compare, notice, production };
    let paths = settings.vhosts.iter().map(|(name, vhost)| (name.clone(), vhost.path.clone())).collect();
    let seen = tester.compare(&ways, &paths).await?;
    let evidence = serde_json::to_value(&seen).map_err(|error| Error::Journal(error.to_string()))?;
    let evidence = json!({"pillar": settings.hash, "seen": evidence});
    Proof::new(COMPARISON, seen.hash.clone(), evidence).keep(&settings.state_dir)?;
    Ok(seen)
}

fn origin(settings: &Settings, name: &str, vhost: &Vhost, answer: Duration) -> Result<Way> {
    let place = |side| Place::past_the_edge(&settings.inventory(), side, name, vhost, answer);
    Ok(Way { vhost: name.to_owned(), way: "origin", old: place(Side::Old)?, new: place(Side::New)?, version: None })
}

/// The service as people reach it, beside its copy: both through the same point of presence where the pillar names one.
fn copy(settings: &Settings, name: &str, vhost: &Vhost, answer: Duration) -> Result<Option<Way>> {
    let Some(service) = settings.edge.as_ref().and_then(|edge| edge.services.get(name)) else { return Ok(None) };
    let Some(copy) = &service.copy else { return Ok(None) };
    let pop = pop_of(service.probe.as_ref().and_then(|probe| probe.addresses.first()));
    let place = |hosts: &[String]| -> Result<Place> {
        let host = hosts.first().cloned().unwrap_or_default();
        let lead = |host: &String| Some((host.to_lowercase(), pop?));
        let places: BTreeMap<String, SocketAddr> = hosts.iter().filter_map(lead).collect();
        Place::new(name, vhost, vhost.scheme.word(), host, places, answer)
    };
    let (old, new) = (place(&vhost.hosts)?, place(&copy.domains)?);
    Ok(Some(Way { vhost: name.to_owned(), way: "copy", old, new, version: told_in(service) }))
}

/// The service as people reach it, beside the version that the flip would switch to, on the CDN's staging network.
async fn staged(settings: &Settings, name: &str, vhost: &Vhost, answer: Duration) -> Result<Option<Way>> {
    let Some(edge) = &settings.edge else { return Ok(None) };
    let Some(service) = edge.services.get(name) else { return Ok(None) };
    let fastly = Fastly::new(edge)?;
    let found = fastly.versions(&service.id).await?.into_iter().find(|version| version.staging);
    let Some(version) = found else {
        return Err(Error::NotYet(format!(
            "a version of {name} on the staging network: salt-run salt.cmd migrate_fastly.trial puts it there"
        )));
    };
    let addresses = fastly.staging_addresses(&service.id, version.number).await?;
    let pop = pop_of(service.probe.as_ref().and_then(|probe| probe.addresses.first()));
    let live: BTreeMap<String, SocketAddr> =
        vhost.hosts.iter().filter_map(|host| Some((host.to_lowercase(), pop?))).collect();
    let trial: BTreeMap<String, SocketAddr> = vhost
        .hosts
        .iter()
        .filter_map(|host| Some((host.to_lowercase(), pop_of(addresses.get(host).or(addresses.values().next()))?)))
        .collect();
    let place = |places| Place::new(name, vhost, vhost.scheme.word(), first(vhost), places, answer);
    let (old, new) = (place(live)?, place(trial)?);
    Ok(Some(Way { vhost: name.to_owned(), way: "staged", old, new, version: told_in(service) }))
}

fn told_in(service: &Service) -> Option<String> {
    service.probe.as_ref().map(|probe| probe.header.clone())
}

fn first(vhost: &Vhost) -> String {
    vhost.hosts.first().cloned().unwrap_or_default()
}

fn pop_of(text: Option<&String>) -> Option<SocketAddr> {
    let text = text?;
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 0)))
}

/// `true` while the record is there, of this pillar, and no older than it holds.
pub struct Compared {
    pub settings: Settings,
}

impl Compared {
    fn holds(&self) -> Result<Option<Proof>> {
        let hours = self.settings.compare.as_ref().map_or(0.0, |compare| compare.valid_hours);
        let proof = Proof::read(&self.settings.state_dir, COMPARISON)?;
        Ok(proof.filter(|proof| proof.fresh(hours) && proof.evidence["pillar"] == json!(self.settings.hash)))
    }
}

impl Step for Compared {
    type Fact = bool;
    /// Of what was seen.
    type Evidence = String;

    async fn observe(&self) -> Result<Seen<bool, String>> {
        let proof = self.holds()?;
        Ok(Seen { fact: proof.is_some(), evidence: proof.map(|proof| proof.hash).unwrap_or_default() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, _permit: &Permit, _to: &bool, _earlier: &Earlier) -> Result<Seen<bool, String>> {
        compared(&self.settings).await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("what was seen was seen")
    }
}
