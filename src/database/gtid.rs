//! MariaDB's GTID positions: one `domain-server-sequence` per domain, or several in a binlog state.
//!
//! Source of the rules: MariaDB Server documentation, "Global Transaction ID".

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// One transaction's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gtid {
    pub domain: u32,
    pub server: u32,
    pub sequence: u64,
}

/// The last transaction of each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position(BTreeMap<u32, Gtid>);

impl Position {
    /// Reads a position such as `0-1-42,99-1-3`; of several in a domain the highest counts.
    ///
    /// # Errors
    /// [`Error::Remote`] where the text is no position.
    pub fn read(text: &str) -> Result<Self> {
        let mut position = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let gtid = gtid(part).ok_or_else(|| Error::remote("database", format!("{part:?} is no GTID")))?;
            let last: &mut Gtid = position.entry(gtid.domain).or_insert(gtid);
            if gtid.sequence > last.sequence {
                *last = gtid;
            }
        }
        Ok(Self(position))
    }

    /// Tells whether everything up to another position is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(domain, theirs)| self.0.get(domain).is_some_and(|ours| ours.sequence >= theirs.sequence))
    }

    /// Names the domain with the longest history, one left aside.
    pub fn busiest(&self, aside: u32) -> Option<u32> {
        let others = self.0.values().filter(|gtid| gtid.domain != aside);
        others.max_by_key(|gtid| gtid.sequence).map(|gtid| gtid.domain)
    }

    /// Adds what is later in another position.
    pub fn or(mut self, other: &Self) -> Self {
        for (domain, theirs) in &other.0 {
            let ours = self.0.entry(*domain).or_insert(*theirs);
            if theirs.sequence > ours.sequence {
                *ours = *theirs;
            }
        }
        self
    }

    /// Takes another's word for one domain, where it knows anything of it.
    pub fn with_domain(mut self, domain: u32, other: &Self) -> Self {
        if let Some(theirs) = other.0.get(&domain) {
            self.0.insert(domain, *theirs);
        }
        self
    }

    /// Leaves one domain out.
    pub fn without(mut self, domain: u32) -> Self {
        self.0.remove(&domain);
        self
    }

    /// Names the domains in which something is.
    pub fn domains(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.values().map(Gtid::to_string).collect();
        formatter.write_str(&parts.join(","))
    }
}

/// Lists what a binlog state has that another has not, and that the writer of the other did not write itself.
///
/// Both states name, per domain and server, the last transaction that was ever logged. What the writer wrote may still
/// be on its way in either direction, so its own entries say nothing.
///
/// # Errors
/// [`Error::Remote`] where either text is no binlog state.
pub fn errant(state: &str, of_writer: &str, writer: u32) -> Result<Vec<Errant>> {
    let read = |text: &str| -> Result<Vec<Gtid>> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| gtid(part).ok_or_else(|| Error::remote("database", format!("{part:?} is no GTID")))).collect()
    };
    let known = read(of_writer)?;
    let last = |gtid: &Gtid| known.iter().filter(|one| one.domain == gtid.domain).map(|one| one.sequence).max();
    let has = |gtid: &Gtid| {
        known.iter().any(|one| one.domain == gtid.domain && one.server == gtid.server && one.sequence >= gtid.sequence)
    };
    let ours = read(state)?.into_iter().filter(|gtid| gtid.server != writer && !has(gtid));
    Ok(ours.map(|gtid| Errant { ahead: last(&gtid).is_none_or(|last| gtid.sequence > last), gtid }).collect())
}

/// A transaction that only one server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errant {
    pub gtid: Gtid,
    /// Whether it stands where one of the writer's belongs, so that replication will stop at it.
    pub ahead: bool,
}

impl std::fmt::Display for Gtid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

fn gtid(text: &str) -> Option<Gtid> {
    let mut parts = text.split('-');
    let gtid = Gtid {
        domain: parts.next()?.parse().ok()?,
        server: parts.next()?.parse().ok()?,
        sequence: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(gtid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_compared_by_domain() {
        let position = |text| Position::read(text).unwrap();
        assert!(position("0-1-10,99-1-1").contains(&position("0-2-9")));
        assert!(!position("0-1-10").contains(&position("0-1-9,7-1-1")));
        assert!(position("").contains(&position("")));
        assert_eq!(position("0-1-10,0-2-12").to_string(), "0-2-12");
        assert_eq!(position("0-1-10,99-1-3").with_domain(99, &position("0-1-7,99-2-2")).to_string(), "0-1-10,99-2-2");
        assert_eq!(position("0-1-10,99-1-3").with_domain(99, &position("0-1-7")).to_string(), "0-1-10,99-1-3");
    }

    #[test]
    fn what_only_one_server_has_is_errant() {
        let errant = |state, of_writer| -> Vec<(String, bool)> {
            errant(state, of_writer, 1).unwrap().iter().map(|one| (one.gtid.to_string(), one.ahead)).collect()
        };
        assert_eq!(errant("0-1-10,0-7-5", "0-1-12,0-7-5"), []);
        // Our reading of the writer may be older than that of its replica.
        assert_eq!(errant("0-1-12", "0-1-10"), []);
        assert_eq!(errant("0-1-10,0-7-11", "0-1-10"), [("0-7-11".to_owned(), true)]);
        assert_eq!(errant("0-7-6,0-1-10", "0-7-5,0-1-10"), [("0-7-6".to_owned(), false)]);
        assert_eq!(errant("99-7-1", "0-1-10"), [("99-7-1".to_owned(), true)]);
        assert!(super::errant("0-1", "", 1).is_err());
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["0-1", "a-b-c", "0-1-2-3", "0-1--2"] {
            assert!(Position::read(text).is_err(), "{text}");
        }
    }
}
