//! The seam to whoever runs us: questions that only it can answer, and events that it shows.
//!
//! Invariant: the engine never blocks on a listener; a question has a deadline of its own at the other side.

use crate::error::{Error, Result};
use crate::event::Event;
use crate::journal::Permit;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use tokio::sync::{oneshot, watch};

/// Seconds that another controller waits for its hosts.
const HEARD: u64 = 5;

/// One function and its arguments.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    pub function: &'static str,
    pub keywords: Value,
}

impl Call {
    /// Names a function and its arguments, by keyword: a bare text would be read as YAML on its way.
    pub fn new(function: &'static str, keywords: Value) -> Self {
        Self { function, keywords }
    }
}

/// What one host said to each call: what it returned, or the words of its refusal.
pub type Said = Vec<std::result::Result<Value, String>>;

/// A question to the outside.
#[derive(Debug, Serialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Calls functions, one after another in one job, on several hosts at once and collects what each returns.
    Call { hosts: Vec<String>, calls: Vec<Call>, seconds: u64 },
    /// Compiles the pillar of several hosts where we run: a host's answer would be kept among the jobs, secrets and all.
    Pillar { hosts: Vec<String> },
    /// Waits until the second process that watches this one is ready.
    Guard,
    /// Makes a key for a new host, has it accepted, and writes what the host runs at its first boot, in base64.
    UserData { host: String, masters: Vec<String>, commands: Vec<String> },
    /// Names those of some hosts whose keys are accepted already, and were not made for a new host.
    Known { hosts: Vec<String> },
    /// Names those of some hosts whose keys are accepted.
    Accepted { hosts: Vec<String> },
    /// Takes the keys of some hosts away.
    Revoke { hosts: Vec<String> },
    /// Names those of some hosts that answer another controller, which runs on a host, when it asks them by a command.
    Heard { by: String, hosts: Vec<String>, command: Option<String>, seconds: u64 },
}

/// What travels to the outside.
#[derive(Debug)]
pub enum Message {
    Event(Event),
    Ask(Ask, oneshot::Sender<std::result::Result<Value, String>>),
}

/// The engine's end of the seam.
#[derive(Clone)]
pub struct Outside {
    messages: Sender<Message>,
    interrupted: watch::Receiver<Option<String>>,
}

impl Outside {
    /// Joins the engine to a listener and to the signal that ends a run early.
    pub fn new(messages: Sender<Message>, interrupted: watch::Receiver<Option<String>>) -> Self {
        Self { messages, interrupted }
    }

    /// Shows an event; nobody listening is no error.
    pub fn tell(&self, event: Event) {
        let _ = self.messages.send(Message::Event(event));
    }

