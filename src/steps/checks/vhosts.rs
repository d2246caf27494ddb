//! Whether each service answers at the node that people are about to be sent to.
//!
//! Invariant: what was looked at here was read there, so a node that nobody had read from is cold no more when people come.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::settings::{Settings, Side, Vhost};
use crate::site::page::{Page, Place};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use std::time::Duration;

/// The services of one side.
pub struct VhostsAnswer {
    pub settings: Settings,
    pub side: Side,
    /// Whether one that does not answer refuses, unless it is forced.
    pub refuses: bool,
}

impl VhostsAnswer {
    /// Reads a service's own path, then the others of the pillar; returns those that are not as they should be, and why.
    async fn wrong(&self, name: &str, vhost: &Vhost) -> Vec<(String, String)> {
        let compare = self.settings.compare.clone().unwrap_or_default();
        let answer = Duration::from_millis(compare.answer);
        let place = match Place::past_the_edge(&self.settings.inventory(), self.side, name, vhost, answer) {
            Ok(place) => place,
            Err(error) => return vec![(vhost.path.clone(), error.to_string())],
        };
        // A node that is not there would not be there for the others either, each as long as an answer may take.
        if let Some(problem) = problem(vhost, place.get(&vhost.path).await) {
            return vec![(vhost.path.clone(), problem)];
        }
        let rest = compare.paths.get(name).into_iter().flatten().filter(|path| **path != vhost.path);
        let read = stream::iter(rest).map(|path| async { (path.clone(), place.get(path).await) });
        let read: Vec<_> = read.buffered(compare.at_once).collect().await;
        read.into_iter().filter_map(|(path, page)| Some((path, failure(page)?))).collect()
    }
}

impl Topic for VhostsAnswer {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("vhosts");
        // One that this side has no node for was never served there.
        let there = |vhost: &Vhost| self.settings.node(self.side, &vhost.node).is_some();
        let services: Vec<_> = self.settings.vhosts.iter().filter(|(_, vhost)| there(vhost)).collect();
        let all = join_all(services.iter().map(|(name, vhost)| self.wrong(name, vhost))).await;
        for ((name, vhost), wrong) in services.into_iter().zip(all) {
            let node = format!("{}-{}", self.side.word(), vhost.node);
            for (path, what) in wrong {
                let (found, mend) = (format!("{path} at {node}: {what}"), "mend it there, for people are sent to it");
                if self.refuses {
                    notes.doubt(name, found, mend);
                } else {
                    notes.warn(name, found, mend);
                }
            }
        }
        Ok(notes.findings)
    }
}

/// What is wrong with the service's own page.
fn problem(vhost: &Vhost, page: std::result::Result<Page, String>) -> Option<String> {
    let page = match page {
        Ok(page) => page,
        Err(problem) => return Some(problem),
    };
    // Sent on to a name that is none of these services, it is somebody else's page.
    if page.left_to.is_some() || (300..400).contains(&vhost.status) && !page.redirects.is_empty() {
        return None;
    }
    if page.status != vhost.status {
        return Some(format!("it answers {}, and {} was expected", page.status, vhost.status));
    }
    let lacks = vhost.holds.as_ref().filter(|holds| !page.body.contains(holds.as_str()));
    lacks.map(|holds| format!("its page does not hold {holds:?}"))
}

/// What is wrong with any page.
fn failure(page: std::result::Result<Page, String>) -> Option<String> {
    match page {
        Ok(page) => (page.status >= 500).then(|| format!("it answers {}", page.status)),
        Err(problem) => Some(problem),
    }
}
