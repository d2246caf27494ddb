//! The names that people use, reached on the new side past the CDN: what testers put into their hosts file, and whether
//! that shows them the new side.
//!
//! Invariant: a request goes to the new side's address or nowhere; a redirect that a tester's browser would follow to
//! production is followed by nobody.

use super::page::client;
use crate::error::Result;
use crate::settings::{Inventory, Side, Vhost};
use futures_util::future::join_all;
use reqwest::{Client, Url, header};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What one vhost showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    pub service: String,
    pub host: String,
    pub address: String,
    pub url: String,
    /// Of the last answer; nothing where there was none.
    pub status: Option<u16>,
    /// Where it was sent on to, in order.
    pub redirects: Vec<String>,
    /// Whether a tester would end up in production.
    pub bounces: bool,
    /// What is wrong; nothing where the new side is seen as it should be.
    pub problem: Option<String>,
}

fn address(inventory: &Inventory, side: Side, vhost: &Vhost) -> Option<IpAddr> {
    inventory.nodes.of(side).get(&vhost.node).map(|node| node.public.unwrap_or(node.private))
}

/// Tells where each name leads on one side, past the CDN; those of `own` to its own node, whoever has the same names.
pub fn places(inventory: &Inventory, side: Side, own: &Vhost) -> BTreeMap<String, SocketAddr> {
    let mut places = BTreeMap::new();
    for vhost in inventory.vhosts.values().chain([own]) {
        let Some(address) = address(inventory, side, vhost) else { continue };
        for host in &vhost.hosts {
            // Port 0 is the scheme's own; another one must not show in the Host header.
            places.insert(host.to_lowercase(), SocketAddr::new(address, vhost.port.unwrap_or(0)));
        }
    }
    places
}

/// Builds the lines of a hosts file, by service.
pub fn lines(inventory: &Inventory) -> BTreeMap<String, String> {
    let line = |vhost: &Vhost| Some(format!("{} {}", address(inventory, Side::New, vhost)?, vhost.hosts.join(" ")));
    inventory.vhosts.iter().filter_map(|(name, vhost)| Some((name.clone(), line(vhost)?))).collect()
}

/// Checks every vhost through those lines.
///
/// # Errors
/// [`Error::Settings`] where a certificate authority cannot be read.
pub async fn check(inventory: &Inventory) -> Result<Vec<Checked>> {
    let mut clients = Vec::new();
    for (name, vhost) in &inventory.vhosts {
        let places = places(inventory, Side::New, vhost);
        clients.push((name, vhost, client(name, vhost, &places, Duration::from_secs(15))?, places));
    }
    let asked = clients.iter().flat_map(|(name, vhost, client, places)| {
        vhost.hosts.iter().map(move |host| one(name, vhost, host, client.clone(), places))
    });
    Ok(join_all(asked).await)
}

async fn one(name: &str, vhost: &Vhost, host: &str, client: Client, places: &BTreeMap<String, SocketAddr>) -> Checked {
    let first = format!("{}://{host}{}", vhost.scheme.word(), vhost.path);
    let address = places.get(&host.to_lowercase()).map_or_else(String::new, |place| place.ip().to_string());
    let mut checked = Checked {
        service: name.to_owned(),
        host: host.to_owned(),
        address,
        url: first.clone(),
        status: None,
        redirects: Vec::new(),
        bounces: false,
        problem: None,
    };
    if let Err(problem) = follow(vhost, &first, &client, places, &mut checked).await {
        checked.problem = Some(problem);
    }
    checked
}

async fn follow(
    vhost: &Vhost,
    first: &str,
    client: &Client,
    places: &BTreeMap<String, SocketAddr>,
    checked: &mut Checked,
) -> std::result::Result<(), String> {
    let mut url = Url::parse(first).map_err(|error| error.to_string())?;
    for _ in 0..10 {
        let answer = client.get(url.clone()).send().await.map_err(|error| words(&error))?;
        checked.status = Some(answer.status().as_u16());
        let sent = answer.status().is_redirection().then(|| answer.headers().get(header::LOCATION)).flatten();
        let Some(location) = sent.filter(|_| answer.status().as_u16() != vhost.status || vhost.status < 300) else {
            return page(vhost, answer).await;
        };
        let location = location.to_str().map_err(|_| "it redirects to what is no URL".to_owned())?;
        let next = url.join(location).map_err(|error| format!("it redirects to {location:?}: {error}"))?;
        checked.redirects.push(next.to_string());
        let host = next.host_str().unwrap_or_default().to_lowercase();
        if !places.contains_key(&host) {
            checked.bounces = true;
            return Err(format!(
                "it redirects to {next}, which no line of the hosts file leads to the new side: testers end up in production"
            ));
        }
        url = next;
    }
    Err("it redirects again and again".into())
}

async fn page(vhost: &Vhost, answer: reqwest::Response) -> std::result::Result<(), String> {
    let status = answer.status().as_u16();
    if status != vhost.status {
        return Err(format!("it answers {status}, and {} was expected", vhost.status));
    }
    let Some(holds) = &vhost.holds else { return Ok(()) };
    let body = answer.text().await.map_err(|error| words(&error))?;
    if body.contains(holds.as_str()) { Ok(()) } else { Err(format!("its page does not hold {holds:?}")) }
}

/// The innermost words of an error: the outer ones only say that a request failed.
pub(super) fn words(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
