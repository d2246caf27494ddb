//! What is asked for: the service's own path, those of the pillar, those of the sitemap, and what people ask for most.
//!
//! Invariant: only what can be asked for without changing anything: paths of GET requests that were answered.

use super::compare::Way;
use crate::error::{Error, Result};
use crate::settings::Compare;
use reqwest::Url;
use std::collections::{BTreeMap, BTreeSet};

/// How many parts of a sitemap are read.
const PARTS: usize = 20;

/// Lists the paths of a service, each once, the declared ones first; and what could not be read.
pub async fn of(compare: &Compare, way: &Way, own: &str) -> Result<(Vec<String>, Vec<String>)> {
    let mut remarks = Vec::new();
    let mut paths = vec![own.to_owned()];
    paths.extend(compare.paths.get(&way.vhost).into_iter().flatten().cloned());
    if let Some(sitemap) = compare.sitemaps.get(&way.vhost) {
        match sitemap_of(way, sitemap).await {
            Ok(found) => paths.extend(found),
            Err(problem) => remarks.push(format!("{}: its sitemap {sitemap}: {problem}", way.vhost)),
        }
    }
    if let Some(log) = compare.access_logs.get(&way.vhost) {
        let text = std::fs::read(log).map_err(|error| Error::Settings {
            path: format!("migrate:compare:access_logs:{}", way.vhost),
            found: format!("{}: {error}", log.display()),
            expected: "an access log in the common or combined format".into(),
            hint: "copy one from the old side's web server or CDN, or take the key out".into(),
        })?;
        paths.extend(asked(&String::from_utf8_lossy(&text)));
    }
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    if paths.len() > compare.most {
        remarks.push(format!("{}: {} of {} paths were asked for", way.vhost, compare.most, paths.len()));
        paths.truncate(compare.most);
    }
    Ok((paths, remarks))
}

async fn sitemap_of(way: &Way, path: &str) -> std::result::Result<Vec<String>, String> {
    let page = way.old.get(path).await?;
    if page.status != 200 {
        return Err(format!("answers {}", page.status));
    }
    let mut all = locations(&page.body);
    if page.body.contains("<sitemapindex") {
        let parts: Vec<String> = all.iter().filter_map(|url| ours(way, url)).take(PARTS).collect();
        all.clear();
        for part in parts {
            all.extend(locations(&way.old.get(&part).await?.body));
        }
    }
    Ok(all.iter().filter_map(|url| ours(way, url)).collect())
}

/// Takes the path of an address of this service.
fn ours(way: &Way, url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?.to_lowercase();
    let ours = host == way.old.host.to_lowercase() || way.old.places.contains_key(&host);
    ours.then(|| url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())))
}

fn locations(text: &str) -> Vec<String> {
    text.split("<loc>")
        .skip(1)
        .filter_map(|rest| rest.split("</loc>").next())
        .map(|url| url.trim().replace("&amp;", "&"))
        .collect()
}

/// Lists the paths of answered GET requests of a log, what is asked for most first.
fn asked(log: &str) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once("\"GET ") else { continue };
        let Some((request, rest)) = rest.split_once('"') else { continue };
        let answered = rest.trim_start().starts_with(['2', '3']);
        let path = request.split(' ').next().unwrap_or_default();
        if answered && path.starts_with('/') {
            *counts.entry(path).or_default() += 1;
        }
    }
    let mut paths: Vec<(&str, usize)> = counts.into_iter().collect();
    paths.sort_by(|one, other| (other.1, one.0).cmp(&(one.1, other.0)));
    paths.into_iter().map(|(path, _)| path.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gives_what_was_answered_the_most_asked_first() {
        let line =
            |request: &str, status: u16| format!("192.0.2.1 - - [x] \"{request} HTTP/1.1\" {status} 12 \"-\" \"y\"\n");
        let log = [
            line("GET /b", 200),
            line("GET /a", 200),
            line("GET /b", 304),
            line("POST /c", 200),
            line("GET /gone", 404),
        ];
        assert_eq!(asked(&log.concat()), vec!["/b", "/a"]);
    }

    #[test]
    fn a_sitemap_gives_its_addresses() {
        assert_eq!(locations("<urlset><url><loc> http://a/x?y=1&amp;z=2 </loc></url>"), vec!["http://a/x?y=1&z=2"]);
    }
}
