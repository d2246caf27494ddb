//! The search through one text: anchors found in one pass, each read as a token, each token judged.
//!
//! Invariant: the automaton is built once and shared; a text is passed once, whatever the number of nodes.

use super::anchors::{Anchor, Anchors};
use super::blob::{self, Blob};
use super::comment::Comments;
use super::edit::{self, Edit};
use super::map::Map;
use super::rewrite::{Manifest, Rewrite, hash};
use super::token::{Form, Token, What};
use super::{Hit, Verdict, line, name, own, v4, v6, zone};
use crate::error::{Error, Result};
use crate::settings::Inventory;
use ipnet::IpNet;
use memchr::{memchr_iter, memmem};
use std::collections::BTreeMap;

/// A search for everything that the map knows.
pub struct Search {
    pub map: Map,
    anchors: Anchors,
    commands: Vec<String>,
    /// What earlier remaps wrote, by path: it is as it should be, whatever it resembles.
    written: BTreeMap<String, Vec<Rewrite>>,
}

impl Search {
    /// Prepares a search; `commands` are the words that make what follows them a target.
    ///
    /// # Errors
    /// [`Error::Settings`] where there is nothing to look for.
    pub fn new(inventory: &Inventory, commands: Vec<String>, earlier: Vec<Manifest>) -> Result<Self> {
        let map = Map::new(inventory)?;
        if map.addresses().next().is_none() {
            return Err(Error::Settings {
                path: "migrate:nodes:old".into(),
                found: "no node".into(),
                expected: "nodes with addresses".into(),
                hint: "declare the nodes of the old side".into(),
            });
        }
        let anchors = Anchors::new(&map)?;
        let mut written: BTreeMap<String, Vec<Rewrite>> = BTreeMap::new();
        for (path, rewrite) in earlier.into_iter().flat_map(|manifest| manifest.files) {
            written.entry(path).or_default().push(rewrite);
        }
        Ok(Self { map, anchors, commands, written })
    }

