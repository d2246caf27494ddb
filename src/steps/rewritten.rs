//! What stands in the site's configuration files: each as it was, or with its addresses replaced.

use crate::addresses::{Contents, Manifest};
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};

/// The files of one manifest, all rewritten or all as they were.
pub struct Rewritten {
    pub manifest: Manifest,
    /// The files that the step is about, each with the content it shall have.
    pub to: Contents,
}

impl Step for Rewritten {
    type Fact = Contents;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Contents, ()>> {
        let mut fact = self.manifest.observe();
        fact.retain(|path, _| self.to.contains_key(path));
        Ok(Seen { fact, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Contents> {
        Ok(self.to.clone())
    }

    async fn set(&self, permit: &Permit, to: &Contents, _earlier: &Earlier) -> Result<Seen<Contents, ()>> {
        self.manifest.write(permit, to)?;
        self.observe().await
    }

    fn undo(&self) -> Undo<Contents> {
        Undo::Restore
    }
}
