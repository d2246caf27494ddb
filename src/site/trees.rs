//! Trees of files that one node has and another shall have, and how they differ: by a hash of each tree, and by name.
//!
//! Invariant: both sides' manifests are made by the same worker; what is in a file stays on its host, only hashes of it travel.

use super::Worker;
use super::worker::Listed;
use crate::error::{Error, Result};
use futures_util::future::try_join;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The hash of each tree, by its path on the old node.
pub type Hashes = BTreeMap<String, String>;

/// The word for a tree that a node has not.
pub const ABSENT: &str = "absent";
/// How many names stand in one sentence.
const NAMED: usize = 20;
/// How many bytes of a manifest a host tells at once, as one message takes them.
const TOLD: u64 = 400_000;
/// How many messages a look takes that need not see everything.
const SOME: usize = 8;
/// With what a host begins that has not the tree.
const NO_TREE: &str = "tree=absent";
/// What a host says on which nothing was put yet.
pub(super) const NOT_THERE: &str = "state=nothing";

/// Trees of files, those of the node they come from (the old one, but on the way back) and those of the other in one order.
pub struct Trees {
    pub pushes: Worker,
    pub takes: Worker,
    pub theirs: Vec<String>,
    pub ours: Vec<String>,
    pub their_exclude: Vec<String>,
    pub our_exclude: Vec<String>,
    /// Where they come in.
    pub address: IpAddr,
    pub port: u16,
    /// Milliseconds for all passes of one step.
    pub limit_ms: u64,
}

/// How the trees of two nodes differ.
#[derive(Default)]
pub struct Differences {
    /// By tree, where both have it.
    pub named: BTreeMap<String, String>,
    /// Trees that the old node has not, though it has others.
    pub missing: Vec<String>,
}

impl Trees {
    /// Hashes the trees of the old node, and counts their files.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot read them.
    pub async fn there(&self) -> Result<(Hashes, u64)> {
        self.hashed(&self.pushes, &self.theirs, &self.their_exclude).await
    }

    /// Hashes those of the new node.
    ///
    /// # Errors
    /// As [`Trees::there`].
    pub async fn here(&self) -> Result<(Hashes, u64)> {
        self.hashed(&self.takes, &self.ours, &self.our_exclude).await
    }

    async fn hashed(&self, node: &Worker, paths: &[String], exclude: &[String]) -> Result<(Hashes, u64)> {
        let found = match node.manifest(paths, exclude).await {
            // A node that is not there yet has nothing.
            Err(Error::Remote { problem, .. }) if problem.starts_with("did not answer") => BTreeMap::new(),
            found => found?,
        };
        let hash = |place: &String| found.get(place).map_or_else(|| ABSENT.to_owned(), |(hash, _)| hash.clone());
        let files = found.values().map(|(_, files)| files).sum();
        Ok((self.theirs.iter().zip(paths).map(|(name, place)| (name.clone(), hash(place))).collect(), files))
    }

    /// Says of each tree that both nodes have what differs in it, by its path on the old node: the first names, each with
    /// what is other, as `top.sls (contents, mode)`, and how many more.
    ///
    /// # Errors
    /// As [`Trees::there`].
    pub async fn differences(&self) -> Result<Differences> {
        let ((there, _), (here, _)) = try_join(self.there(), self.here()).await?;
        let mut found = Differences::default();
        if there.values().any(|hash| hash != ABSENT) {
            found.missing = there.iter().filter(|(_, hash)| *hash == ABSENT).map(|(tree, _)| tree.clone()).collect();
        }
        for (theirs, ours) in self.theirs.iter().zip(&self.ours) {
            let (one, other) = (&there[theirs], &here[theirs]);
            if one == other || one == ABSENT || other == ABSENT {
                continue;
            }
            let difference = self.difference(theirs, ours).await?;
            if !difference.is_empty() {
                found.named.insert(theirs.clone(), difference);
            }
        }
        Ok(found)
    }

    async fn difference(&self, theirs: &str, ours: &str) -> Result<String> {
        let apart = self.apart(theirs, ours, Facts::All, |_, _| true).await?.unwrap_or_default();
        let (one, other) = (entries(&apart.one), entries(&apart.other));
        Ok(told(&differ(&one, &other, [&self.pushes.host, &self.takes.host]), apart.all))
    }

