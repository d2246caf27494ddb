//! One page as one side shows it, with the right Host header and TLS server name.
//!
//! Invariant: a request goes to the side's own address or nowhere, and nobody follows a redirect but this file.

use super::certificate;
use super::vhost::{places, words};
use crate::error::{Error, Result};
use crate::settings::{Inventory, Side, Vhost};
use reqwest::{Certificate, Client, Method, Url, header, redirect, tls};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How many redirects are followed.
const HOPS: usize = 5;

/// One side of one service, by one way.
pub struct Place {
    pub scheme: &'static str,
    /// What is asked for.
    pub host: String,
    /// Where each name leads on this side; port 0 is the scheme's own.
    pub places: BTreeMap<String, SocketAddr>,
    client: Client,
}

/// What was shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Page {
    pub status: u16,
    /// Where it was sent on to, in order.
    pub redirects: Vec<String>,
    /// A redirect that no line leads to this side: nobody followed it.
    pub left_to: Option<String>,
    pub headers: BTreeMap<String, Vec<String>>,
    /// Names and attributes, without values.
    pub cookies: Vec<String>,
    #[serde(skip)]
    pub body: String,
    pub milliseconds: f64,
    /// Seconds since the Unix epoch until which the certificate holds, and a hash of who signed it.
    pub certificate: Option<(i64, String)>,
}

impl Place {
    /// Prepares a client of one side.
    ///
    /// # Errors
    /// [`Error::Settings`] where the service's certificate authority cannot be read.
    pub fn new(
        name: &str,
        vhost: &Vhost,
        scheme: &'static str,
        host: String,
        places: BTreeMap<String, SocketAddr>,
        answer: Duration,
    ) -> Result<Self> {
        Ok(Self { client: client(name, vhost, &places, answer)?, scheme, host, places })
    }

    /// Prepares a client of the nodes of one side, asked by the service's canonical name.
    ///
    /// # Errors
    /// As [`Place::new`].
    pub fn past_the_edge(
        inventory: &Inventory,
        side: Side,
        name: &str,
        vhost: &Vhost,
        answer: Duration,
    ) -> Result<Self> {
        let host = vhost.hosts.first().cloned().unwrap_or_default();
        Self::new(name, vhost, vhost.scheme.word(), host, places(inventory, side, vhost), answer)
    }

    /// Asks for a path, and follows redirects as long as they stay on this side.
    ///
    /// # Errors
    /// The words of the failure.
    pub async fn get(&self, path: &str) -> std::result::Result<Page, String> {
        let first = format!("{}://{}{path}", self.scheme, self.host);
        let mut url = Url::parse(&first).map_err(|error| format!("{first}: {error}"))?;
        let mut page = Page::default();
        let began = Instant::now();
        loop {
            let answer = self.client.get(url.clone()).send().await.map_err(|error| words(&error))?;
            self.take(&mut page, &answer);
            let next = location(&answer).and_then(|location| url.join(&location).ok());
            let Some(next) = next else {
                page.body = answer.text().await.map_err(|error| words(&error))?;
                page.milliseconds = began.elapsed().as_secs_f64() * 1000.0;
                return Ok(page);
            };
            page.redirects.push(next.to_string());
            let host = next.host_str().unwrap_or_default().to_lowercase();
            if !self.places.contains_key(&host) {
                page.left_to = Some(host);
                page.milliseconds = began.elapsed().as_secs_f64() * 1000.0;
                return Ok(page);
            }
            if page.redirects.len() > HOPS {
                return Err(format!("it redirects again and again, at last to {next}"));
            }
            url = next;
        }
    }

    /// Sends a form, and follows nothing.
    ///
    /// # Errors
    /// The words of the failure.
    pub async fn post(&self, path: &str, form: &BTreeMap<String, String>) -> std::result::Result<Page, String> {
        let url = format!("{}://{}{path}", self.scheme, self.host);
        let mut body = Url::parse("http://form/").map_err(|error| error.to_string())?;
        body.query_pairs_mut().extend_pairs(form);
        let request = self
            .client
            .request(Method::POST, &url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.query().unwrap_or_default().to_owned());
        let answer = request.send().await.map_err(|error| words(&error))?;
        let mut page = Page::default();
        self.take(&mut page, &answer);
        page.body = answer.text().await.map_err(|error| words(&error))?;
        Ok(page)
    }

    fn take(&self, page: &mut Page, answer: &reqwest::Response) {
        page.status = answer.status().as_u16();
        page.headers.clear();
        for (name, value) in answer.headers() {
            if name == header::SET_COOKIE {
                page.cookies.push(attributes(&String::from_utf8_lossy(value.as_bytes())));
            } else {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                page.headers.entry(name.to_string()).or_default().push(value);
            }
        }
        page.cookies.sort();
        page.cookies.dedup();
        let shown = answer.extensions().get::<tls::TlsInfo>().and_then(tls::TlsInfo::peer_certificate);
        page.certificate = shown.and_then(certificate::read).or(page.certificate.take());
    }
}

fn location(answer: &reqwest::Response) -> Option<String> {
    if !answer.status().is_redirection() {
        return None;
    }
    answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Writes a cookie without its value, and without what only says when it ends.
fn attributes(cookie: &str) -> String {
    let mut parts = cookie.split(';').map(str::trim);
    let name = parts.next().and_then(|pair| pair.split('=').next()).unwrap_or_default().to_owned();
    let mut rest: Vec<String> = parts
        .map(str::to_lowercase)
        .filter(|part| !part.starts_with("expires=") && !part.starts_with("max-age="))
        .collect();
    rest.sort();
    std::iter::once(name).chain(rest).collect::<Vec<_>>().join("; ")
}

/// Builds a client for which some names lead to some addresses.
pub fn client(name: &str, vhost: &Vhost, places: &BTreeMap<String, SocketAddr>, answer: Duration) -> Result<Client> {
    let wrong = |found: String| Error::Settings {
        path: format!("migrate:vhosts:{name}:ca"),
        found,
        expected: "a file of certificates in PEM".into(),
        hint: "leave it out where the site's certificates are from a public authority".into(),
    };
    let mut builder = Client::builder().timeout(answer).redirect(redirect::Policy::none()).no_proxy().tls_info(true);
    for (host, place) in places {
        builder = builder.resolve(host, *place);
    }
    if let Some(path) = &vhost.ca {
        let text = std::fs::read(path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
        for certificate in Certificate::from_pem_bundle(&text).map_err(|error| wrong(error.to_string()))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| Error::remote("vhosts", error))
}
