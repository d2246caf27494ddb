//! What each CDN service serves from: staged, active, everywhere, and nothing stale in its cache.

use super::deed::Deed;
use crate::edge::{Active, Content, Fastly, Prober, Version};
use crate::error::{Error, Result};
use crate::event;
use crate::journal::Permit;
use crate::settings::Purge;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How our versions are known.
const MARK: &str = "saltext-migrate: ";

/// How long every point of presence must have served the old version, before a way back is believed.
const STEADY: Duration = Duration::from_millis(500);

/// What a check tells of a service.
pub(crate) struct Look {
    /// Where the backends of the active version point, by name.
    pub backends: BTreeMap<String, String>,
    /// Drafts that others began after the active version: they point where it does.
    pub drafts: Vec<u64>,
    pub writes: Writes,
}

/// How many writes one service takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    pub staging: u64,
    pub switch: u64,
    pub back: u64,
}

/// One service, and what becomes of its backends.
pub struct Switch {
    pub fastly: Fastly,
    /// The pillar's name of the service.
    pub name: String,
    pub id: String,
    pub prober: Option<Prober>,
    /// The side that it shall serve from; part of the mark.
    pub to: &'static str,
    /// New address by old address.
    pub addresses: BTreeMap<String, String>,
    /// Backends that stay where they point, by name.
    pub leave: Vec<String>,
    pub purge: Purge,
    pub proof: Duration,
    /// The active version as it was last seen, for a plan, which asks for it again at once.
    pub seen: RefCell<Option<Active>>,
}

impl Switch {
    fn mapped(&self, backends: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let new = |(name, address): (&String, &String)| {
            let other = self.addresses.get(address).filter(|_| !self.leave.contains(name));
            (name.clone(), other.unwrap_or(address).clone())
        };
        backends.iter().map(new).collect()
    }

    fn mark(&self, base: u64) -> String {
        format!("{MARK}version {base} pointed to {}", self.to)
    }

    /// Names the version that serves, where that one points to the side that the switch is to leave.
    ///
    /// # Errors
    /// Where the CDN cannot be asked.
    pub async fn astray(&self) -> Result<Option<u64>> {
        let active = self.active().await?;
        Ok((self.mapped(&active.backends) != active.backends).then_some(active.number))
    }

    async fn active(&self) -> Result<Active> {
        let active = self.fastly.active(&self.id).await?;
        self.seen.replace(active.clone());
        active.ok_or_else(|| Error::remote(format!("edge service {}", self.name), "it has no active version"))
    }

    /// Refuses where another version than those named is active.
    async fn expect(&self, expected: &[u64], new: u64) -> Result<()> {
        let active = self.active().await?.number;
        self.is_of(active, expected, new)
    }

    fn is_of(&self, active: u64, expected: &[u64], new: u64) -> Result<()> {
        if expected.contains(&active) {
            return Ok(());
        }
        let word = |version: u64| format!("version {version} active");
        let old = expected.first().copied().unwrap_or_default();
        Err(Error::Drift {
            step: format!("edge service {}", self.name),
            old: word(old),
            new: word(new),
            found: word(active),
        })
    }

    /// Looks at everything that a check tells of, in as few reads as can be.
    ///
    /// # Errors
    /// Whatever hinders looking.
    pub(crate) async fn look(&self) -> Result<Look> {
        let base = self.active().await?;
        let versions = self.fastly.versions(&self.id).await?;
        let others = versions.iter().filter(|version| !version.locked && version.number > base.number);
        // A clone carries the comment of what it was made from, so a mark of another run says nothing.
        let ours = self.mark(base.number);
        let drafts = others.filter(|version| version.comment != ours).map(|version| version.number).collect();
        let purge = u64::from(self.purge == Purge::All);
        let writes = if base.backends == self.mapped(&base.backends) {
            Writes::default()
        } else {
            let ours = self.newest(&base, versions);
            let staging = match (self.whole(&base, ours.as_ref()).await?, ours.filter(|version| !version.locked)) {
                (Some(_), _) => 0,
                (None, Some(begun)) => self.moved(&self.fastly.backends(&self.id, begun.number).await?).len() + 1,
                (None, None) => self.moved(&base.backends).len() + 3,
            };
            Writes { staging: staging as u64, switch: 1 + purge, back: 1 + purge }
        };
        Ok(Look { backends: base.backends, drafts, writes })
    }