    /// Finds the parts that differ, and then what is in them, message by message until that is enough: neither side tells
    /// everything. Nothing where a side has nothing that could look.
    async fn apart(
        &self,
        theirs: &str,
        ours: &str,
        facts: Facts,
        enough: impl Fn(&str, &str) -> bool,
    ) -> Result<Option<Apart>> {
        let listed = [(&self.theirs, &self.their_exclude), (&self.ours, &self.our_exclude)];
        let [of_theirs, of_ours] = listed.map(|(trees, exclude)| Listed { trees, exclude });
        let there = async |parts: &str| self.pushes.facts(theirs, &of_theirs, facts, parts).await;
        let here = async |parts: &str| self.takes.facts(ours, &of_ours, facts, parts).await;
        let (one, other) = try_join(there("all"), here("all")).await?;
        if [&one, &other].iter().any(|said| said.trim() == NOT_THERE) {
            return Ok(None);
        }
        let (batches, all) = differing(&parts(&one), &parts(&other));
        let outside = one.lines().filter_map(|line| line.strip_prefix("outside=")).map(str::to_owned).collect();
        let missing = one.starts_with(NO_TREE);
        let mut found = Apart { all, outside, missing, ..Apart::default() };
        if missing {
            return Ok(Some(found));
        }
        let last = batches.len();
        for (number, batch) in (1..).zip(batches) {
            let asked = batch.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let (one, other) = try_join(there(&asked), here(&asked)).await?;
            let over = enough(&one, &other);
            found.one.extend([&one, "\n"]);
            found.other.extend([&other, "\n"]);
            if over {
                found.all &= number == last;
                break;
            }
        }
        Ok(Some(found))
    }

    /// Tells what the other side lacks of these trees, or has older, by sizes and times alone; nothing where a host has
    /// nothing that could look, as before the first pass. Where all are looked at that goes on until something is found.
    ///
    /// # Errors
    /// As [`Trees::there`].
    pub async fn lacking(&self, look: Look) -> Result<Option<Lacking>> {
        let mut found = Lacking { all: true, ..Lacking::default() };
        for (theirs, ours) in self.theirs.iter().zip(&self.ours) {
            let messages = Cell::new(0);
            let enough = |one: &str, other: &str| {
                messages.set(messages.get() + 1);
                match look {
                    Look::First => true,
                    Look::Some => messages.get() == SOME,
                    Look::All => !lacks(one, other).paths.is_empty(),
                }
            };
            let Some(apart) = self.apart(theirs, ours, Facts::Times, enough).await? else { return Ok(None) };
            if apart.missing {
                found.missing.push(theirs.clone());
                continue;
            }
            found.all &= apart.all;
            found.outside.extend(apart.outside);
            let named =
                |paths: Vec<String>| paths.into_iter().map(|path| format!("{theirs}/{path}")).collect::<Vec<_>>();
            let lacks = lacks(&apart.one, &apart.other);
            found.paths.extend(named(lacks.paths));
            found.kept.extend(named(lacks.kept));
        }
        Ok(Some(found))
    }
}

/// How far a look at what differs goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What one message holds: whether the trees are there is known then.
    First,
    /// What some messages hold: what is lacking will be carried in any case.
    Some,
    /// Until something is found to be lacking, or all was looked at.
    All,
}

/// What two hosts tell of the parts of a tree that differ.
#[derive(Default)]
struct Apart {
    one: String,
    other: String,
    /// Whether these are all.
    all: bool,
    outside: Vec<String>,
    /// Whether the node they come from has not the tree.
    missing: bool,
}

/// What a tree's manifest tells of each path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facts {
    /// Contents, kind, mode, owners, link and attributes.
    All,
    /// Of files and links: time, kind, size, link.
    Times,
}

/// What one side has and the other lacks, or has older.
#[derive(Debug, Default)]
pub struct Lacking {
    pub paths: Vec<String>,
    /// What is not the same on both and newer on the other side, where it stays.
    pub kept: Vec<String>,
    /// Whether all of them were looked at: a message takes so much.
    pub all: bool,
    /// Links that lead out of all trees.
    pub outside: Vec<String>,
    /// Trees that the node they come from has not.
    pub missing: Vec<String>,
}