    /// The literals that any hit begins or ends with, for tools that can only search for those.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.anchors.literals()
    }

    /// Searches a text.
    pub fn text(&self, path: &str, text: &[u8]) -> Vec<Hit> {
        self.nested(path, text, 0)
    }

    fn nested(&self, path: &str, text: &[u8], depth: u8) -> Vec<Hit> {
        let (tokens, blobs) = self.tokens(path, text, depth);
        if tokens.is_empty() && blobs.is_empty() {
            return Vec::new();
        }
        let mut hits = self.judge(path, text, &tokens);
        for blob in &blobs {
            hits.extend(self.in_blob(path, text, blob, depth));
        }
        if depth == 0
            && let Some(written) = self.written.get(path)
        {
            self.settle(text, written, &mut hits);
        }
        if depth == 0
            && let Some(own) = own::pillar(text)
        {
            for (_, hit) in hits.iter_mut().filter(|(at, hit)| own.contains(at) && hit.verdict.remains()) {
                hit.verdict = Verdict::Allowed;
                hit.why = Some(own::WHY);
                (hit.new, hit.edit) = (None, None);
            }
        }
        let mut last = (0, 1);
        hits.sort_by_key(|(at, _)| *at);
        hits.into_iter()
            .map(|(at, mut hit)| {
                last = (at, last.1 + memchr_iter(b'\n', &text[last.0..at]).count() as u64);
                hit.line = last.1;
                hit.column = (at - line::bounds(text, at).0) as u64 + 1;
                hit
            })
            .collect()
    }

    /// Leaves out what an earlier remap wrote. Where that cannot be told any more, a person must look: an address may be
    /// an old one of one node and a new one of another.
    fn settle(&self, text: &[u8], written: &[Rewrite], hits: &mut Vec<(usize, Hit)>) {
        let now = hash(text);
        if written.first().is_some_and(|first| first.before == now) {
            return;
        }
        let ours = written.iter().rev().find(|rewrite| rewrite.after == now);
        let held = |at: usize| {
            ours.is_some_and(|own| own.back.iter().any(|edit| (edit.start..edit.start + edit.old.len()).contains(&at)))
        };
        let untold = ours.is_none() || written.len() > 1;
        hits.retain_mut(|(at, hit)| {
            if held(*at) {
                return false;
            }
            let doubtful =
                hit.edit.as_ref().is_some_and(|edit| edit.old.parse().is_ok_and(|address| self.map.overlaps(address)));
            if untold && doubtful && hit.verdict == Verdict::Stale {
                hit.verdict = Verdict::Unknown;
                hit.why = Some("old of one node and new of another, in a file that was remapped and changed since");
                (hit.new, hit.edit) = (None, None);
            }
            true
        });
    }

    /// Reads every token of a text, and the blobs that deserve a look.
    fn tokens(&self, path: &str, text: &[u8], depth: u8) -> (Vec<Token>, Vec<Blob>) {
        let (mut tokens, mut blobs): (Vec<Token>, Vec<Blob>) = (Vec::new(), Vec::new());
        let (mut from, mut taken, mut marked) = (0, 0, false);
        let mut found = self.anchors.within(text);
        while let Some((start, end, anchor)) = found.next(from) {
            from = start + 1;
            let token = match anchor {
                Anchor::V4 => v4::read(text, start),
                Anchor::V6 => v6::read(text, start),
                Anchor::Arpa { six } => zone::reversed(text, start, end, six),
                Anchor::Name => name::read(text, start, |name| self.map.domains().any(|domain| domain == name)),
                Anchor::Base64 => {
                    marked = true;
                    continue;
                }
                Anchor::Blob => {
                    if blobs.last().is_none_or(|blob: &Blob| blob.range.end <= start) && depth == 0 {
                        blobs.extend(blob::around(text, start));
                        from = blobs.last().map_or(from, |blob| from.max(blob.range.end));
                    }
                    continue;
                }
            };
            let Some(token) = token else { continue };
            // A reversed address begins before its anchor.
            if token.start >= taken || token.form == Form::Ptr {
                from = from.max(token.end);
                taken = token.end;
                tokens.push(token);
            }
        }
        if marked && depth == 0 {
            for blob in blob::all(text) {
                if blobs.iter().all(|known| known.range.end <= blob.range.start || blob.range.end <= known.range.start)
                {
                    blobs.push(blob);
                }
            }
        }
        let zoned = tokens.iter().any(|token| token.form == Form::Ptr && matches!(token.what, What::Octets { .. }));
        if zoned || path.contains("in-addr.arpa") {
            self.records(path, text, &mut tokens);
        }
        (tokens, blobs)
    }

    /// Reads the records of a reverse zone, whose owners are only the rest of an address.
    fn records(&self, path: &str, text: &[u8], tokens: &mut Vec<Token>) {
        let file = path.rsplit('/').next().unwrap_or(path);
        let mut zone: Option<IpNet> = memmem::find(file.as_bytes(), b".in-addr.arpa")
            .and_then(|dot| zone::reversed(file.as_bytes(), dot, dot, false))
            .and_then(|token| if let What::Octets { net, .. } = token.what { Some(net) } else { None });
        let mut more = Vec::new();
        let mut at = 0;
        for row in text.split_inclusive(|byte| *byte == b'\n') {
            let told =
                tokens.iter().find(|token| (at..at + row.len()).contains(&token.start) && token.form == Form::Ptr);
            let origin = row.to_ascii_uppercase();
            match told.map(|token| &token.what) {
                Some(What::Octets { net, .. })
                    if memmem::find(&origin, b"$ORIGIN").is_some() || memmem::find(&origin, b"SOA").is_some() =>
                {
                    zone = Some(*net);
                }
                Some(_) => {}
                None => {
                    let owner = row.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
                    let record = owner > 0 && row.get(owner).is_some_and(u8::is_ascii_whitespace);
                    if let (true, Some(net)) = (record && memmem::find(&origin, b"PTR").is_some(), &zone) {
                        more.extend(zone::in_zone(net, text, at, at + owner));
                    }
                }
            }
            at += row.len();
        }
        tokens.extend(more);
    }

    fn judge(&self, path: &str, text: &[u8], tokens: &[Token]) -> Vec<(usize, Hit)> {
        let answered: Vec<(&Token, super::map::Answer)> =
            tokens.iter().filter_map(|token| Some((token, self.map.answer(token)?))).collect();
        if answered.is_empty() {
            return Vec::new();
        }
        let comments = Comments::of(path, text);
        let mut hits = Vec::new();
        for (token, answer) in answered {
            let named = matches!(token.what, What::Name(_) | What::Domain(_));
            let short = matches!(&token.what, What::Name(name) if !name.contains('.'));
            let minion = if let What::Name(name) = &token.what { self.map.target(name).is_some() } else { false };
            let addressed = line::is_target(text, token.start, token.end, path, &self.commands);
            let mut verdict = answer.verdict;
            let stays =
                matches!(verdict, Verdict::Stale | Verdict::Target) && named && line::is_public(text, token.start);
            let mail = matches!(token.what, What::Domain(_)) && line::is_mail(text, token.start);
            if verdict == Verdict::Public || stays || mail {
                verdict = Verdict::Public;
            } else if addressed && (minion || named || matches!(token.what, What::Address(_) | What::Net(_))) {
                verdict = Verdict::Target;
            } else if verdict == Verdict::Stale && short && !line::names_host(text, token.start, token.end) {
                // A word like any other.
                continue;
            } else if comments.hold(text, token.start) {
                verdict = Verdict::Comment;
            } else if let Some(node) = answer.node.as_deref().filter(|_| verdict == Verdict::Stale)
                && self.map.allows(node, token.port, path)
            {
                verdict = Verdict::Allowed;
            }
            let new = answer.new.filter(|_| verdict == Verdict::Stale);
            let (from, to) = token.span;
            let old = std::str::from_utf8(&text[from..to]).unwrap_or_default();
            let edit = new.as_ref().filter(|_| !old.is_empty() && token.form != Form::Zone).map(|new| Edit {
                start: from,
                old: old.to_owned(),
                new: new.clone(),
                reference: self.reference(token),
            });
            let hit = Hit {
                path: path.to_owned(),
                line: 0,
                column: 0,
                token: String::from_utf8_lossy(&text[token.start..token.end]).into_owned(),
                form: token.form,
                node: answer.node,
                verdict,
                new: new.filter(|_| token.form != Form::Zone),
                why: answer.why,
                edit,
            };
            hits.push((token.start, hit));
        }
        hits
    }

    /// The pillar's word for a plain address: only that can be looked up where it stands.
    fn reference(&self, token: &Token) -> Option<(String, &'static str)> {
        let What::Address(address) = token.what else { return None };
        let plain = matches!(token.form, Form::Dotted | Form::Port | Form::Ipv6 | Form::Cidr);
        self.map.owner(address).filter(|_| plain).map(|(node, kind)| (node.to_owned(), kind))
    }

    fn in_blob(&self, path: &str, text: &[u8], blob: &Blob, depth: u8) -> Vec<(usize, Hit)> {
        if memchr::memchr(0, &blob.bytes).is_some() {
            return Vec::new();
        }
        let inner = self.nested(path, &blob.bytes, depth + 1);
        let stale: Vec<&Hit> = inner.iter().filter(|hit| hit.verdict == Verdict::Stale).collect();
        let changed = edit::apply(&blob.bytes, &edit::edits(&stale));
        let old = String::from_utf8_lossy(&text[blob.range.clone()]).into_owned();
        // Only what is written back exactly as it stood may be written anew.
        let exact = blob.write(&blob.bytes) == old;
        let mut whole = changed.filter(|_| exact && !stale.is_empty()).map(|change| Edit {
            start: blob.range.start,
            new: blob.write(&change.bytes),
            old,
            reference: None,
        });
        inner
            .into_iter()
            .map(|hit| {
                let edit = if hit.edit.is_some() { whole.take() } else { None };
                let new = hit.new.filter(|_| exact);
                (blob.range.start, Hit { form: Form::Base64, edit, new, ..hit })
            })
            .collect()
    }
}
