//! Whether a security group is there, and lets in whom it should.
//!
//! Two facts, for two groups may name each other: first all of them exist, then each has its rules.

use super::{Project, STAYS};
use crate::cloud::NewRule;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Whether the group is there; its evidence is its id.
pub struct SecurityGroupMade {
    pub project: Rc<Project>,
    pub name: String,
}

impl Step for SecurityGroupMade {
    type Fact = bool;
    type Evidence = Option<String>;

    async fn observe(&self) -> Result<Seen<bool, Option<String>>> {
        let mark = self.project.mark(&self.name);
        let groups = self.project.cloud.security_groups().await?;
        let id = groups.iter().find(|group| mark.is_on_group(group)).map(|group| group.id.clone());
        Ok(Seen { fact: id.is_some(), evidence: id })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, _to: &bool, _: &Earlier) -> Result<Seen<bool, Option<String>>> {
        let seen = self.observe().await?;
        if seen.fact {
            return Ok(seen);
        }
        let mark = self.project.mark(&self.name);
        self.project
            .ask_clearly(
                async || self.project.cloud.create_security_group(permit, &self.name, &mark.description()).await,
                async || {
                    let groups = self.project.cloud.security_groups().await?;
                    Ok(groups.iter().any(|group| mark.is_on_group(group)).then_some(()))
                },
            )
            .await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave(STAYS)
    }
}

/// Which of the wanted rules a group has; rules that others added are evidence, and stay.
pub struct RulesSet {
    pub project: Rc<Project>,
    pub name: String,
}

impl RulesSet {
    /// Reads the ids of our groups, by name, and the keys of this group's rules in names of groups.
    async fn look(&self) -> Result<(BTreeMap<String, String>, BTreeSet<String>)> {
        let groups = self.project.cloud.security_groups().await?;
        let mut ids = BTreeMap::new();
        for name in self.project.prepare.security_groups.keys() {
            let mark = self.project.mark(name);
            if let Some(group) = groups.iter().find(|group| mark.is_on_group(group)) {
                ids.insert(name.clone(), group.id.clone());
            }
        }
        let id = ids.get(&self.name);
        let present =
            groups.iter().find(|group| Some(&group.id) == id).map(|group| group.rules.iter().map(NewRule::key));
        let in_names = |rule: String| {
            ids.iter().fold(rule, |rule, (name, id)| rule.replace(&format!("from {id}"), &format!("from {name}")))
        };
        let present = present.into_iter().flatten().map(in_names).collect();
        Ok((ids, present))
    }
}

impl Step for RulesSet {
    type Fact = BTreeSet<String>;
    /// Rules that nobody asked us for.
    type Evidence = BTreeSet<String>;

    async fn observe(&self) -> Result<Seen<BTreeSet<String>, BTreeSet<String>>> {
        let (ids, present) = self.look().await?;
        let wanted: BTreeSet<String> = self.project.rules(&self.name, &ids).into_iter().map(|(key, _)| key).collect();
        Ok(Seen {
            fact: present.intersection(&wanted).cloned().collect(),
            evidence: present.difference(&wanted).cloned().collect(),
        })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<BTreeSet<String>> {
        Ok(self.project.rules(&self.name, &BTreeMap::new()).into_iter().map(|(key, _)| key).collect())
    }

    async fn set(
        &self,
        permit: &Permit,
        to: &BTreeSet<String>,
        _: &Earlier,
    ) -> Result<Seen<BTreeSet<String>, BTreeSet<String>>> {
        let (ids, present) = self.look().await?;
        let Some(group) = ids.get(&self.name) else {
            return Err(Error::remote(&self.project.cloud.name, format!("there is no security group {}", self.name)));
        };
        for (key, rule) in self.project.rules(&self.name, &ids) {
            if to.contains(&key) && !present.contains(&key) {
                // One that is there already is refused, and that is no error: so asking twice is asking once.
                self.project
                    .ask_clearly(async || self.project.cloud.create_rule(permit, group, &rule).await, async || Ok(None))
                    .await?;
            }
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<BTreeSet<String>> {
        Undo::Leave(STAYS)
    }

    fn half_done(&self, found: &BTreeSet<String>, old: &BTreeSet<String>, new: &BTreeSet<String>) -> bool {
        old.is_subset(found) && found.is_subset(new)
    }
}