impl Lacking {
    /// Names what is lacking.
    pub fn named(&self) -> String {
        told(&self.paths, self.all)
    }

    /// Names what stays.
    pub fn named_kept(&self) -> String {
        told(&self.kept, self.all)
    }
}

/// Names what the second manifest lacks of the first, or has older: what `rsync --update` would bring. It compares whole
/// seconds (rsync(1), `--modify-window`): file systems keep parts of one as they can.
fn lacks(one: &str, other: &str) -> Lacking {
    let (one, other) = (entries(one), entries(other));
    let file = |entries: &Entries<'_>, path: &str| -> Option<(i64, String)> {
        let facts = entries.get(path)?.get("file")?.first()?;
        let (time, rest) = facts.split_once(' ')?;
        let seconds = time.split('.').next()?.parse().ok()?;
        // The end of the last line does not come through as it was said.
        Some((seconds, rest.trim_end().to_owned()))
    };
    let mut found = Lacking::default();
    for path in one.keys().copied() {
        let Some((time, facts)) = file(&one, path) else { continue };
        match file(&other, path) {
            Some((theirs, their_facts)) if (theirs, &their_facts) == (time, &facts) => {}
            Some((theirs, their_facts)) if theirs > time => {
                found.kept.extend((their_facts != facts).then(|| path.to_owned()));
            }
            _ => found.paths.push(path.to_owned()),
        }
    }
    found
}

/// The hash and the size of each part of a manifest, by number.
type Parts<'a> = BTreeMap<u32, (&'a str, u64)>;
/// The facts of each path, by their kind.
type Entries<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a str>>>;

fn parts(said: &str) -> Parts<'_> {
    let part = |line: &'_ str| -> Option<(u32, u64)> {
        let mut words = line.strip_prefix("part=")?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    let hash = |line| str::rsplit(line, ' ').next().unwrap_or_default();
    said.lines().filter_map(|line| part(line).map(|(number, size)| (number, (hash(line), size)))).collect()
}

/// Names the parts that differ, as many at a time as fit into an answer; and whether each of them does.
fn differing(one: &Parts<'_>, other: &Parts<'_>) -> (Vec<Vec<u32>>, bool) {
    let numbers: BTreeSet<u32> = one.keys().chain(other.keys()).copied().collect();
    let size = |parts: &Parts<'_>, number: u32| parts.get(&number).map_or(0, |(_, size)| *size);
    let (mut batches, mut left, mut all) = (Vec::<Vec<u32>>::new(), 0, true);
    for number in numbers.into_iter().filter(|number| one.get(number) != other.get(number)) {
        let takes = size(one, number).max(size(other, number));
        if takes > TOLD {
            all = false;
            continue;
        }
        match (batches.last_mut(), left >= takes) {
            (Some(batch), true) => batch.push(number),
            _ => {
                batches.push(vec![number]);
                left = TOLD;
            }
        }
        left -= takes;
    }
    (batches, all)
}

fn entries(said: &str) -> Entries<'_> {
    let mut entries = Entries::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("entry=")) {
        let mut words = line.splitn(3, '\t');
        let (Some(path), Some(kind), Some(fact)) = (words.next(), words.next(), words.next()) else { continue };
        entries.entry(path).or_default().entry(kind).or_default().push(fact);
    }
    entries
}

/// Says of each path that is not the same on two hosts what is other.
fn differ(one: &Entries<'_>, other: &Entries<'_>, hosts: [&str; 2]) -> Vec<String> {
    let paths: BTreeSet<&str> = one.keys().chain(other.keys()).copied().collect();
    let how = |path: &str| match (one.get(path), other.get(path)) {
        (Some(one), Some(other)) => changed(one, other).join(", "),
        (Some(_), None) => format!("only on {}", hosts[0]),
        _ => format!("only on {}", hosts[1]),
    };
    let named = paths.into_iter().map(|path| (if path.is_empty() { "." } else { path }, how(path)));
    named.filter(|(_, how)| !how.is_empty()).map(|(path, how)| format!("{path} ({how})")).collect()
}