    /// Chooses the newest copy of the active version that carries our mark; one that is locked before one that is not.
    fn newest(&self, base: &Active, mut versions: Vec<Version>) -> Option<Version> {
        let mark = self.mark(base.number);
        versions.retain(|version| version.comment == mark && version.number > base.number && !version.active);
        versions.sort_by_key(|version| (version.locked, version.number));
        versions.pop()
    }

    /// Tells whether a copy is whole: only what was edited and validated gets locked, and what is locked stays so.
    async fn whole(&self, base: &Active, ours: Option<&Version>) -> Result<Option<Versions>> {
        let Some(version) = ours.filter(|version| version.locked) else { return Ok(None) };
        let staged = self.fastly.outline(&self.id, version.number).await?;
        // The pillar may have changed since, or somebody edited it before it was locked; then another copy is made.
        let right = self.wanted(base).differences(&staged).is_empty();
        Ok(right.then(|| Versions { base: base.number, staged: version.number, backends: staged.backends() }))
    }

    /// Works out what a version holds that is like the active one, and points to the other side.
    fn wanted(&self, base: &Active) -> Content {
        let mut wanted = base.outline.clone();
        wanted.point(&self.mapped(&base.backends));
        wanted
    }

    /// Lists the backends that are to be pointed elsewhere, with where to.
    fn moved(&self, backends: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut moved = self.mapped(backends);
        moved.retain(|name, address| backends.get(name) != Some(address));
        moved
    }

