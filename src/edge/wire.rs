//! One request to the control API and its answer, and the account's hourly budget of writes.
//!
//! Invariant: writes inside one service are strictly serial (the API loses overlapping ones), whoever asks for them; a
//! request is sent again only where that cannot do anything twice: a read that a gateway dropped, a write that was
//! refused for the budget alone.

use super::quota::{Patience, Quota};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::settings::Edge;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

/// How often a read is sent that a gateway dropped.
const READS: u32 = 3;
/// How many objects of a list are asked for at once.
const PAGE: usize = 100;

/// The connection of all clients of one account.
pub(super) struct Wire {
    /// How long one request may take.
    pub limit: Duration,
    http: reqwest::Client,
    api: String,
    headers: HeaderMap,
    /// One turn after another, by service.
    turns: RefCell<BTreeMap<String, Rc<Mutex<()>>>>,
    /// How many requests may be under way at once.
    slots: Semaphore,
    quota: Cell<Option<Quota>>,
    written: Cell<u64>,
}

/// What came back, whatever it says.
struct Answer {
    status: u16,
    body: Value,
    /// The status, and the words of a refusal.
    words: String,
    /// Whether the list that was asked for has another page.
    more: bool,
}

impl Answer {
    fn or_refused(self, path: &str) -> Result<Value> {
        if (200..300).contains(&self.status) { Ok(self.body) } else { Err(refused(path, &self.words)) }
    }
}

impl Wire {
    pub(super) fn new(settings: &Edge) -> Result<Self> {
        let limit = Duration::from_millis(settings.deadlines.request);
        let http = reqwest::Client::builder()
            .timeout(limit)
            .user_agent(concat!("saltext-migrate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::remote("edge", words(&error)))?;
        let mut key = HeaderValue::from_str(settings.token.reveal()).map_err(|_| Error::Settings {
            path: "migrate:edge:token".into(),
            found: "a token that no header can carry".into(),
            expected: "a token of letters, digits, - and _".into(),
            hint: "copy it again from the CDN's control panel".into(),
        })?;
        key.set_sensitive(true);
        Ok(Self {
            limit,
            http,
            api: settings.api.trim_end_matches('/').to_owned(),
            headers: HeaderMap::from_iter([(HeaderName::from_static("fastly-key"), key)]),
            turns: RefCell::default(),
            slots: Semaphore::new(settings.parallel.max(1)),
            quota: Cell::default(),
            written: Cell::default(),
        })
    }

    /// Returns the budget as the last write's answer told it.
    pub(super) fn quota(&self) -> Option<Quota> {
        self.quota.get()
    }

    /// Counts the writes that were sent and that the account was charged for.
    pub(super) fn written(&self) -> u64 {
        self.written.get()
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.read(path).await?.or_refused(path)
    }

    /// Reads what need not be there.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.read(path).await?;
        // A product that is off is answered as a bad request.
        let none = answer.status == 404 || answer.status == 400 && answer.words.contains("no product on service");
        if none { Ok(None) } else { answer.or_refused(path).map(Some) }
    }

    /// Reads a list to its last page.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        for page in 1.. {
            let separator = if path.contains('?') { '&' } else { '?' };
            let answer = self.read(&format!("{path}{separator}page={page}&per_page={PAGE}")).await?;
            let more = answer.more;
            let Value::Array(mut items) = answer.or_refused(path)? else {
                return Err(refused(path, "the answer is no list"));
            };
            // Not every list tells that there is more; then a full page does.
            let full = items.len() == PAGE;
            all.append(&mut items);
            if !more && !full {
                break;
            }
        }
        Ok(all)
    }

    async fn read(&self, path: &str) -> Result<Answer> {
        let mut tried = 1;
        loop {
            let answer = self.send(self.request(&Method::GET, path)).await;
            let dropped = match &answer {
                Ok(answer) => matches!(answer.status, 502..=504),
                Err(error) => error.is_connect() || error.is_request() && !error.is_timeout(),
            };
            if !dropped || tried == READS {
                return answer.map_err(|error| refused(path, &words(&error)));
            }
            log::warn!("edge {path}: dropped by a gateway, asked again");
            tokio::time::sleep(Duration::from_millis(100 * u64::from(tried))).await;
            tried += 1;
        }
    }

    /// Sends one write, when its service's turn has come and the budget allows.
    pub(super) async fn write(
        &self,
        permit: &Permit,
        patience: Option<&Patience>,
        service: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value> {
        let turn = self.turns.borrow_mut().entry(service.to_owned()).or_default().clone();
        let _turn = turn.lock().await;
        let began = Instant::now();
        loop {
            let request = self.request(&method, path);
            let request = if body.is_null() { request } else { request.json(body) };
            let answer = self.send(request).await.map_err(|error| refused(path, &words(&error)))?;
            if answer.status != 429 {
                self.written.set(self.written.get() + 1);
                return answer.or_refused(path);
            }
            // A write beyond the budget was not carried out, so it may be sent again.
            let resets = self.quota().map(|quota| quota.resets);
            match (patience, resets) {
                (Some(patience), Some(resets)) => patience.wait(permit.run(), resets, began.elapsed()).await?,
                (_, Some(resets)) => {
                    let when = format!("{}; writes are allowed again at {resets} (Unix time)", answer.words);
                    return Err(refused(path, &when));
                }
                (_, None) => return answer.or_refused(path),
            }
        }
    }

    fn request(&self, method: &Method, path: &str) -> RequestBuilder {
        self.http.request(method.clone(), format!("{}{path}", self.api)).headers(self.headers.clone())
    }

    async fn send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        // Never closed, so there is always one to be had.
        let _slot = self.slots.acquire().await;
        let answer = request.send().await?;
        let status = answer.status();
        if let Some(quota) = Quota::read(answer.headers()) {
            self.quota.set(Some(quota));
        }
        let link = answer.headers().get("link").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let more = link.contains("rel=\"next\"");
        let text = answer.text().await?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let words = format!("{status}: {}", refusal(&body, &text));
        Ok(Answer { status: status.as_u16(), body, words, more })
    }
}

fn refused(path: &str, words: &str) -> Error {
    // What stands behind the question mark tells nobody anything.
    let path = path.split('?').next().unwrap_or(path);
    Error::remote(format!("edge {path}"), words)
}

/// Reads a refusal in any of the API's three forms, or as it stands.
fn refusal(parsed: &Value, body: &str) -> String {
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let first = parsed.get("errors").and_then(|errors| errors.get(0)).unwrap_or(parsed);
    let parts: Vec<String> = ["msg", "title", "detail"].iter().filter_map(|key| word(first, key)).collect();
    if parts.is_empty() { body.chars().take(200).collect() } else { parts.join(": ") }
}

/// Says what went wrong without the URL, which messages name themselves.
pub(super) fn words(error: &reqwest::Error) -> String {
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
}