fn changed(one: &BTreeMap<&str, Vec<&str>>, other: &BTreeMap<&str, Vec<&str>>) -> Vec<&'static str> {
    let node = |facts: &BTreeMap<&str, Vec<&str>>| {
        let words = facts.get("node").and_then(|node| node.first()).copied().unwrap_or_default();
        let mut words = words.splitn(4, ' ').map(str::to_owned);
        std::array::from_fn::<_, 4, _>(|_| words.next().unwrap_or_default())
    };
    let (ours, theirs) = (node(one), node(other));
    if ours[0] != theirs[0] {
        return vec!["kind"];
    }
    let mut found: Vec<&'static str> = Vec::new();
    found.extend((one.get("contents") != other.get("contents")).then_some("contents"));
    let rest = ["mode", "owner", "link"].into_iter().enumerate();
    found.extend(rest.filter(|(at, _)| ours[at + 1] != theirs[at + 1]).map(|(_, word)| word));
    found.extend((one.get("attributes") != other.get("attributes")).then_some("attributes"));
    found
}

/// Writes the first names, and how many more there are; where not all could be told, at least one more.
fn told(names: &[String], all: bool) -> String {
    let (first, more) = (names[..names.len().min(NAMED)].join(", "), names.len().saturating_sub(NAMED));
    match (more, all) {
        (0, true) => first,
        (more, true) => format!("{first} and {more} more"),
        (more, false) => format!("{first} and at least {} more", more + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_what_is_other_and_what_is_alike_is_not() {
        let one = "entry=\tnode\td 755 0:0 \nentry=a\tnode\tf 644 0:0 \nentry=a\tcontents\t11\nentry=b\tnode\tl 777 0:0 x y\n\
                   entry=c\tnode\tf 600 0:0 \nentry=c\tcontents\t22\nentry=c\tattributes\t33\nentry=d\tnode\td 755 0:0 \n\
                   entry=e\tnode\tf 644 0:0 ";
        let other = "entry=\tnode\td 755 0:0 \nentry=a\tnode\tf 644 0:0 \nentry=a\tcontents\t12\nentry=b\tnode\tl 777 0:0 x z\n\
                     entry=c\tnode\tf 644 1:0 \nentry=c\tcontents\t22\nentry=d\tnode\tf 644 0:0 \nentry=f\tnode\tf 644 0:0 ";
        assert_eq!(
            differ(&entries(one), &entries(other), ["old", "new"]),
            [
                "a (contents)",
                "b (link)",
                "c (mode, owner, attributes)",
                "d (kind)",
                "e (only on old)",
                "f (only on new)"
            ]
        );
    }

    #[test]
    fn what_is_newer_over_there_is_not_lacking() {
        let one = "entry=a\tfile\t9.10 f 5\nentry=b\tfile\t9.10 f 5 \nentry=c\tfile\t9.10 f 5 \nentry=d\tfile\t10.0 f 5 \n\
                   entry=e\tfile\t9.10 l 5 x\nentry=f\tfile\t9.10 f 5 \nentry=h\tfile\t9.30 f 5 ";
        let other = "entry=a\tfile\t9.10 f 5 \nentry=b\tfile\t9.09 f 5 \nentry=c\tfile\t10.11 f 6 \nentry=d\tfile\t9.9 f 5 \n\
                     entry=e\tfile\t9.10 l 5 y\nentry=g\tfile\t9.10 f 5 \nentry=h\tfile\t9.90 f 6 ";
        let found = lacks(one, other);
        assert_eq!(found.paths, ["d", "e", "f", "h"]);
        assert_eq!(found.kept, ["c"]);
    }

    #[test]
    fn a_sentence_ends_after_some_names_and_a_host_tells_no_more_than_a_message_takes() {
        let names: Vec<String> = (0..25).map(|number| format!("n{number}")).collect();
        assert_eq!(told(&names[..2], true), "n0, n1");
        assert!(told(&names, true).ends_with("n19 and 5 more"));
        assert!(told(&names, false).ends_with("n19 and at least 6 more"));
        let said = |word: &str| {
            let large = format!("part=5 400001 {word}\npart=6 400000 {word}\n");
            format!("part=1 200000 {word}\npart=2 9 same\npart=3 300000 {word}\npart=4 9 {word}\n{large}")
        };
        let (one, other) = (said("a"), said("b"));
        assert_eq!(differing(&parts(&one), &parts(&other)), (vec![vec![1], vec![3, 4], vec![6]], false));
        assert_eq!(differing(&parts(&one), &parts(&one)), (Vec::new(), true));
    }
}