    /// Locks what is locked: a write that changes nothing, for what its answer tells of the budget.
    pub(crate) async fn lock_again(&self, permit: &Permit) -> Result<()> {
        let versions = self.fastly.versions(&self.id).await?;
        let Some(ours) = versions.iter().rfind(|version| version.locked && version.comment.starts_with(MARK)) else {
            return Ok(());
        };
        match self.fastly.lock(permit, &self.id, ours.number).await {
            // A refusal tells the budget too.
            Ok(()) | Err(Error::Remote { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    async fn purge(&self, permit: &Permit) -> Result<()> {
        match &self.purge {
            Purge::Nothing => {}
            Purge::All => self.fastly.purge_all(permit, &self.id).await?,
            Purge::Keys(keys) => {
                for key in keys {
                    self.fastly.purge_key(permit, &self.id, key).await?;
                }
            }
        }
        Ok(())
    }

    async fn serves(&self, version: u64, everywhere: bool, steady: Duration) -> Result<()> {
        match &self.prober {
            Some(prober) => prober.serves(&format!("{}.{version}", self.id), everywhere, steady, self.proof).await,
            None => Ok(()),
        }
    }
}

/// The versions between which a service is switched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// The version that was active when staging began.
    pub base: u64,
    /// Our locked copy of it, pointed to the other side.
    pub staged: u64,
    /// Where the backends of the copy point, by name.
    pub backends: BTreeMap<String, String>,
}

/// `true` once a validated, locked copy of the active version points to the other side.
pub struct Staged(pub Rc<Switch>);

impl Staged {
    /// Finds the active version, and the copy of it that carries our mark.
    async fn ours(&self) -> Result<(Active, Option<Version>)> {
        let base = self.0.active().await?;
        let versions = self.0.fastly.versions(&self.0.id).await?;
        let ours = self.0.newest(&base, versions);
        Ok((base, ours))
    }
}

impl Step for Staged {
    type Fact = bool;
    type Evidence = Versions;

    async fn observe(&self) -> Result<Seen<bool, Versions>> {
        let (base, ours) = self.ours().await?;
        let whole = self.0.whole(&base, ours.as_ref()).await?;
        Ok(Seen { fact: whole.is_some(), evidence: whole.unwrap_or_default() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, Versions>> {
        let switch = &self.0;
        let (fastly, id) = (&switch.fastly, switch.id.as_str());
        let (base, ours) = self.ours().await?;
        if let Some(evidence) = switch.whole(&base, ours.as_ref()).await? {
            return Ok(Seen { fact: *to, evidence });
        }
        // A copy that a crash left half edited is finished, not doubled.
        let (staged, now) = if let Some(version) = ours.filter(|version| !version.locked) {
            (version.number, fastly.backends(id, version.number).await?)
        } else {
            let number = fastly.clone_version(permit, id, base.number).await?;
            fastly.comment(permit, id, number, &switch.mark(base.number)).await?;
            (number, base.backends.clone())
        };
        for (backend, address) in switch.moved(&now) {
            fastly.point(permit, id, staged, &backend, &address).await?;
        }
        let held = fastly.outline(id, staged).await?;
        let (wrong, backends) = (switch.wanted(&base).differences(&held), held.backends());
        if let Some(first) = wrong.first() {
            return Err(Error::Drift {
                step: format!("edge service {}", switch.name),
                old: format!("version {}", base.number),
                new: "the same, pointed to the other side".into(),
                found: format!("version {staged}, which differs in {first}: somebody else edits it"),
            });
        }
        fastly.validate(id, staged).await?;
        fastly.lock(permit, id, staged).await?;
        Ok(Seen { fact: *to, evidence: Versions { base: base.number, staged, backends } })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("a staged version serves nobody")
    }
}

/// The number of our version on the staging network, where people can try it before it serves anybody.
pub struct OnStaging {
    pub switch: Rc<Switch>,
    /// The id of the staging in the same graph.
    pub staged: String,
}

/// Where the staging network serves the version, by domain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub version: u64,
    pub addresses: BTreeMap<String, String>,
}

impl Step for OnStaging {
    /// Nothing where no version is there.
    type Fact = Option<u64>;
    type Evidence = Trial;

    async fn observe(&self) -> Result<Seen<Self::Fact, Trial>> {
        let (fastly, id) = (&self.switch.fastly, &self.switch.id);
        let found = fastly.versions(id).await?.into_iter().find(|version| version.staging);
        let Some(version) = found.map(|version| version.number) else {
            return Ok(Seen { fact: None, evidence: Trial::default() });
        };
        let addresses = fastly.staging_addresses(id, version).await?;
        Ok(Seen { fact: Some(version), evidence: Trial { version, addresses } })
    }

    async fn want(&self, earlier: &Earlier) -> Result<Self::Fact> {
        Ok(Some(earlier.of::<Versions>(&self.staged)?.staged))
    }

    async fn set(&self, permit: &Permit, to: &Self::Fact, _earlier: &Earlier) -> Result<Seen<Self::Fact, Trial>> {
        let (fastly, id) = (&self.switch.fastly, &self.switch.id);
        match (to, self.observe().await?.fact) {
            (Some(version), _) => fastly.stage(permit, id, *version, true).await?,
            (None, Some(version)) => fastly.stage(permit, id, version, false).await?,
            (None, None) => {}
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<Self::Fact> {
        Undo::Restore
    }
}

/// `true` once the service was seen to be as it was when it was staged.
///
/// The API has no compare-and-set; so this looks as late as can be without making anybody wait.
pub struct Unmoved {
    pub switch: Rc<Switch>,
    /// The id of the staging in the same graph.
    pub staged: String,
}

impl Deed for Unmoved {
    type Evidence = ();

    const KEPT: &'static str = "it only looked";

    async fn carry_out(&self, _permit: &Permit, earlier: &Earlier) -> Result<()> {
        let versions: Versions = earlier.of(&self.staged)?;
        self.switch.expect(&[versions.base], versions.staged).await?;
        Ok(())
    }
}

/// Where the backends of the active version point, by backend name.
pub struct Activated {
    pub switch: Rc<Switch>,
    /// The id of the staging in the same graph.
    pub staged: String,
}

/// What was seen when a version was activated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    pub version: u64,
    pub seen_at: f64,
    pub warning: Option<String>,
}

impl Step for Activated {
    type Fact = BTreeMap<String, String>;
    type Evidence = Activation;

    async fn observe(&self) -> Result<Seen<Self::Fact, Activation>> {
        let active = self.switch.active().await?;
        let evidence = Activation { version: active.number, seen_at: event::now(), warning: None };
        Ok(Seen { fact: active.backends, evidence })
    }

    async fn want(&self, earlier: &Earlier) -> Result<Self::Fact> {
        match earlier.of::<Versions>(&self.staged) {
            Ok(versions) if versions.staged != 0 => Ok(versions.backends),
            _ => {
                let seen = self.switch.seen.borrow().clone();
                let active = match seen {
                    Some(seen) => seen,
                    None => self.switch.active().await?,
                };
                Ok(self.switch.mapped(&active.backends))
            }
        }
    }

    async fn set(&self, permit: &Permit, to: &Self::Fact, earlier: &Earlier) -> Result<Seen<Self::Fact, Activation>> {
        let switch = &self.switch;
        let versions: Versions = earlier.of(&self.staged)?;
        let forward = *to == versions.backends;
        let ours = [versions.base, versions.staged];
        let (mut version, mut theirs) = (if forward { versions.staged } else { versions.base }, false);
        if !forward {
            let active = switch.active().await?;
            // Somebody else's that points back already is theirs to keep.
            theirs = !ours.contains(&active.number) && active.backends == *to;
            if theirs {
                version = active.number;
            } else {
                switch.is_of(active.number, &ours, version)?;
            }
        } else if let Some(active) = switch.seen.borrow().as_ref().map(|active| active.number) {
            // Whoever goes on after a death looked as it began; its predecessor's look is too old.
            switch.is_of(active, &ours, version)?;
        }
        let warning = if theirs { None } else { switch.fastly.activate(permit, &switch.id, version).await? };
        let fact = if switch.prober.is_some() {
            // Forward the first proof is enough, for the rest is on its way; back, nobody may be left behind.
            switch.serves(version, !forward, if forward { Duration::ZERO } else { STEADY }).await?;
            if !forward {
                // What failed in between must not be shown from the cache afterwards.
                switch.purge(permit).await?;
            }
            to.clone()
        } else {
            let active = switch.active().await?;
            if !forward && active.number == versions.staged {
                // No drift: whoever goes back tries again until it is so.
                let late =
                    format!("version {} is active again: a request of a run that died came late", versions.staged);
                return Err(Error::remote(format!("edge service {}", switch.name), late));
            }
            switch.is_of(active.number, &[version], version)?;
            active.backends
        };
        Ok(Seen { fact, evidence: Activation { version, seen_at: event::now(), warning } })
    }

    fn undo(&self) -> Undo<Self::Fact> {
        Undo::Restore
    }

    fn compares_and_sets(&self) -> bool {
        true
    }
}

/// `true` once every point of presence was seen to serve the activated version.
pub struct Everywhere {
    pub switch: Rc<Switch>,
    /// The id of the activation in the same graph.
    pub activated: String,
}

impl Deed for Everywhere {
    type Evidence = ();

    const KEPT: &'static str = "it only looked";

    async fn carry_out(&self, _permit: &Permit, earlier: &Earlier) -> Result<()> {
        let activation: Activation = earlier.of(&self.activated)?;
        self.switch.serves(activation.version, true, Duration::ZERO).await?;
        Ok(())
    }
}

/// `true` once what must not live on was dropped from the cache.
pub struct Purged(pub Rc<Switch>);

impl Deed for Purged {
    type Evidence = ();

    const KEPT: &'static str = "what was dropped is fetched again";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<()> {
        self.0.purge(permit).await?;
        Ok(())
    }
}
