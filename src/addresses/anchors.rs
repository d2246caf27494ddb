//! The literals that any hit begins or ends with, and where they stand in a text.
//!
//! Invariant: every form of every old address and name holds an anchor; groups of them are small enough for the vector
//! instructions that make one pass as fast as reading.

use super::blob;
use super::map::Map;
use crate::error::{Error, Result};
use aho_corasick::{AhoCorasick, Input, Match, MatchKind, Span, packed};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What an anchor stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anchor {
    V4,
    V6,
    Arpa {
        six: bool,
    },
    Name,
    /// Part of a base64 text that holds an old address or name.
    Blob,
    /// A word that says that base64 stands near.
    Base64,
}

/// How many literals one searcher takes.
const GROUP: usize = 48;

enum Automaton {
    Packed(Box<packed::Searcher>),
    Whole(Box<AhoCorasick>),
}

impl Automaton {
    fn find(&self, text: &[u8], from: usize) -> Option<Match> {
        let span = Span { start: from, end: text.len() };
        match self {
            Self::Packed(searcher) => searcher.find_in(text, span),
            Self::Whole(searcher) => searcher.find(Input::new(text).span(span)),
        }
    }
}

/// The anchors of a site.
pub struct Anchors {
    words: Vec<String>,
    kinds: Vec<Anchor>,
    groups: Vec<Automaton>,
}

impl Anchors {
    /// Works out the anchors, and builds what finds them.
    ///
    /// # Errors
    /// [`Error::Settings`] where they are too many for any automaton.
    pub fn new(map: &Map) -> Result<Self> {
        let (words, kinds): (Vec<String>, Vec<Anchor>) = anchors(map).into_iter().unzip();
        let groups: Result<Vec<Automaton>> = words.chunks(GROUP).map(automaton).collect();
        Ok(Self { words, kinds, groups: groups? })
    }

    /// The literals that stand for addresses and names.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        let shown = self.words.iter().zip(&self.kinds).filter(|(_, anchor)| **anchor != Anchor::Base64);
        shown.map(|(word, _)| word.as_str())
    }

    /// Begins a pass through a text.
    pub fn within<'a>(&'a self, text: &'a [u8]) -> Pass<'a> {
        let heads = self.groups.iter().map(|group| group.find(text, 0)).collect();
        Pass { anchors: self, text, heads }
    }
}

fn automaton(words: &[String]) -> Result<Automaton> {
    let packed = packed::Config::new().match_kind(packed::MatchKind::LeftmostFirst).builder().extend(words).build();
    if let Some(searcher) = packed {
        return Ok(Automaton::Packed(Box::new(searcher)));
    }
    // A processor without those instructions.
    let whole = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(words);
    whole.map(|whole| Automaton::Whole(Box::new(whole))).map_err(|error| Error::Settings {
        path: "migrate:nodes:old".into(),
        found: format!("what cannot be searched for: {error}"),
        expected: "a site of some thousand nodes at most".into(),
        hint: "declare networks in migrate:addresses:ranges".into(),
    })
}

/// One pass through a text.
pub struct Pass<'a> {
    anchors: &'a Anchors,
    text: &'a [u8],
    /// The next match of each group.
    heads: Vec<Option<Match>>,
}

impl Pass<'_> {
    /// Finds the next anchor that begins at a place or later: where, up to where, and what it stands for.
    pub fn next(&mut self, from: usize) -> Option<(usize, usize, Anchor)> {
        if from > self.text.len() {
            return None;
        }
        for (head, group) in self.heads.iter_mut().zip(&self.anchors.groups) {
            if head.is_some_and(|found| found.start() < from) {
                *head = group.find(self.text, from);
            }
        }
        let found = self.heads.iter().enumerate().filter_map(|(group, head)| Some((group, (*head)?)));
        let (group, first) = found.min_by_key(|(_, found)| found.start())?;
        let kind = self.anchors.kinds[group * GROUP + first.pattern().as_usize()];
        Some((first.start(), first.end(), kind))
    }
}

/// Everything that a hit can begin or end with.
fn anchors(map: &Map) -> Vec<(String, Anchor)> {
    let networks = map.networks();
    let (mut octets, mut groups, mut shaped) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for net in networks {
        match net {
            IpNet::V4(v4) => {
                // A short network begins with several first octets; a shorter one than /6 with too many to be one site's.
                let (first, last) = (v4.network().octets()[0], v4.broadcast().octets()[0]);
                octets.extend(first..=last.min(first.saturating_add(3)));
                let whole: Vec<String> = v4
                    .network()
                    .octets()
                    .iter()
                    .take(usize::from(v4.prefix_len() / 8).min(2))
                    .map(u8::to_string)
                    .collect();
                let dot = if whole.len() < 4 { "." } else { "" };
                if whole.len() > 1 {
                    shaped.insert(whole.join(".") + dot);
                }
            }
            IpNet::V6(v6) => {
                groups.insert(v6.network().segments()[0]);
            }
        }
    }
    // What lies in a range too wide to be a literal is looked for address by address.
    for address in map.addresses() {
        let text = address.to_string();
        if !shaped.iter().any(|begun: &String| text.starts_with(begun)) {
            shaped.insert(text);
        }
        match address {
            IpAddr::V4(v4) => _ = octets.insert(v4.octets()[0]),
            IpAddr::V6(v6) => _ = groups.insert(v6.segments()[0]),
        }
    }
    let mut all = Vec::new();
    for octet in octets {
        for by in [".", "\\.", "\\\\.", "[.]"] {
            all.push((format!("{octet}{by}"), Anchor::V4));
        }
    }
    for group in groups.iter() {
        let (lower, upper) = (format!("{group:x}:"), format!("{group:X}:"));
        if upper != lower {
            all.push((upper, Anchor::V6));
        }
        all.push((lower, Anchor::V6));
    }
    for ending in [".in-addr.arpa", ".IN-ADDR.ARPA"] {
        all.push((ending.to_owned(), Anchor::Arpa { six: false }));
    }
    if !groups.is_empty() {
        for ending in [".ip6.arpa", ".IP6.ARPA"] {
            all.push((ending.to_owned(), Anchor::Arpa { six: true }));
        }
    }
    let domains: BTreeSet<&str> = map.domains().collect();
    // A name is found by what it shares with the others: its domain.
    let mut tails = domains.clone();
    for name in map.names() {
        if !domains.iter().any(|domain| name.ends_with(domain)) {
            tails.insert(
                name.split_once('.').map_or(name, |(_, domain)| if domain.contains('.') { domain } else { name }),
            );
        }
        if name.contains('.') {
            shaped.insert(name.to_owned());
        }
    }
    for tail in tails {
        all.extend(casings(tail).into_iter().map(|word| (word, Anchor::Name)));
    }
    for shape in shaped.iter().flat_map(|word| blob::shapes(word)).collect::<BTreeSet<_>>() {
        all.push((shape, Anchor::Blob));
    }
    for word in ["base64", "b64", "!!binary"] {
        all.push((word.to_owned(), Anchor::Base64));
    }
    all
}

/// A name as it is written: in small letters, in capitals, and with a capital at its head.
fn casings(name: &str) -> BTreeSet<String> {
    let mut head = name.to_owned();
    if let Some(first) = head.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    [name.to_owned(), name.to_uppercase(), head].into()
}