    /// Waits until somebody asks the run to end, and returns why.
    pub async fn interrupted(&self) -> String {
        let mut interrupted = self.interrupted.clone();
        loop {
            if let Some(why) = interrupted.borrow_and_update().clone() {
                return why;
            }
            if interrupted.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the guard watches this run.
    ///
    /// # Errors
    /// [`Error::Remote`] where it did not start: nothing is fenced without one.
    pub async fn guard_ready(&self) -> Result<()> {
        self.ask(Ask::Guard).await.map_err(|problem| Error::remote("guard", problem)).map(|_| ())
    }

    /// Compiles the pillar of each host.
    ///
    /// # Errors
    /// [`Error::Remote`] where one does not render, or this is not where pillars are compiled.
    pub async fn pillar(&self, hosts: &[String]) -> Result<BTreeMap<String, Value>> {
        let answer = self.ask(Ask::Pillar { hosts: hosts.to_vec() }).await;
        let answer = answer.map_err(|problem| Error::remote("pillar", problem))?;
        let of = |host: &String| answer.get(host).cloned().ok_or_else(|| Error::remote(host, "it has no pillar"));
        hosts.iter().map(|host| Ok((host.clone(), of(host)?))).collect()
    }

    /// Returns what a new host runs at its first boot, in base64; its key is accepted from then on.
    ///
    /// # Errors
    /// [`Error::Remote`] where the key cannot be made or accepted.
    pub async fn user_data(
        &self,
        _permit: &Permit,
        host: &str,
        masters: &[String],
        commands: &[String],
    ) -> Result<String> {
        let ask = Ask::UserData { host: host.to_owned(), masters: masters.to_vec(), commands: commands.to_vec() };
        let answer = self.ask(ask).await.map_err(|problem| Error::remote(host, problem))?;
        answer.as_str().map(str::to_owned).ok_or_else(|| Error::remote(host, "there is no user data for it"))
    }

    /// Names those hosts whose keys somebody else had accepted.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot be found out.
    pub async fn known(&self, hosts: &[String]) -> Result<Vec<String>> {
        let ask = Ask::Known { hosts: hosts.to_vec() };
        let answer = self.ask(ask).await.map_err(|problem| Error::remote("the controller's keys", problem))?;
        serde_json::from_value(answer).map_err(|error| Error::remote("the controller's keys", error))
    }

    /// Names those hosts whose keys are accepted.
    ///
    /// # Errors
    /// [`Error::Remote`] where it cannot be found out.
    pub async fn accepted(&self, hosts: &[String]) -> Result<Vec<String>> {
        let answer = self.ask(Ask::Accepted { hosts: hosts.to_vec() }).await;
        let answer = answer.map_err(|problem| Error::remote("the controller's keys", problem))?;
        serde_json::from_value(answer).map_err(|error| Error::remote("the controller's keys", error))
    }

    /// Takes the keys of hosts away: the controller hears and obeys them no longer.
    ///
    /// # Errors
    /// [`Error::Remote`] where that cannot be done.
    pub async fn revoke(&self, _permit: &Permit, hosts: &[String]) -> Result<()> {
        let answer = self.ask(Ask::Revoke { hosts: hosts.to_vec() }).await;
        answer.map(|_| ()).map_err(|problem| Error::remote("the controller's keys", problem))
    }

    /// Names those of some hosts that answer another controller; nobody where it does not run.
    ///
    /// # Errors
    /// [`Error::Remote`] where that cannot be asked.
    pub async fn heard(&self, by: &str, hosts: &[String], command: Option<&str>) -> Result<Vec<String>> {
        let command = command.map(str::to_owned);
        let ask = Ask::Heard { by: by.to_owned(), hosts: hosts.to_vec(), command, seconds: HEARD };
        let answer = self.ask(ask).await.map_err(|problem| Error::remote(by, problem))?;
        serde_json::from_value(answer).map_err(|error| Error::remote(by, error))
    }

    async fn ask(&self, ask: Ask) -> std::result::Result<Value, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "nobody answers questions".to_owned();
        self.messages.send(Message::Ask(ask, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Calls functions, in order, on every host and returns what each host said to each.
    ///
    /// # Errors
    /// [`Error::Remote`] where a host does not answer: silence is never taken for success.
    pub async fn call(&self, hosts: &[String], calls: Vec<Call>, seconds: u64) -> Result<BTreeMap<String, Said>> {
        let functions: Vec<&str> = calls.iter().map(|call| call.function).collect();
        let names = functions.join(", ");
        let answers = self.call_some(hosts, calls, seconds).await?;
        match hosts.iter().find(|host| !answers.contains_key(*host)) {
            Some(silent) => Err(Error::remote(silent, format!("did not answer {names} within {seconds} s"))),
            None => Ok(answers),
        }
    }

    /// Calls functions as [`Outside::call`] does, and returns what those said who answered. No function stands twice in
    /// one job: answers come by its name.
    ///
    /// # Errors
    /// [`Error::Remote`] where nobody could be asked.
    pub async fn call_some(&self, hosts: &[String], calls: Vec<Call>, seconds: u64) -> Result<BTreeMap<String, Said>> {
        let count = calls.len();
        let ask = Ask::Call { hosts: hosts.to_vec(), calls, seconds };
        let answer = self.ask(ask).await.map_err(|problem| Error::remote("hosts", problem))?;
        let said = |host: &String| answer.get(host).and_then(Value::as_array).filter(|said| said.len() == count);
        Ok(hosts.iter().filter_map(|host| Some((host.clone(), said(host)?.iter().map(one).collect()))).collect())
    }
}

fn one(said: &Value) -> std::result::Result<Value, String> {
    let returned = said.get("return").cloned().unwrap_or_default();
    let refused = said.get("retcode").and_then(Value::as_i64) != Some(0);
    if refused { Err(words(&returned)) } else { Ok(returned) }
}

/// Cuts an answer that may be a whole traceback down to its last line.
fn words(returned: &Value) -> String {
    let text = returned.as_str().map_or_else(|| returned.to_string(), str::to_owned);
    text.trim().lines().last().unwrap_or_default().to_owned()
}
