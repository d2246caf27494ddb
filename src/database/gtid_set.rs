//! MySQL's GTID sets: intervals for each server and, where a session gave one, tag.
//!
//! Source of the rules: MySQL Reference Manual, "GTID Format and Storage".

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;

/// Transactions by the UUID of who wrote them, and by tag; intervals are in order, and apart from one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidSet(BTreeMap<(String, String), Vec<(u64, u64)>>);

impl GtidSet {
    /// Reads a set such as `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:1-3`, several of them after commas.
    ///
    /// # Errors
    /// [`Error::Remote`] where the text is no set.
    pub fn read(text: &str) -> Result<Self> {
        let refuse = |part: &str| Error::remote("database", format!("{part:?} is no GTID set"));
        let mut read: BTreeMap<(String, String), Vec<(u64, u64)>> = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let uuid = pieces.next().filter(|uuid| is_uuid(uuid)).ok_or_else(|| refuse(part))?.to_lowercase();
            let mut tag = String::new();
            let mut any = false;
            for piece in pieces {
                if piece.starts_with(|first: char| first.is_ascii_digit()) {
                    let interval = interval(piece).ok_or_else(|| refuse(part))?;
                    read.entry((uuid.clone(), tag.clone())).or_default().push(interval);
                    any = true;
                } else if piece.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
                    tag = piece.to_lowercase();
                } else {
                    return Err(refuse(part));
                }
            }
            if !any {
                return Err(refuse(part));
            }
        }
        for intervals in read.values_mut() {
            *intervals = joined(std::mem::take(intervals));
        }
        Ok(Self(read))
    }

    /// Returns what is here and not in another set.
    pub fn without(&self, other: &Self) -> Self {
        let left = self.0.iter().map(|(key, ours)| {
            let theirs = other.0.get(key).map_or(&[][..], Vec::as_slice);
            (key.clone(), ours.iter().flat_map(|one| cut(*one, theirs)).collect::<Vec<_>>())
        });
        Self(left.filter(|(_, intervals)| !intervals.is_empty()).collect())
    }

    /// Returns what somebody else than a server wrote.
    pub fn not_of(&self, uuid: &str) -> Self {
        let others = self.0.iter().filter(|((writer, _), _)| !writer.eq_ignore_ascii_case(uuid));
        Self(others.map(|(key, intervals)| (key.clone(), intervals.clone())).collect())
    }

    /// Tells whether nobody who wrote something in another set wrote anything in this one.
    pub fn of_none_in(&self, other: &Self) -> bool {
        self.0.keys().all(|(uuid, _)| !other.0.keys().any(|(theirs, _)| theirs == uuid))
    }

    /// Tells whether everything in another set is here.
    pub fn contains(&self, other: &Self) -> bool {
        other.without(self).is_empty()
    }

    /// Tells whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for ((uuid, tag), intervals) in &self.0 {
            match last {
                Some(before) if before == uuid => {}
                Some(_) => write!(formatter, ",{uuid}")?,
                None => write!(formatter, "{uuid}")?,
            }
            last = Some(uuid);
            if !tag.is_empty() {
                write!(formatter, ":{tag}")?;
            }
            for (first, last) in intervals {
                if first == last {
                    write!(formatter, ":{first}")?;
                } else {
                    write!(formatter, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

fn is_uuid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.chars().all(|one| one == '-' || one.is_ascii_hexdigit())
}

fn interval(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (0 < first && first <= last).then_some((first, last))
}

fn joined(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut apart: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals {
        match apart.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    apart
}

/// Returns what is left of an interval without some others, which are in order.
fn cut((mut first, last): (u64, u64), others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for &(start, end) in others {
        if end < first || start > last {
            continue;
        }
        if start > first {
            left.push((first, start - 1));
        }
        if end >= last {
            return left;
        }
        first = end + 1;
    }
    left.push((first, last));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        GtidSet::read(&text.replace('A', A).replace('B', B)).unwrap()
    }

    #[test]
    fn sets_are_read_in_every_way_that_a_server_writes_them() {
        assert_eq!(set("A:1-3:4:9,\nB:1").to_string(), format!("{A}:1-4:9,{B}:1"));
        assert_eq!(set("A:7:2-3:Tag:1-2:other:5").to_string(), format!("{A}:2-3:7:other:5:tag:1-2"));
        assert_eq!(set(""), GtidSet::default());
    }

    #[test]
    fn what_is_left_of_a_set() {
        let left = |one, other| set(one).without(&set(other)).to_string().replace(A, "A").replace(B, "B");
        assert_eq!(left("A:1-10", "A:3-4:7"), "A:1-2:5-6:8-10");
        assert_eq!(left("A:1-10", "A:1-10"), "");
        assert_eq!(left("A:5-6,B:1", "A:1-9"), "B:1");
        assert_eq!(left("A:1-5:tag:1-5", "A:1-5"), "A:tag:1-5");
        assert_eq!(left("A:1-5", "A:tag:1-5,B:1-5"), "A:1-5");
        assert_eq!(left("A:1-3:8-9", "A:2:9-20"), "A:1:3:8");
        assert!(set("A:1-9").contains(&set("A:2:4-5")));
        assert!(!set("A:1-9").contains(&set("A:tag:1")));
        assert_eq!(set("A:1-9:tag:1,B:2").not_of(A).to_string(), format!("{B}:2"));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["1-5", "A", "A:", "A:0", "A:5-1", "A:tag", "A:1:-", "0-1-2"] {
            let text = text.replace('A', A);
            assert!(GtidSet::read(&text).is_err(), "{text}");
        }
    }
}
