//! The CDN's control API, as near to its HTTP as possible. It knows no step.
//!
//! Invariant: every write takes a permit; answers are kept as JSON, so that nothing is lost by reading them.
//! Source of the rules: Fastly's API reference, "Service", "Version", "Backend", "Purging".

mod content;
mod copying;
mod kinds;
mod probe;
mod quota;
mod wire;

pub use content::{Content, Difference};
pub use copying::{Copied, writes};
pub use probe::Prober;
pub use quota::{Patience, Quota};

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::settings::Edge;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use wire::{Wire, words};

/// A client of the control API; all clones share one connection and one budget of writes.
#[derive(Clone)]
pub struct Fastly {
    wire: Rc<Wire>,
    patience: Option<Patience>,
}

/// One version of a service, as far as a switch needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub number: u64,
    pub active: bool,
    pub locked: bool,
    /// Whether the staging network serves it.
    pub staging: bool,
    pub comment: String,
}

/// The active version of a service and where its backends point.
#[derive(Debug, Clone, PartialEq)]
pub struct Active {
    pub number: u64,
    /// Address by backend name.
    pub backends: BTreeMap<String, String>,
    /// What it holds, as [`Fastly::outline`] tells it.
    pub outline: Content,
}

impl Fastly {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Settings`] where the token cannot be sent.
    pub fn new(settings: &Edge) -> Result<Self> {
        Ok(Self { wire: Rc::new(Wire::new(settings)?), patience: None })
    }

    /// Returns a client that waits for the next hour's budget where none is left: never for what people wait for.
    #[must_use]
    pub fn patient(&self, patience: Patience) -> Self {
        Self { wire: self.wire.clone(), patience: Some(patience) }
    }

    /// Returns how many writes are left, as far as the last write told.
    pub fn quota(&self) -> Option<Quota> {
        self.wire.quota()
    }

    /// Waits until the budget is full again, where this client may wait.
    ///
    /// # Errors
    /// [`Error::Deadline`] where that is too far off, [`Error::Interrupted`] on a signal.
    pub async fn next_hour(&self, permit: &Permit, resets: u64) -> Result<()> {
        match &self.patience {
            Some(patience) => patience.wait(permit.run(), resets, Duration::ZERO).await,
            None => Err(Error::Deadline { what: "the account's next writes".into(), limit_ms: 0 }),
        }
    }

    /// Counts the writes of this account's clients in this process.
    pub fn written(&self) -> u64 {
        self.wire.written()
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
        let outline = content::outline(version)?;
        Ok(Some(Active { number, backends: outline.backends(), outline }))
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
                    staging: flag("staging"),
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

    /// Copies a version into a new, editable one, and returns its number once it can be found.
    ///
    /// # Errors
    /// [`Error::Deadline`] where the API made it and cannot find it: that takes it a moment, and no call waits for it.
    pub async fn clone_version(&self, permit: &Permit, service: &str, version: u64) -> Result<u64> {
        let path = format!("/service/{service}/version/{version}/clone");
        let made = number(&self.write(permit, service, Method::PUT, &path, &Value::Null).await?, "number")?;
        let (began, limit) = (Instant::now(), self.wire.limit);
        while self.wire.find(&format!("/service/{service}/version/{made}")).await?.is_none() {
            if began.elapsed() > limit {
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                return Err(Error::Deadline { what: format!("finding version {made} of {service}"), limit_ms });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(made)
    }

    /// Writes the comment of a version, which is our mark.
    pub async fn comment(&self, permit: &Permit, service: &str, version: u64, comment: &str) -> Result<()> {
        let path = format!("/service/{service}/version/{version}");
        self.write(permit, service, Method::PUT, &path, &json!({"comment": comment})).await.map(|_| ())
    }

    /// Points one backend of an editable version somewhere else; everything else of it stays.
    pub async fn point(
        &self,
        permit: &Permit,
        service: &str,
        version: u64,
        backend: &str,
        address: &str,
    ) -> Result<()> {
        let path = format!("/service/{service}/version/{version}/backend/{}", escaped(backend));
        self.write(permit, service, Method::PUT, &path, &json!({"address": address})).await.map(|_| ())
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
    pub async fn lock(&self, permit: &Permit, service: &str, version: u64) -> Result<()> {
        self.of_version(permit, service, version, "lock").await.map(|_| ())
    }

    /// Activates a version; returns the API's warning, where it has one.
    pub async fn activate(&self, permit: &Permit, service: &str, version: u64) -> Result<Option<String>> {
        let answer = self.of_version(permit, service, version, "activate").await?;
        Ok(answer.get("msg").and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// Takes a version out of service; its service then serves nobody.
    pub async fn deactivate(&self, permit: &Permit, service: &str, version: u64) -> Result<()> {
        self.of_version(permit, service, version, "deactivate").await.map(|_| ())
    }

    /// Puts a version on the staging network, or takes it from there.
    pub async fn stage(&self, permit: &Permit, service: &str, version: u64, on: bool) -> Result<()> {
        let verb = if on { "activate/staging" } else { "deactivate/staging" };
        self.of_version(permit, service, version, verb).await.map(|_| ())
    }

    /// Reads where the staging network serves each domain of a version.
    pub async fn staging_addresses(&self, service: &str, version: u64) -> Result<BTreeMap<String, String>> {
        let path = format!("/service/{service}/version/{version}/domain?include=staging_ips");
        let list = self.get(&path).await?;
        let domains = list.as_array().into_iter().flatten();
        Ok(domains
            .filter_map(|domain| Some((domain.get("name")?.as_str()?, domain.get("staging_ip")?.as_str()?)))
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect())
    }

    /// Drops everything of a service from the cache.
    pub async fn purge_all(&self, permit: &Permit, service: &str) -> Result<()> {
        let path = format!("/service/{service}/purge_all");
        self.write(permit, service, Method::POST, &path, &Value::Null).await.map(|_| ())
    }

    /// Drops what carries a surrogate key from the cache.
    pub async fn purge_key(&self, permit: &Permit, service: &str, key: &str) -> Result<()> {
        let path = format!("/service/{service}/purge/{}", escaped(key));
        self.write(permit, service, Method::POST, &path, &Value::Null).await.map(|_| ())
    }

    async fn of_version(&self, permit: &Permit, service: &str, version: u64, verb: &str) -> Result<Value> {
        let path = format!("/service/{service}/version/{version}/{verb}");
        self.write(permit, service, Method::PUT, &path, &Value::Null).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.wire.get(path).await
    }

    async fn write(&self, permit: &Permit, service: &str, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.wire.write(permit, self.patience.as_ref(), service, method, path, body).await
    }
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
    fn names_are_escaped_and_numbers_read_as_texts_too() {
        assert_eq!(escaped("F app/4"), "F%20app%2F4");
        assert_eq!(number(&json!({"number": "7"}), "number"), Ok(7));
    }
}
