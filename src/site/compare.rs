//! Old and new beside each other, as a tester who never tires would see them.
//!
//! Invariant: each path is asked for three times, old, old again and new, and only what differs beyond old and old again
//! is told. The old side is only ever read.

use super::body::{self, shape, shown};
use super::page::{Page, Place};
use super::urls;
use crate::error::Result;
use crate::event;
use crate::proof::digest;
use crate::settings::{Compare, Edit, Shown};
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Headers that are another's business, or say the same as the body.
const NEVER: [&str; 12] = [
    "date",
    "age",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "via",
    "alt-svc",
    // The CDN's: which of its machines answered, and from where.
    "x-timer",
    "x-served-by",
    "x-cache",
    "x-cache-hits",
];

/// Milliseconds by which any answer may be later than another without a word.
const SAME_MS: f64 = 50.0;

/// One service, by one way.
pub struct Way {
    pub vhost: String,
    pub way: &'static str,
    pub old: Place,
    pub new: Place,
    /// The header in which the edge names its version: it differs by nature.
    pub version: Option<String>,
}

/// One thing in which new differs from old.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub way: &'static str,
    pub url: String,
    /// `status`, `redirect`, `production`, `header NAME`, `cookies`, `certificate`, `body`, `edit`, `notice`, `answer`.
    pub what: String,
    pub old: String,
    pub new: String,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    pub urls: usize,
    pub differences: Vec<Difference>,
    /// What is no difference, and should be known.
    pub remarks: Vec<String>,
    /// Medians, in milliseconds, by way and service.
    pub latency: BTreeMap<String, [f64; 2]>,
    /// Days for which each service's new certificate is still valid.
    pub certificate_days: BTreeMap<String, f64>,
    /// Of the addresses asked and of what differs.
    pub hash: String,
}

/// What the tester knows.
pub struct Tester<'a> {
    pub compare: &'a Compare,
    /// What the notice of the test says; nothing where there is none.
    pub notice: Option<&'a str>,
    /// Names and addresses that people use.
    pub production: BTreeSet<String>,
}

