//! Whether the new deployment node has the files of the old one, by a hash over contents, owners, modes, links and
//! extended attributes of each tree.
//!
//! Invariant: what is equal was seen to be equal on both sides; the old node's files are only read.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::{ABSENT, Hashes, Trees, Work};
use crate::step::{Earlier, Seen, Step, Undo};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long one look waits for the end of a pass, in seconds.
const LOOK: u64 = 3;

/// Trees of files that two nodes shall both have.
pub struct TreesMoved {
    pub trees: Rc<Trees>,
    /// The new node, where the files come in.
    pub address: IpAddr,
    pub port: u16,
    pub limit_ms: u64,
}

impl TreesMoved {
    async fn pass(&self, permit: &Permit, until: Instant, checksum: bool) -> Result<()> {
        let trees = &self.trees;
        let (pushes, takes) = (&trees.pushes, &trees.takes);
        let (theirs, ours) = (pushes.certificate(permit).await?, takes.certificate(permit).await?);
        let way = [("ADDRESS", self.address.to_string()), ("PORT", self.port.to_string())];
        pushes.reset(permit).await?;
        takes.reset(permit).await?;
        let mut told = vec![("ROLE", "take".to_owned()), ("PATHS", trees.ours.join("\n"))];
        told.extend(way.clone());
        takes.begin(permit, &told, &theirs).await?;
        let mut told = vec![
            ("ROLE", "push".to_owned()),
            ("PATHS", trees.theirs.join("\n")),
            ("EXCLUDE", trees.their_exclude.join("\n")),
            ("CHECKSUM", if checksum { "1".to_owned() } else { String::new() }),
        ];
        told.extend(way);
        pushes.begin(permit, &told, &ours).await?;
        let ended = loop {
            let there = tokio::select! {
                there = pushes.standing(Some(LOOK)) => there?,
                why = pushes.outside.interrupted() => {
                    pushes.reset(permit).await?;
                    takes.reset(permit).await?;
                    return Err(Error::Interrupted(why));
                }
            };
            if there.work != Work::Working || Instant::now() >= until {
                break there;
            }
        };
        pushes.reset(permit).await?;
        takes.reset(permit).await?;
        match ended.work {
            Work::Done => Ok(()),
            Work::Working => {
                let what = format!("{}: files to {}", pushes.host, takes.host);
                Err(Error::Deadline { what, limit_ms: self.limit_ms })
            }
            Work::Failed | Work::Nothing => Err(Error::remote(&pushes.host, ended.words)),
        }
    }
}

impl Step for TreesMoved {
    type Fact = Hashes;
    /// How many files.
    type Evidence = u64;

    async fn observe(&self) -> Result<Seen<Hashes, u64>> {
        let (fact, evidence) = self.trees.here().await?;
        Ok(Seen { fact, evidence })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Hashes> {
        let (hashes, _) = self.trees.there().await?;
        if hashes.values().all(|hash| hash == ABSENT) {
            // What would look at them is put there first.
            return Err(Error::NotYet(format!("what {} has", self.trees.pushes.host)));
        }
        Ok(hashes)
    }

    async fn set(&self, permit: &Permit, to: &Hashes, _earlier: &Earlier) -> Result<Seen<Hashes, u64>> {
        let until = Instant::now() + Duration::from_millis(self.limit_ms);
        self.pass(permit, until, false).await?;
        let seen = self.observe().await?;
        if seen.fact == *to {
            return Ok(seen);
        }
        // Of the same size and time, and yet another: only reading it all finds it.
        self.pass(permit, until, true).await?;
        let seen = self.observe().await?;
        let now = self.want(&Earlier::default()).await?;
        if seen.fact != now {
            let (pushes, takes) = (&self.trees.pushes, &self.trees.takes);
            let named = self.trees.differences().await?.named;
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
