//! What stands in small files on hosts: a notice, a role at boot.

use crate::error::Result;
use crate::journal::Permit;
use crate::outside::Outside;
use crate::site::{self, HostFile};
use crate::step::{Earlier, Seen, Step, Undo};
use std::collections::BTreeMap;

/// What a file of ours begins with, where somebody might write it by hand from our page.
pub const MARK: &str = "# Written by saltext-migrate";

/// The content of each file, by `host:path`; nothing where it is absent.
pub type Contents = BTreeMap<String, Option<String>>;

/// Files that all shall have one content, or be absent.
pub struct HostFiles {
    pub outside: Outside,
    pub files: Vec<HostFile>,
    pub content: Option<String>,
    /// Where it is a transient fact: the steps that it embraces. At rest the files are absent.
    pub held_until: Option<Vec<String>>,
    pub seconds: u64,
}

impl HostFiles {
    pub(super) fn all(&self, content: Option<&String>) -> Contents {
        self.files.iter().map(|file| (file.key(), content.cloned())).collect()
    }
}

impl Step for HostFiles {
    type Fact = Contents;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Contents, ()>> {
        Ok(Seen { fact: site::read(&self.outside, &self.files, self.seconds).await?, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Contents> {
        Ok(self.all(self.content.as_ref()))
    }

    async fn set(&self, permit: &Permit, to: &Contents, _earlier: &Earlier) -> Result<Seen<Contents, ()>> {
        // Every host reported success, or this is an error: reading it all back would only lengthen the window.
        site::write(&self.outside, permit, &self.files, to, self.seconds).await?;
        Ok(Seen { fact: to.clone(), evidence: () })
    }

    fn half_done(&self, found: &Contents, old: &Contents, new: &Contents) -> bool {
        let ours = |content: &Option<String>| content.as_ref().is_none_or(|text| text.starts_with(MARK));
        let known = |key: &String, content| old.get(key) == Some(content) || new.get(key) == Some(content);
        found.iter().all(|(key, content)| known(key, content) || ours(content))
    }

    fn undo(&self) -> Undo<Contents> {
        match &self.held_until {
            Some(until) => Undo::Held { until: until.clone(), rest: self.all(None) },
            None => Undo::Restore,
        }
    }
}
