//! Old → new: who owned an address or a name, and what takes its place.
//!
//! Invariant: it answers from the declared nodes alone. A replacement is given only where every node that is meant
//! fits into it; otherwise a person decides.

use super::Verdict;
use super::token::{Token, What};
use crate::error::{Error, Result};
use crate::settings::{Inventory, Link};
use globset::{Glob, GlobSet, GlobSetBuilder};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the map says of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub node: Option<String>,
    pub verdict: Verdict,
    /// What takes the place of the token's replaceable part.
    pub new: Option<String>,
    pub why: Option<&'static str>,
}

/// The old side's addresses and names, with their successors.
pub struct Map {
    owners: BTreeMap<IpAddr, Owner>,
    fresh: BTreeSet<IpAddr>,
    ranges: Vec<(IpNet, Option<IpNet>)>,
    networks: Vec<IpNet>,
    names: BTreeMap<String, (String, Option<String>)>,
    domains: Vec<(String, String)>,
    /// Old node → successor's name, for names below an old domain.
    nodes: BTreeMap<String, Option<String>>,
    public: BTreeSet<String>,
    targets: BTreeMap<String, String>,
    allowed: Vec<(Link, GlobSet)>,
}

struct Owner {
    node: String,
    new: Option<IpAddr>,
    kind: &'static str,
}

impl Map {
    /// Builds the map of a site.
    ///
    /// # Errors
    /// [`Error::Settings`] where a path pattern is none.
    pub fn new(inventory: &Inventory) -> Result<Self> {
        let told = &inventory.addresses;
        let (mut owners, mut targets, mut nodes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, node) in &inventory.nodes.old {
            let successor = inventory.successor(name);
            let mut own = |address, new, kind| owners.insert(address, Owner { node: name.clone(), new, kind });
            own(node.private, successor.map(|new| new.private), "private");
            if let Some(public) = node.public {
                own(public, successor.and_then(|new| new.public), "public");
            }
            if let Some(minion) = &node.minion {
                targets.insert(minion.to_lowercase(), name.clone());
            }
            let becomes = successor.map(|_| told.becomes.get(name).unwrap_or(name).clone());
            nodes.insert(name.to_lowercase(), becomes);
        }
        let fresh = inventory.nodes.new.values().flat_map(|node| [Some(node.private), node.public]).flatten().collect();
        let ranges = inventory.old_ranges();
        let mut names = BTreeMap::new();
        for (node, pairs) in &told.names {
            for (old, new) in pairs {
                names.insert(old.to_lowercase(), (node.clone(), Some(new.clone())));
            }
        }
        let mut domains: Vec<(String, String)> =
            told.domains.iter().map(|(old, new)| (old.to_lowercase(), new.clone())).collect();
        // The longest first: a.b.example before b.example.
        domains.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        let mut allowed = Vec::new();
        for link in &told.allowed {
            allowed.push((link.clone(), globs(&link.paths)?));
        }
        let hosts = inventory.vhosts.values().flat_map(|vhost| &vhost.hosts);
        let public = told.public.iter().chain(hosts).map(|name| name.to_lowercase()).collect();
        Ok(Self {
            owners,
            fresh,
            ranges,
            networks: inventory.old_networks(),
            names,
            domains,
            nodes,
            public,
            targets,
            allowed,
        })
    }

