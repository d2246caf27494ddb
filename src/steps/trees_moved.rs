//! Whether the new deployment node has the files of the old one, by a hash over contents, owners, modes, links and
//! extended attributes of each tree.
//!
//! Invariant: what is equal was seen to be equal on both sides; the old node's files are only read.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::{Work, Worker};
use crate::step::{Earlier, Seen, Step, Undo};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The hash of each tree, by its path on the old node.
pub type Hashes = BTreeMap<String, String>;

/// How long one look waits for the end of a pass, in seconds.
const LOOK: u64 = 3;
/// The word for a tree that a node has not.
const ABSENT: &str = "absent";

/// Trees of files that two nodes shall both have.
pub struct TreesMoved {
    pub pushes: Worker,
    pub takes: Worker,
    /// Places on the old node and on the new one, in one order.
    pub theirs: Vec<String>,
    pub ours: Vec<String>,
    pub their_exclude: Vec<String>,
    pub our_exclude: Vec<String>,
    /// The new node, where the files come in.
    pub address: IpAddr,
    pub port: u16,
    pub limit_ms: u64,
}

impl TreesMoved {
    async fn on(&self, node: &Worker, paths: &[String], exclude: &[String]) -> Result<(Hashes, u64)> {
        let found = match node.manifest(paths, exclude).await {
            // A node that is not there yet has nothing.
            Err(Error::Remote { problem, .. }) if problem.starts_with("did not answer") => BTreeMap::new(),
            found => found?,
        };
        let hash = |place: &String| found.get(place).map_or_else(|| ABSENT.to_owned(), |(hash, _)| hash.clone());
        let files = found.values().map(|(_, files)| files).sum();
        Ok((self.theirs.iter().zip(paths).map(|(name, place)| (name.clone(), hash(place))).collect(), files))
    }

    async fn pass(&self, permit: &Permit, until: Instant, checksum: bool) -> Result<()> {
        let (theirs, ours) = (self.pushes.certificate(permit).await?, self.takes.certificate(permit).await?);
        let way = [("ADDRESS", self.address.to_string()), ("PORT", self.port.to_string())];
        self.pushes.reset(permit).await?;
        self.takes.reset(permit).await?;
        let mut told = vec![("ROLE", "take".to_owned()), ("PATHS", self.ours.join("\n"))];
        told.extend(way.clone());
        self.takes.begin(permit, &told, &theirs).await?;
        let mut told = vec![
            ("ROLE", "push".to_owned()),
            ("PATHS", self.theirs.join("\n")),
            ("EXCLUDE", self.their_exclude.join("\n")),
            ("CHECKSUM", if checksum { "1".to_owned() } else { String::new() }),
        ];
        told.extend(way);
        self.pushes.begin(permit, &told, &ours).await?;
        let ended = loop {
            let there = self.pushes.standing(Some(LOOK)).await?;
            if there.work != Work::Working || Instant::now() >= until {
                break there;
            }
        };
        self.pushes.reset(permit).await?;
        self.takes.reset(permit).await?;
        match ended.work {
            Work::Done => Ok(()),
            Work::Working => {
                let what = format!("{}: files to {}", self.pushes.host, self.takes.host);
                Err(Error::Deadline { what, limit_ms: self.limit_ms })
            }
            Work::Failed | Work::Nothing => Err(Error::remote(&self.pushes.host, ended.words)),
        }
    }
}

impl Step for TreesMoved {
    type Fact = Hashes;
    /// How many files.
    type Evidence = u64;

    async fn observe(&self) -> Result<Seen<Hashes, u64>> {
        let (fact, evidence) = self.on(&self.takes, &self.ours, &self.our_exclude).await?;
        Ok(Seen { fact, evidence })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Hashes> {
        let (hashes, _) = self.on(&self.pushes, &self.theirs, &self.their_exclude).await?;
        if hashes.values().all(|hash| hash == ABSENT) {
            // What would look at them is put there first.
            return Err(Error::NotYet(format!("what {} has", self.pushes.host)));
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
            let differ: Vec<&str> = now
                .iter()
                .filter(|(path, hash)| seen.fact.get(*path) != Some(hash))
                .map(|(path, _)| path.as_str())
                .collect();
            let problem = format!("{} differ from {} after two passes", differ.join(", "), self.pushes.host);
            return Err(Error::remote(&self.takes.host, problem));
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
