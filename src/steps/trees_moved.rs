//! Whether the new deployment node has the files of the old one, by a hash over contents, owners, modes, links and
//! extended attributes of each tree.
//!
//! Invariant: what is equal was seen to be equal on both sides; the old node's files are only read.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::{ABSENT, Hashes, Pass, Trees};
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// Trees of files that two nodes shall both have.
pub struct TreesMoved(pub Rc<Trees>);

impl Step for TreesMoved {
    type Fact = Hashes;
    /// How many files.
    type Evidence = u64;

    async fn observe(&self) -> Result<Seen<Hashes, u64>> {
        let (fact, evidence) = self.0.here().await?;
        Ok(Seen { fact, evidence })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Hashes> {
        let (hashes, _) = self.0.there().await?;
        if hashes.values().all(|hash| hash == ABSENT) {
            // What would look at them is put there first.
            return Err(Error::NotYet(format!("what {} has", self.0.pushes.host)));
        }
        Ok(hashes)
    }

    async fn set(&self, permit: &Permit, to: &Hashes, _earlier: &Earlier) -> Result<Seen<Hashes, u64>> {
        let until = self.0.until();
        self.0.pass(permit, Pass::Mirror, until, true).await?;
        let seen = self.observe().await?;
        if seen.fact == *to {
            return Ok(seen);
        }
        // Of the same size and time, and yet another: only reading it all finds it.
        self.0.pass(permit, Pass::MirrorAll, until, true).await?;
        let seen = self.observe().await?;
        let now = self.want(&Earlier::default()).await?;
        if seen.fact != now {
            let (pushes, takes) = (&self.0.pushes, &self.0.takes);
            let named = self.0.differences().await?.named;
            let differ: Vec<String> = now
                .iter()
                .filter(|(path, hash)| seen.fact.get(*path) != Some(hash))
                .map(|(path, _)| named.get(path).map_or_else(|| path.clone(), |names| format!("{path}: {names}")))
                .collect();
            let problem = format!("after two passes it differs from {} in {}", pushes.host, differ.join("; "));
            return Err(Error::remote(&takes.host, problem));
        }
        // Somebody went on with their work meanwhile; the next run has the rest.
        Ok(if now == *to { seen } else { Seen { fact: to.clone(), ..seen } })
    }

    fn half_done(&self, _found: &Hashes, _old: &Hashes, _new: &Hashes) -> bool {
        // Files that came in part are gone on with.
        true
    }

    fn undo(&self) -> Undo<Hashes> {
        Undo::Leave("the old node has them still, and the next pass needs only what differs")
    }
}
