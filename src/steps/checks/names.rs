//! DNS names that are not behind the CDN: what people must move themselves.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;

/// One name, and what it must say.
pub struct Moved {
    pub name: String,
    pub record: String,
    pub old: String,
    pub new: String,
    /// Seconds.
    pub ttl: u64,
}

/// The names that the site has beside the CDN.
pub struct NamesBeside(pub Vec<Moved>);

impl Topic for NamesBeside {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("names");
        for name in &self.0 {
            let Moved { record, old, new, ttl, .. } = name;
            let found = format!("not behind the CDN: {record} {old}, kept by others for {ttl} s");
            let late = if *ttl > 300 { "; lower its TTL days before" } else { "" };
            notes.warn(&name.name, found, format!("in the flip's hour set {record} {new}{late}"));
        }
        Ok(notes.findings)
    }
}
