//! What the edge itself says it serves: an API's 200 is no proof, for points of presence follow one after another.
//!
//! Invariant: it reads only, through the same addresses and with the same host name as people do.

use super::words;
use crate::error::{Error, Result};
use crate::settings::Probe;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Asks points of presence which version they serve.
pub struct Prober {
    probe: Probe,
    /// A client per address, and the address's name for messages.
    clients: Vec<(String, reqwest::Client)>,
}

impl Prober {
    /// Prepares a client for each address.
    ///
    /// # Errors
    /// [`Error::Settings`] where the URL or an address is none.
    pub fn new(probe: &Probe, service: &str) -> Result<Self> {
        let wrong = |key: &str, found: &str, expected: &str| Error::Settings {
            path: format!("migrate:edge:services:{service}:probe:{key}"),
            found: found.to_owned(),
            expected: expected.to_owned(),
            hint: "for example url: https://docs.example.org/, addresses: [192.0.2.7, '192.0.2.8:443']".into(),
        };
        let url = reqwest::Url::parse(&probe.url).map_err(|_| wrong("url", &probe.url, "a URL"))?;
        let host = url.host_str().ok_or_else(|| wrong("url", &probe.url, "a URL with a host"))?.to_owned();
        let mut clients = Vec::new();
        let build =
            |builder: reqwest::ClientBuilder| builder.build().map_err(|error| Error::remote("edge", words(&error)));
        for address in &probe.addresses {
            let socket =
                address.parse::<SocketAddr>().or_else(|_| address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)));
            let socket = socket.map_err(|_| wrong("addresses", address, "ip or ip:port"))?;
            clients.push((address.clone(), build(client().resolve(&host, socket))?));
        }
        if clients.is_empty() {
            clients.push((host, build(client())?));
        }
        Ok(Self { probe: probe.clone(), clients })
    }

    /// Waits until the edge serves a version: one point of presence, or every one, for a time without a break.
    ///
    /// The time is for a way back: what was sent forward a moment ago may still be on its way to a point of presence
    /// that serves the old version only because it has not heard yet.
    ///
    /// # Errors
    /// [`Error::Deadline`] with what each that is late serves instead.
    pub async fn serves(&self, version: &str, everywhere: bool, steady: Duration, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let mut waiting: FuturesUnordered<_> =
            self.clients.iter().map(|(name, client)| self.one(name, client, version, steady, until)).collect();
        let mut late = Vec::new();
        let mut seen = 0;
        while let Some(result) = waiting.next().await {
            match result {
                Ok(()) if !everywhere => return Ok(()),
                Ok(()) => seen += 1,
                Err(instead) => late.push(instead),
            }
        }
        if late.is_empty() && seen > 0 {
            return Ok(());
        }
        let what = format!("the edge serving {version} ({})", late.join(", "));
        Err(Error::Deadline { what, limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Asks one point of presence again and again: there is nothing at the edge that could be waited on.
    async fn one(
        &self,
        name: &str,
        client: &reqwest::Client,
        version: &str,
        steady: Duration,
        until: Instant,
    ) -> std::result::Result<(), String> {
        let mut since: Option<Instant> = None;
        loop {
            let answer = client.get(&self.probe.url).header("cache-control", "no-cache").send().await;
            let instead = match answer {
                Ok(answer) => match answer.headers().get(&self.probe.header).and_then(|value| value.to_str().ok()) {
                    Some(served) if served == version => {
                        if since.get_or_insert_with(Instant::now).elapsed() >= steady {
                            return Ok(());
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    Some(served) => served.to_owned(),
                    None => format!("no header {}", self.probe.header),
                },
                Err(error) => words(&error),
            };
            since = None;
            if Instant::now() >= until {
                return Err(format!("{name}: {instead}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn client() -> reqwest::ClientBuilder {
    // A redirect is an answer of the edge too, and the one that counts.
    reqwest::Client::builder().timeout(Duration::from_secs(5)).redirect(reqwest::redirect::Policy::none())
}