    /// The old networks, and the old addresses outside of them.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Every old address.
    pub fn addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.owners.keys()
    }

    /// Every name that is looked for: of nodes, of domains, of minions.
    pub fn names(&self) -> BTreeSet<&str> {
        let named = self.names.keys().chain(self.domains.iter().map(|(old, _)| old)).chain(self.targets.keys());
        named.map(String::as_str).collect()
    }

    /// The old domains.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(|(old, _)| old.as_str())
    }

    /// The node of an old address, and whether the address is its private or its public one.
    pub fn owner(&self, address: IpAddr) -> Option<(&str, &'static str)> {
        self.owners.get(&address).map(|owner| (owner.node.as_str(), owner.kind))
    }

    /// Whether an address is an old one of one node and a new one of another.
    pub fn overlaps(&self, address: IpAddr) -> bool {
        self.fresh.contains(&address) && self.owners.contains_key(&address)
    }

    /// The node of which a name is the minion's id.
    pub fn target(&self, name: &str) -> Option<&str> {
        self.targets.get(&name.to_lowercase()).map(String::as_str)
    }

    /// Whether a link that is meant to be leads to a node, by what a file says.
    pub fn allows(&self, node: &str, port: Option<u16>, path: &str) -> bool {
        self.allowed.iter().any(|(link, paths)| {
            let port_fits = link.port.is_none() || port.is_none() || link.port == port;
            link.to == node && port_fits && paths.is_match(path)
        })
    }

    /// Says whose a token is, and what becomes of it; nothing where it does not concern the old side.
    pub fn answer(&self, token: &Token) -> Option<Answer> {
        match &token.what {
            What::Address(address) => self.address(*address, token),
            What::Net(net) => self.net(*net, token, false),
            What::Octets { net, strict } => self.net(*net, token, *strict),
            What::Span(first, last) => self.span(*first, *last),
            What::Name(name) => self.name(name),
            What::Domain(name) => {
                let (_, new) = self.domains.iter().find(|(old, _)| old == name)?;
                let public = self.public.contains(name);
                let verdict = if public { Verdict::Public } else { Verdict::Stale };
                Some(Answer { node: None, verdict, new: (!public).then(|| new.clone()), why: Some("old domain") })
            }
        }
    }

    fn address(&self, address: IpAddr, token: &Token) -> Option<Answer> {
        if let Some(owner) = self.owners.get(&address) {
            if owner.new == Some(address) {
                return None;
            }
            let new = owner.new.and_then(|new| token.write(new));
            let why = if owner.new.is_none() { Some("the node has no successor with such an address") } else { None };
            return Some(Answer { node: Some(owner.node.clone()), verdict: Verdict::Stale, new, why });
        }
        if self.fresh.contains(&address) || !self.in_range(address) {
            return None;
        }
        Some(unknown())
    }

    fn net(&self, net: IpNet, token: &Token, strict: bool) -> Option<Answer> {
        let owned: Vec<(&IpAddr, &Owner)> = self
            .owners
            .range(net.network()..=net.broadcast())
            .filter(|(old, owner)| owner.new != Some(**old))
            .collect();
        let whole = self.ranges.iter().find(|(old, _)| *old == net);
        if owned.is_empty() && whole.is_none_or(|(_, new)| new.is_none()) {
            let held = self.ranges.iter().any(|(range, _)| range.contains(&net));
            return held.then(unknown);
        }
        let news: Option<Vec<IpAddr>> = owned.iter().map(|(_, owner)| owner.new).collect();
        let node = names_of(owned.iter().map(|(_, owner)| owner.node.as_str()));
        if net.prefix_len() == 0 {
            return None;
        }
        let fits = |new: &IpNet| news.as_ref().is_some_and(|news| news.iter().all(|address| new.contains(address)));
        if !owned.is_empty() && fits(&net) {
            let why = Some("it holds the new addresses too");
            return Some(Answer { node, verdict: Verdict::Allowed, new: None, why });
        }
        let declared = whole.and_then(|(_, new)| *new).or_else(|| {
            let (range, new) = self.ranges.iter().find(|(range, new)| new.is_some() && range.contains(&net))?;
            moved(net, *range, (*new)?)
        });
        let guessed = || IpNet::new(*news.as_ref()?.first()?, net.prefix_len()).ok().map(|new| new.trunc());
        // A network that is none of the old side's own may hold others' hosts as well.
        let own = self.ranges.iter().any(|(range, _)| range.contains(&net));
        let new = declared.or_else(|| guessed().filter(|_| own)).filter(|new| owned.is_empty() || fits(new));
        let same_rest = |new: &IpNet| {
            owned.iter().all(|(old, owner)| moved(IpNet::from(**old), net, *new).map(|n| n.addr()) == owner.new)
        };
        let new = new.filter(|new| !strict || same_rest(new)).and_then(|new| token.write(new.network()));
        let why = if new.is_none() { Some("its nodes do not move together") } else { None };
        Some(Answer { node, verdict: Verdict::Stale, new, why })
    }

    fn span(&self, first: IpAddr, last: IpAddr) -> Option<Answer> {
        if first > last {
            return None;
        }
        let owned: Vec<(&IpAddr, &Owner)> =
            self.owners.range(first..=last).filter(|(old, owner)| owner.new != Some(**old)).collect();
        if owned.is_empty() {
            return (self.in_range(first) && self.in_range(last)).then(unknown);
        }
        let node = names_of(owned.iter().map(|(_, owner)| owner.node.as_str()));
        let holds = |address: IpAddr| first <= address && address <= last;
        if owned.iter().all(|(_, owner)| owner.new.is_some_and(holds)) {
            let why = Some("it holds the new addresses too");
            return Some(Answer { node, verdict: Verdict::Allowed, new: None, why });
        }
        Some(Answer { node, verdict: Verdict::Stale, new: None, why: Some("a range is a person's to move") })
    }

    fn name(&self, name: &str) -> Option<Answer> {
        if self.public.contains(name) {
            let node = self.names.get(name).map(|(node, _)| node.clone());
            return Some(Answer { node, verdict: Verdict::Public, new: None, why: None });
        }
        if let Some((node, new)) = self.names.get(name) {
            if new.as_deref().is_some_and(|new| new.eq_ignore_ascii_case(name)) {
                return None;
            }
            return Some(Answer { node: Some(node.clone()), verdict: Verdict::Stale, new: new.clone(), why: None });
        }
        let target = || {
            let node = Some(self.target(name)?.to_owned());
            Some(Answer { node, verdict: Verdict::Target, new: None, why: None })
        };
        let below =
            |(old, new): &'_ (String, String)| Some((name.strip_suffix(old.as_str())?.strip_suffix('.')?, new.clone()));
        let Some((label, domain)) = self.domains.iter().find_map(below) else { return target() };
        match self.nodes.get(label) {
            Some(successor) => Some(Answer {
                node: Some(label.to_owned()),
                verdict: Verdict::Stale,
                new: successor.as_ref().map(|successor| format!("{successor}.{domain}")),
                why: None,
            }),
            None if self.target(name).is_some() => target(),
            None => {
                let why = Some("inside an old domain, and no node has this name");
                Some(Answer { node: None, verdict: Verdict::Unknown, new: None, why })
            }
        }
    }

    fn in_range(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|(net, _)| net.contains(&address))
    }
}

