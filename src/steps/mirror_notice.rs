//! What people read who would save on the new side before it serves.

use super::host_files::{Contents, HostFiles};
use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::{self, HostFile};
use crate::step::{Earlier, Seen, Step, Undo};
use serde_json::Value;
use std::rc::Rc;

/// A notice on application nodes as long as their primary takes no writes; once it does they are left as they are.
pub struct MirrorNotice {
    pub files: HostFiles,
    pub primary: Rc<Server>,
    /// The steps behind which the nodes are there.
    pub hosts: Vec<String>,
}

impl Step for MirrorNotice {
    type Fact = Contents;
    type Evidence = ();

    /// A node that is not there yet has no notice.
    async fn observe(&self) -> Result<Seen<Contents, ()>> {
        let HostFiles { outside, files, seconds, .. } = &self.files;
        let hosts: Vec<String> = files.iter().map(|file| file.host.clone()).collect();
        let silent = site::silent(outside, &hosts, *seconds).await?;
        let there: Vec<HostFile> = files.iter().filter(|file| !silent.contains(&file.host)).cloned().collect();
        let mut fact = self.files.all(None);
        fact.extend(site::read(outside, &there, *seconds).await?);
        Ok(Seen { fact, evidence: () })
    }

    async fn want(&self, earlier: &Earlier) -> Result<Contents> {
        for step in &self.hosts {
            earlier.of::<Value>(step)?;
        }
        let primary = self.primary.status().await;
        let primary =
            primary.map_err(|error| Error::NotYet(format!("whether the new side serves already ({error})")))?;
        let found = self.observe().await?.fact;
        // It serves, and people save there, though it may be closed for a moment: prepare is run again to add a node.
        if !primary.read_only || primary.channel.is_none() {
            return Ok(found);
        }
        // Whatever stands there says so too, in words of its own.
        let ours = self.files.content.as_ref();
        Ok(found.into_iter().map(|(key, text)| (key, text.or_else(|| ours.cloned()))).collect())
    }

    async fn set(&self, permit: &Permit, to: &Contents, earlier: &Earlier) -> Result<Seen<Contents, ()>> {
        self.files.set(permit, to, earlier).await
    }

    fn undo(&self) -> Undo<Contents> {
        Undo::Leave("a new side that says that it keeps nothing harms nobody")
    }

    fn half_done(&self, found: &Contents, old: &Contents, new: &Contents) -> bool {
        self.files.half_done(found, old, new)
    }
}