impl Tester<'_> {
    /// Compares every service by every way.
    ///
    /// # Errors
    /// [`crate::error::Error::Settings`] where an access log cannot be read.
    pub async fn compare(&self, ways: &[Way], paths: &BTreeMap<String, String>) -> Result<Comparison> {
        let mut seen = Comparison::default();
        let mut asked: BTreeSet<String> = BTreeSet::new();
        for way in ways {
            let own = paths.get(&way.vhost).map_or("/", String::as_str);
            let (list, remarks) = urls::of(self.compare, way, own).await?;
            seen.remarks.extend(remarks);
            asked.extend(list.iter().map(|path| format!("{} {} {path}", way.way, way.vhost)));
            let told: Vec<Told> =
                stream::iter(&list).map(|path| self.one(way, path)).buffered(self.compare.at_once).collect().await;
            let name = format!("{} {}", way.way, way.vhost);
            let times: Vec<[f64; 2]> = told.iter().filter_map(|told| told.times).collect();
            if !times.is_empty() {
                let median = |side: usize| median(times.iter().map(|pair| pair[side]).collect());
                let [old, new] = [median(0), median(1)];
                if new > old * self.compare.slower + SAME_MS {
                    seen.remarks.push(format!(
                        "{name}: half of the answers take {new:.0} ms or more, on the old side {old:.0} ms"
                    ));
                }
                seen.latency.insert(name.clone(), [old, new]);
            }
            if let Some(days) = told.iter().filter_map(|told| told.days).reduce(f64::min) {
                seen.certificate_days.insert(name, (days * 10.0).round() / 10.0);
            }
            seen.differences.extend(told.into_iter().flat_map(|told| told.differences));
            self.tried(way, &mut seen).await;
        }
        seen.urls = asked.len();
        let differences: Vec<_> = seen
            .differences
            .iter()
            .map(|found| (found.way, &found.url, &found.what, shape(&found.old), shape(&found.new)))
            .collect();
        seen.hash = digest(&json!([asked, differences]));
        Ok(seen)
    }

    async fn one(&self, way: &Way, path: &str) -> Told {
        let mut found = Found { way, path, differences: Vec::new() };
        let (old, again, new) = (way.old.get(path).await, way.old.get(path).await, way.new.get(path).await);
        let (old, again, new) = match (old, again, new) {
            (Ok(old), Ok(again), Ok(new)) => (old, again, new),
            (old, again, new) => {
                let word = |page: std::result::Result<Page, String>| match page {
                    Ok(page) => format!("answers {}", page.status),
                    Err(problem) => problem,
                };
                let old = if old.is_ok() { again } else { old };
                found.note("answer", word(old), word(new));
                return Told { differences: found.differences, times: None, days: None };
            }
        };
        self.look(&mut found, &old, &again, &new);
        #[allow(clippy::cast_precision_loss)] // seconds of some years
        let days = new.certificate.as_ref().map(|(until, _)| (*until as f64 - event::now()) / 86_400.0);
        if let Some(days) = days.filter(|days| *days < self.compare.certificate_days) {
            let wanted = format!("valid for {} days or more", self.compare.certificate_days);
            found.note("certificate", wanted, format!("valid for {days:.1} days"));
        }
        let times = [f64::midpoint(old.milliseconds, again.milliseconds), new.milliseconds];
        Told { differences: found.differences, times: Some(times), days }
    }

    fn look(&self, found: &mut Found<'_>, old: &Page, again: &Page, new: &Page) {
        if old.status != new.status && old.status == again.status {
            found.note("status", old.status.to_string(), new.status.to_string());
        }
        if let Some(host) = new.left_to.as_ref().filter(|host| self.production.contains(*host)) {
            let to = new.redirects.last().cloned().unwrap_or_default();
            let what = format!("{to}: {host} does not lead to the new side, and testers end up in production");
            found.note("production", "stays on the side that is asked".into(), what);
        } else if old.redirects != new.redirects && old.redirects == again.redirects {
            let word = |page: &Page| if page.redirects.is_empty() { "none".into() } else { page.redirects.join(", ") };
            let same_path = |page: &Page, host: &str, other: &str| -> Vec<String> {
                page.redirects.iter().map(|url| url.replacen(host, other, 1)).collect()
            };
            // By another name of the same service the same place is meant.
            if same_path(new, &found.way.new.host, &found.way.old.host) != old.redirects {
                found.note("redirect", word(old), word(new));
            }
        }
        let names: BTreeSet<&String> = old.headers.keys().chain(new.headers.keys()).collect();
        for name in names {
            let left_out = NEVER.contains(&name.as_str())
                || found
                    .way
                    .version
                    .iter()
                    .chain(&self.compare.ignore_headers)
                    .any(|own| own.eq_ignore_ascii_case(name));
            // The test itself keeps search engines out.
            let ours = name == "x-robots-tag" && self.notice.is_some();
            let value = |page: &Page| page.headers.get(name).map(|values| values.join(", "));
            let (one, two, three) = (value(old), value(again), value(new));
            let gone = one.is_some() && two.is_some() && three.is_none();
            if !left_out && !ours && one != three && (one == two || gone) {
                let word = |value: Option<String>| value.map_or_else(|| "none".to_owned(), |value| shown(&value));
                found.note(&format!("header {name}"), word(one), word(three));
            }
        }
        if old.cookies != new.cookies && old.cookies == again.cookies {
            found.note("cookies", old.cookies.join(" | "), new.cookies.join(" | "));
        }
        let signed = |page: &Page| page.certificate.as_ref().map(|(_, issuer)| issuer.clone());
        if let (Some(one), Some(two)) = (signed(old), signed(new))
            && one != two
        {
            found.note("certificate", format!("signed by {one:.12}"), format!("signed by {two:.12}"));
        }
        let (gone, come) = body::differences(&old.body, &again.body, &new.body, &self.compare.ignore);
        let notice = |part: &String| self.notice.is_some_and(|notice| part.contains(notice));
        let come: Vec<String> = come.into_iter().filter(|part| !notice(part)).collect();
        if !gone.is_empty() || !come.is_empty() {
            let word = |parts: &[String]| {
                // A text says more than a tag.
                let first = parts.iter().find(|part| !part.starts_with('<')).or(parts.first());
                match (first, parts.len()) {
                    (None, _) => "nothing instead".to_owned(),
                    (Some(first), 1) => shown(first),
                    (Some(first), count) => format!("{} (and {} more)", shown(first), count - 1),
                }
            };
            found.note("body", word(&gone), word(&come));
        }
    }

    /// Tries what testers are told they cannot do, and looks where they are told so.
    async fn tried(&self, way: &Way, seen: &mut Comparison) {
        for Edit { path, form, refused, .. } in self.compare.edits.iter().filter(|edit| edit.vhost == way.vhost) {
            let mut found = Found { way, path, differences: Vec::new() };
            match way.new.post(path, form).await {
                Ok(page) if page.body.contains(refused.as_str()) => {}
                Ok(page) => {
                    let what = format!("answers {} without it: look whether it was saved", page.status);
                    found.note("edit", format!("a refusal that holds {refused:?}"), what);
                }
                Err(problem) => found.note("edit", format!("a refusal that holds {refused:?}"), problem),
            }
            seen.differences.append(&mut found.differences);
        }
        let Some(notice) = self.notice else { return };
        for Shown { path, .. } in self.compare.notices.iter().filter(|shown| shown.vhost == way.vhost) {
            let mut found = Found { way, path, differences: Vec::new() };
            match way.new.get(path).await {
                Ok(page) if page.body.contains(notice) => {}
                Ok(page) => found.note("notice", format!("{notice:?}"), format!("a page ({}) without it", page.status)),
                Err(problem) => found.note("notice", format!("{notice:?}"), problem),
            }
            seen.differences.append(&mut found.differences);
        }
    }
}

/// What one path showed.
struct Told {
    differences: Vec<Difference>,
    /// Milliseconds, old and new.
    times: Option<[f64; 2]>,
    /// Days for which the new certificate is valid.
    days: Option<f64>,
}

struct Found<'a> {
    way: &'a Way,
    path: &'a str,
    differences: Vec<Difference>,
}

impl Found<'_> {
    fn note(&mut self, what: &str, old: String, new: String) {
        let place = &self.way.new;
        let url = format!("{}://{}{}", place.scheme, place.host, self.path);
        self.differences.push(Difference { way: self.way.way, url, what: what.to_owned(), old, new });
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