fn unknown() -> Answer {
    let why = Some("inside an old range, and no node owns it");
    Answer { node: None, verdict: Verdict::Unknown, new: None, why }
}

fn names_of<'a>(nodes: impl Iterator<Item = &'a str>) -> Option<String> {
    let nodes: BTreeSet<&str> = nodes.collect();
    (!nodes.is_empty()).then(|| nodes.into_iter().collect::<Vec<_>>().join(", "))
}

/// Moves a network from one that holds it to another of the same size.
fn moved(net: IpNet, from: IpNet, to: IpNet) -> Option<IpNet> {
    let address = match (net.network(), from.network(), to.network()) {
        (IpAddr::V4(net), IpAddr::V4(from), IpAddr::V4(to)) => {
            IpAddr::V4((u32::from(to).wrapping_add(u32::from(net).wrapping_sub(u32::from(from)))).into())
        }
        (IpAddr::V6(net), IpAddr::V6(from), IpAddr::V6(to)) => {
            IpAddr::V6((u128::from(to).wrapping_add(u128::from(net).wrapping_sub(u128::from(from)))).into())
        }
        _ => return None,
    };
    IpNet::new(address, net.prefix_len()).ok()
}

/// Compiles path patterns; none match nothing.
///
/// # Errors
/// [`Error::Settings`] where a pattern is none.
pub fn globs<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    let wrong = |found: &str, error: &globset::Error| Error::Settings {
        path: "migrate:addresses".into(),
        found: format!("the path pattern {found:?}"),
        expected: "a path pattern, as of a shell".into(),
        hint: error.to_string(),
    };
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| wrong(pattern, &error))?);
    }
    set.build().map_err(|error| wrong("", &error))
}
