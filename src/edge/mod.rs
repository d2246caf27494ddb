//! The CDN's control API, as near to its HTTP as possible. It knows no step.
//!
//! Invariant: writes inside one service are strictly serial (the API loses overlapping ones), and each takes a permit;
//! answers are kept as JSON, so that nothing is lost by reading them.
//! Source of the rules: Fastly's API reference, "Service", "Version", "Backend", "Purging".

mod probe;

pub use probe::Prober;

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::settings::{Edge, Secret};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A client of the control API.
#[derive(Clone)]
pub struct Fastly {
    http: reqwest::Client,
    api: String,
    token: Secret,
}

/// One version of a service, as far as a switch needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub number: u64,
    pub active: bool,
    pub locked: bool,
    pub comment: String,
}

/// The active version of a service and where its backends point.
#[derive(Debug, Clone, PartialEq)]
pub struct Active {
    pub number: u64,
    /// Address by backend name.
    pub backends: BTreeMap<String, String>,
}

impl Fastly {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Settings`] where the token cannot be sent.
    pub fn new(settings: &Edge) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_millis(settings.deadlines.request))
            .user_agent(concat!("saltext-migrate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::remote("edge", words(&error)))?;
        Ok(Self { http, api: settings.api.trim_end_matches('/').to_owned(), token: settings.token.clone() })
    }

    /// Reads what the token may do, as a list of scopes.
    pub async fn scopes(&self) -> Result<Vec<String>> {
        let token = self.get("/tokens/self").await?;
        let scopes = token.get("scopes").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Reads the active version of a service; nothing where it has none.
    pub async fn active(&self, service: &str) -> Result<Option<Active>> {
        let details = self.get(&format!("/service/{service}/details")).await?;
        let Some(version) = details.get("active_version").filter(|version| !version.is_null()) else { return Ok(None) };
        let number = number(version, "number")?;
        let mut backends = BTreeMap::new();
        for backend in version.get("backends").and_then(Value::as_array).into_iter().flatten() {
            backends.insert(text(backend, "name")?.to_owned(), text(backend, "address")?.to_owned());
        }
        Ok(Some(Active { number, backends }))
    }

    /// Lists the versions of a service.
    pub async fn versions(&self, service: &str) -> Result<Vec<Version>> {
        let list = self.get(&format!("/service/{service}/version")).await?;
        let list = list.as_array().ok_or_else(|| Error::remote("edge", "the list of versions is no list"))?;
        list.iter()
            .map(|version| {
                let flag = |key: &str| version.get(key).and_then(Value::as_bool).unwrap_or(false);
                let comment = version.get("comment").and_then(Value::as_str).unwrap_or_default().to_owned();
                Ok(Version {
                    number: number(version, "number")?,
                    active: flag("active"),
                    locked: flag("locked"),
                    comment,
                })
            })
            .collect()
    }

    /// Reads where the backends of a version point.
    pub async fn backends(&self, service: &str, version: u64) -> Result<BTreeMap<String, String>> {
        let list = self.get(&format!("/service/{service}/version/{version}/backend")).await?;
        let list = list.as_array().ok_or_else(|| Error::remote("edge", "the list of backends is no list"))?;
        list.iter()
            .map(|backend| Ok((text(backend, "name")?.to_owned(), text(backend, "address")?.to_owned())))
            .collect()
    }

    /// Copies a version into a new, editable one, and returns its number.
    pub async fn clone_version(&self, _permit: &Permit, service: &str, version: u64) -> Result<u64> {
        let made = self.write(Method::PUT, &format!("/service/{service}/version/{version}/clone"), &[]).await?;
        number(&made, "number")
    }

    /// Writes the comment of a version, which is our mark.
    pub async fn comment(&self, _permit: &Permit, service: &str, version: u64, comment: &str) -> Result<()> {
        self.write(Method::PUT, &format!("/service/{service}/version/{version}"), &[("comment", comment)])
            .await
            .map(|_| ())
    }

    /// Points one backend of an editable version somewhere else; everything else of it stays.
    pub async fn point(
        &self,
        _permit: &Permit,
        service: &str,
        version: u64,
        backend: &str,
        address: &str,
    ) -> Result<()> {
        let path = format!("/service/{service}/version/{version}/backend/{}", escaped(backend));
        self.write(Method::PUT, &path, &[("address", address)]).await.map(|_| ())
    }

    /// Asks whether a version could be activated.
    ///
    /// # Errors
    /// [`Error::Remote`] with the reason why not.
    pub async fn validate(&self, service: &str, version: u64) -> Result<()> {
        let verdict = self.get(&format!("/service/{service}/version/{version}/validate")).await?;
        if verdict.get("status").and_then(Value::as_str) == Some("ok") {
            return Ok(());
        }
        let why = verdict.get("msg").and_then(Value::as_str).unwrap_or("no reason was given");
        Err(Error::remote(format!("edge service {service}"), format!("version {version} does not validate: {why}")))
    }

    /// Makes a version one that nobody can edit any more.
    pub async fn lock(&self, _permit: &Permit, service: &str, version: u64) -> Result<()> {
        self.write(Method::PUT, &format!("/service/{service}/version/{version}/lock"), &[]).await.map(|_| ())
    }

    /// Activates a version; returns the API's warning, where it has one.
    pub async fn activate(&self, _permit: &Permit, service: &str, version: u64) -> Result<Option<String>> {
        let answer = self.write(Method::PUT, &format!("/service/{service}/version/{version}/activate"), &[]).await?;
        Ok(answer.get("msg").and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// Drops everything of a service from the cache.
    pub async fn purge_all(&self, _permit: &Permit, service: &str) -> Result<()> {
        self.write(Method::POST, &format!("/service/{service}/purge_all"), &[]).await.map(|_| ())
    }

    /// Drops what carries a surrogate key from the cache.
    pub async fn purge_key(&self, _permit: &Permit, service: &str, key: &str) -> Result<()> {
        self.write(Method::POST, &format!("/service/{service}/purge/{}", escaped(key)), &[]).await.map(|_| ())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.send(self.http.request(Method::GET, format!("{}{path}", self.api)), path).await
    }

    async fn write(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Result<Value> {
        let request = self.http.request(method, format!("{}{path}", self.api));
        let request = if form.is_empty() { request } else { request.form(form) };
        self.send(request, path).await
    }

    async fn send(&self, request: RequestBuilder, path: &str) -> Result<Value> {
        let system = || format!("edge {path}");
        let mut key = HeaderValue::from_str(self.token.reveal()).map_err(|_| Error::Settings {
            path: "migrate:edge:token".into(),
            found: "a token that no header can carry".into(),
            expected: "a token of letters, digits, - and _".into(),
            hint: "copy it again from the CDN's control panel".into(),
        })?;
        key.set_sensitive(true);
        let headers = HeaderMap::from_iter([(reqwest::header::HeaderName::from_static("fastly-key"), key)]);
        let answer = request.headers(headers).send().await.map_err(|error| Error::remote(system(), words(&error)))?;
        let (status, reset) = (answer.status(), header(answer.headers(), "fastly-ratelimit-reset"));
        let body = answer.text().await.map_err(|error| Error::remote(system(), words(&error)))?;
        let parsed: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(parsed);
        }
        let when = if status.as_u16() == 429 {
            reset.map_or_else(String::new, |reset| format!("; writes are allowed again at {reset} (Unix time)"))
        } else {
            String::new()
        };
        Err(Error::remote(system(), format!("{status}: {}{when}", refusal(&parsed, &body))))
    }
}

/// Reads a refusal in any of the API's three forms, or as it stands.
fn refusal(parsed: &Value, body: &str) -> String {
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let first = parsed.get("errors").and_then(|errors| errors.get(0)).unwrap_or(parsed);
    let parts: Vec<String> = ["msg", "title", "detail"].iter().filter_map(|key| word(first, key)).collect();
    if parts.is_empty() { body.chars().take(200).collect() } else { parts.join(": ") }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Says what went wrong without the URL, which messages name themselves.
fn words(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    if error.is_timeout() {
        return "no answer in time".into();
    }
    if words.is_empty() { "the request failed".into() } else { words.join(": ") }
}

fn number(value: &Value, key: &str) -> Result<u64> {
    // The API writes numbers as texts in some kinds of objects.
    let found = value.get(key);
    let number =
        found.and_then(Value::as_u64).or_else(|| found.and_then(Value::as_str).and_then(|text| text.parse().ok()));
    number.ok_or_else(|| Error::remote("edge", format!("an answer does not tell {key}")))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::remote("edge", format!("an answer does not tell {key}")))
}

/// Escapes a name for a path.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_are_read_in_every_form() {
        let body = json!({"msg": "Version locked", "detail": "Version '56' is locked"});
        assert_eq!(refusal(&body, ""), "Version locked: Version '56' is locked");
        let body = json!({"errors": [{"title": "Invalid value", "detail": "taken"}]});
        assert_eq!(refusal(&body, ""), "Invalid value: taken");
        assert_eq!(refusal(&Value::Null, "<html>Bad gateway"), "<html>Bad gateway");
    }

    #[test]
    fn names_are_escaped_and_numbers_read_as_texts_too() {
        assert_eq!(escaped("F app/4"), "F%20app%2F4");
        assert_eq!(number(&json!({"number": "7"}), "number"), Ok(7));
    }
}
