//! What a service says instead of what was asked for.
//!
//! Invariant: it tells whether the request may have been carried out all the same; it holds no secret.

use super::Answer;
use crate::error::Error;
use osauth::ErrorKind;
use reqwest::Response;
use serde_json::Value;
use std::time::Duration;

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The cloud and the request.
    pub what: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    pub words: String,
    /// How long the service asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn of(cloud: &str, what: &str, error: &osauth::Error) -> Self {
        let words = match error.kind() {
            ErrorKind::OperationTimedOut => "no answer in time".to_owned(),
            ErrorKind::EndpointNotFound => format!("the catalogue has no such service in this region ({error})"),
            _ => error.to_string(),
        };
        // The library does not tell the status from its errors apart, but by its kinds.
        let status = match error.kind() {
            ErrorKind::AuthenticationFailed => Some(401),
            ErrorKind::AccessDenied => Some(403),
            ErrorKind::ResourceNotFound | ErrorKind::EndpointNotFound => Some(404),
            ErrorKind::InvalidInput | ErrorKind::InvalidConfig | ErrorKind::IncompatibleApiVersion => Some(400),
            ErrorKind::Conflict => Some(409),
            ErrorKind::InternalServerError => Some(500),
            _ => None,
        };
        Self { what: format!("{cloud}, {what}"), status, words, retry_after: None }
    }

    pub(super) fn late(cloud: &str, what: &str) -> Self {
        let words = "no answer in time".to_owned();
        Self { what: format!("{cloud}, {what}"), status: None, words, retry_after: None }
    }

    pub(super) fn malformed(cloud: &str, what: &str, key: &str) -> Self {
        let words = format!("the answer has no {key}");
        Self { what: format!("{cloud}, {what}"), status: None, words, retry_after: None }
    }

    /// Reads an answer's JSON, or what it says instead.
    pub(super) async fn or_json(cloud: &str, what: &str, answer: Response) -> Answer<Value> {
        let status = answer.status();
        let retry_after = answer
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok())
            .map(Duration::from_secs);
        let what = format!("{cloud}, {what}");
        let body = match answer.text().await {
            Ok(body) => body,
            Err(error) => {
                let words = if error.is_timeout() { "no answer in time".into() } else { error.to_string() };
                return Err(Self { what, status: None, words, retry_after });
            }
        };
        let parsed: Value = serde_json::from_str(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(parsed);
        }
        Err(Self {
            what,
            status: Some(status.as_u16()),
            words: format!("{status}: {}", said(&parsed, &body)),
            retry_after,
        })
    }

    /// Tells whether the request did not even get to the service.
    pub(super) fn unsent(&self) -> bool {
        self.status.is_none() && self.words.contains("error sending request")
    }

    /// Tells whether the service asks to come again later.
    pub fn busy(&self) -> bool {
        matches!(self.status, Some(429 | 503))
    }

    /// Tells whether the request may have been carried out all the same.
    pub fn unclear(&self) -> bool {
        self.status.is_none_or(|status| status >= 500)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.what, self.words)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::remote(refusal.what, refusal.words)
    }
}

/// Finds the sentence in an answer: each service wraps it in another word.
fn said(parsed: &Value, body: &str) -> String {
    let inner = parsed.as_object().and_then(|map| map.values().find(|value| value.is_object())).unwrap_or(parsed);
    let sentence = ["message", "detail", "title"].iter().find_map(|key| inner.get(key).and_then(Value::as_str));
    sentence.map_or_else(|| body.chars().take(200).collect(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_service_s_sentence_is_found() {
        assert_eq!(said(&json!({"forbidden": {"code": 403, "message": "Quota exceeded"}}), ""), "Quota exceeded");
        assert_eq!(said(&json!({"NeutronError": {"type": "X", "message": "taken", "detail": ""}}), ""), "taken");
        assert_eq!(said(&json!({"message": "plain"}), ""), "plain");
        assert_eq!(said(&Value::Null, "<html>Bad gateway"), "<html>Bad gateway");
    }
}
