//! Pages read at the nodes that people are about to be sent to, so that those are not cold when they come.
//!
//! Invariant: it hinders nobody. What does not answer is told, and what time does not reach stays unread.

use super::deed::Deed;
use crate::error::Result;
use crate::event::{self, Event, Happening};
use crate::journal::Permit;
use crate::outside::Outside;
use crate::settings::{Compare, Settings, Side};
use crate::site::page::Place;
use crate::step::Earlier;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// How many problems are told one by one.
const SHOWN: usize = 5;

/// Reads every service of one side at its node there, past the CDN.
pub struct Warmed {
    pub settings: Settings,
    pub side: Side,
    pub phase: String,
    pub outside: Outside,
    /// For all of it.
    pub limit: Duration,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PagesRead {
    pub read: usize,
    pub of: usize,
    pub slowest_ms: f64,
    pub problems: Vec<String>,
}

/// One page, at one node.
struct Asked {
    place: Rc<Place>,
    node: String,
    service: String,
    path: String,
}

impl Warmed {
    /// Lists what is read: first each service's own page, then what the comparison asks for, and the forms of its editors.
    fn pages(&self, compare: &Compare, seen: &mut PagesRead) -> Vec<Asked> {
        let answer = Duration::from_millis(compare.answer).min(self.limit);
        let inventory = self.settings.inventory();
        let (mut own, mut rest) = (Vec::new(), Vec::new());
        for (name, vhost) in &self.settings.vhosts {
            // One that this side has no node for is not served here.
            if self.settings.node(self.side, &vhost.node).is_none() {
                continue;
            }
            let place = match Place::past_the_edge(&inventory, self.side, name, vhost, answer) {
                Ok(place) => Rc::new(place),
                Err(error) => {
                    seen.problems.push(error.to_string());
                    continue;
                }
            };
            let asked = |path: &String| Asked {
                place: place.clone(),
                node: format!("{}-{}", self.side.word(), vhost.node),
                service: name.clone(),
                path: path.clone(),
            };
            own.push(asked(&vhost.path));
            let forms = compare.notices.iter().filter(|shown| shown.vhost == *name).map(|shown| &shown.path);
            let further: BTreeSet<&String> = compare.paths.get(name).into_iter().flatten().chain(forms).collect();
            rest.extend(further.into_iter().filter(|path| **path != vhost.path).map(asked));
        }
        own.append(&mut rest);
        own
    }

    fn tell(&self, run: &str, problems: &[String]) {
        let mut told = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
        if problems.len() > SHOWN {
            told.push_str(&format!("; and {} more", problems.len() - SHOWN));
        }
        self.outside.tell(Event {
            run: run.to_owned(),
            phase: self.phase.clone(),
            happening: Happening::Warning,
            step: Some("warmed".into()),
            at: event::now(),
            milliseconds: None,
            detail: json!(format!("people are about to be sent there: {told}")),
        });
    }
}

impl Deed for Warmed {
    type Evidence = PagesRead;

    const KEPT: &'static str = "pages were read, and nothing is other than it was";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<PagesRead> {
        let mut first = PagesRead::default();
        let compare = self.settings.compare.clone().unwrap_or_default();
        let pages = self.pages(&compare, &mut first);
        first.of = pages.len();
        let seen = RefCell::new(first);
        // A node that does not answer for one page is not waited for with the next.
        let silent = RefCell::new(BTreeSet::new());
        let read = stream::iter(&pages).for_each_concurrent(compare.at_once, |page| {
            let (seen, silent) = (&seen, &silent);
            async move {
                let Asked { place, node, service, path } = page;
                if silent.borrow().contains(node) {
                    return;
                }
                let problem = match place.get(path).await {
                    Ok(shown) => {
                        let mut seen = seen.borrow_mut();
                        seen.read += 1;
                        seen.slowest_ms = seen.slowest_ms.max(shown.milliseconds);
                        (shown.status >= 400).then(|| format!("it answers {}", shown.status))
                    }
                    Err(problem) => {
                        silent.borrow_mut().insert(node.clone());
                        Some(problem)
                    }
                };
                if let Some(problem) = problem {
                    seen.borrow_mut().problems.push(format!("{service}: {path} at {node}: {problem}"));
                }
            }
        });
        let in_time = tokio::time::timeout(self.limit, read).await.is_ok();
        let mut seen = seen.into_inner();
        if !in_time {
            seen.problems.push(format!("{} of {} pages were read in {} s", seen.read, seen.of, self.limit.as_secs()));
        }
        if !seen.problems.is_empty() {
            self.tell(permit.run(), &seen.problems);
        }
        Ok(seen)
    }
}
