//! Whether the servers can follow one another, there and back.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// The oldest version whose former primary can be made a replica by its own word (`MASTER_DEMOTE_TO_SLAVE`).
const OLDEST: (u32, u32) = (10, 10);

/// The versions of both primaries.
pub struct Versions {
    pub from: Rc<Server>,
    pub to: Rc<Server>,
}

impl Topic for Versions {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("versions");
        let mut found = Vec::new();
        for server in [&self.from, &self.to] {
            let Ok(status) = server.status().await else { return Ok(notes.findings) };
            let Some(version) = release(&status.version) else {
                let what = format!("version {} is not MariaDB's", status.version);
                notes.block(&server.name, what, "this release moves MariaDB only");
                return Ok(notes.findings);
            };
            if version < OLDEST {
                let what = format!("version {} is older than 10.10", status.version);
                notes.block(&server.name, what, "upgrade it, days before the flip");
            }
            found.push((version, status.version));
        }
        if let [(from, old), (to, new)] = found.as_slice() {
            let what = format!("version {new}, and {} has {old}", self.from.name);
            if to < from {
                notes.block(&self.to.name, what, "a server cannot follow a newer one: upgrade it");
            } else if to > from {
                let mend = "the vendor does not support the way back from a newer server to an older one: flip with equal versions, upgrade after the soak";
                notes.warn(&self.to.name, what, mend);
            }
        }
        Ok(notes.findings)
    }
}

/// Reads major and minor of a MariaDB version; nothing where it is another server's.
fn release(version: &str) -> Option<(u32, u32)> {
    if !version.to_lowercase().contains("mariadb") {
        return None;
    }
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn versions_are_read() {
        assert_eq!(release("10.11.6-MariaDB-0+deb12u1-log"), Some((10, 11)));
        assert_eq!(release("11.8.3-MariaDB"), Some((11, 8)));
        assert_eq!(release("9.7.4"), None);
        assert_eq!(release("MariaDB"), None);
    }
}
