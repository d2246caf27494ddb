//! Whether the servers can follow one another, there and back.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use crate::settings::Side;
use std::rc::Rc;

/// A release: major, minor, patch.
type Release = (u32, u32, u32);

/// The versions of both primaries, and of whoever is to follow beside the target.
pub struct Versions {
    pub from: Rc<Server>,
    pub to: Rc<Server>,
    pub beside: Vec<Rc<Server>>,
}

impl Topic for Versions {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("versions");
        let mut found = Vec::new();
        for server in [&self.from, &self.to] {
            let Ok(status) = server.status().await else { return Ok(notes.findings) };
            let words = server.dialect().await?.words();
            let Some(version) = release(&status.version) else {
                let what = format!("{} calls its version {:?}", status.family, status.version);
                notes.block(&server.name, what, "a version begins with its numbers: see what answers there");
                return Ok(notes.findings);
            };
            if version < words.oldest {
                let (major, minor, patch) = words.oldest;
                let what = format!("{} {} is older than {major}.{minor}.{patch}", words.family, status.version);
                notes.block(&server.name, what, "upgrade it, days before the flip");
            }
            found.push((words.family, version, status.version));
        }
        for server in &self.beside {
            let Ok(status) = server.status().await else { continue };
            let (Some(theirs), Some((_, from, old))) = (release(&status.version), found.first()) else { continue };
            if (theirs.0, theirs.1) < (from.0, from.1) && self.from.side == Side::Old {
                let what = format!("version {}, and {} has {old}", status.version, self.from.name);
                notes.block(&server.name, what, "a server cannot follow a newer one: upgrade it");
            }
        }
        if let [(family, from, old), (other, to, new)] = found.as_slice() {
            let what = format!("version {new}, and {} has {old}", self.from.name);
            if family != other {
                let what = format!("it is {other} {new}, and {} is {family} {old}", self.from.name);
                notes.block(
                    &self.to.name,
                    what,
                    "MySQL cannot follow MariaDB, so there would be no way back: both sides must be of one family",
                );
            } else if (to.0, to.1) < (from.0, from.1) && self.from.side == Side::New {
                let mend = "the vendor does not support what has gone on since the flip: an older server that follows a newer one. As long \
                            as its replication stands it has everything; compare the data before you go back";
                notes.warn(&self.to.name, what, mend);
            } else if (to.0, to.1) < (from.0, from.1) {
                notes.block(&self.to.name, what, "a server cannot follow a newer one: upgrade it");
            } else if (to.0, to.1) > (from.0, from.1) {
                let mend = "the vendor does not support the way back, from a newer server to an older one: what only the newer one \
                            writes (new defaults of collations, new kinds of events) stops it. Flip with equal versions, upgrade after \
                            the soak";
                notes.warn(&self.to.name, what, mend);
            }
        }
        Ok(notes.findings)
    }
}

/// Reads the numbers that a version begins with.
fn release(version: &str) -> Option<Release> {
    let mut parts = version.split(|one: char| !one.is_ascii_digit());
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn versions_are_read() {
        assert_eq!(release("10.11.6-MariaDB-0+deb12u1-log"), Some((10, 11, 6)));
        assert_eq!(release("11.8.3-MariaDB"), Some((11, 8, 3)));
        assert_eq!(release("9.7.4-2"), Some((9, 7, 4)));
        assert_eq!(release("26.10"), Some((26, 10, 0)));
        assert_eq!(release("MariaDB"), None);
    }
}
