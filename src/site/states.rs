//! States of hosts: what files and packages should be there, as the tree of states says, applied through the host's minion.
//!
//! Invariant: a look changes nothing, and a state that cannot be judged counts as one that is not as it should be.

use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::outside::{Call, Outside};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A tree of states on one host.
pub struct States {
    pub outside: Outside,
    pub host: String,
    /// Which states; none means all that the site's own tree gives the host.
    pub names: Vec<String>,
    pub seconds: u64,
}

/// What a run of states said of those that are not as they should be, each by its name.
pub type Amiss = BTreeMap<String, String>;

impl States {
    /// Names what would change, or fail.
    ///
    /// # Errors
    /// [`Error::Remote`] where the host does not answer.
    pub async fn amiss(&self, pillar: &Value) -> Result<Amiss> {
        let said = self.run(pillar, true).await?;
        Ok(judged(&said, true))
    }

    /// Makes everything as it should be, and names what changed.
    ///
    /// # Errors
    /// [`Error::Remote`] where a state fails, with its words.
    pub async fn apply(&self, _permit: &Permit, pillar: &Value) -> Result<Vec<String>> {
        let said = self.run(pillar, false).await?;
        let failed = judged(&said, false);
        if !failed.is_empty() {
            let words: Vec<String> = failed.iter().map(|(name, words)| format!("{name}: {words}")).collect();
            return Err(Error::remote(&self.host, format!("states failed: {}", words.join("; "))));
        }
        Ok(said.keys().filter(|key| changes(&said[*key])).map(|key| name(key)).collect())
    }

    async fn run(&self, pillar: &Value, test: bool) -> Result<BTreeMap<String, Value>> {
        let mut keywords = json!({"test": test, "queue": true});
        if !self.names.is_empty() {
            keywords["mods"] = json!(self.names);
        }
        if !pillar.is_null() {
            keywords["pillar"] = pillar.clone();
        }
        let hosts = [self.host.clone()];
        let calls = vec![Call::new("state.apply", keywords)];
        let mut answers = self.outside.call(&hosts, calls, self.seconds).await?;
        let said = answers.remove(&self.host).and_then(|said| said.into_iter().next());
        // A run in which a state failed is told as a refusal, with all its words.
        let (states, problem) = match said {
            Some(Ok(states)) => (states, String::new()),
            Some(Err(problem)) => (serde_json::from_str(&problem).unwrap_or_default(), problem),
            None => (Value::Null, "no answer".into()),
        };
        match states {
            Value::Object(states) if states.values().all(|state| state.get("result").is_some()) => {
                Ok(states.into_iter().collect())
            }
            Value::Array(problems) if problem.is_empty() || !problems.is_empty() => {
                let words: Vec<&str> = problems.iter().filter_map(Value::as_str).collect();
                Err(Error::remote(&self.host, format!("the states do not render: {}", words.join("; "))))
            }
            other => Err(Error::remote(&self.host, format!("the states did not run: {problem}{other}"))),
        }
    }
}

/// The same states on several hosts.
#[derive(Debug, Clone)]
pub struct HostStates {
    pub hosts: Vec<String>,
    /// As `migrate.host.singletons`.
    pub states: &'static str,
    /// Given to the states below the key `saltext_migrate`.
    pub told: Value,
    /// Seconds to wait for a host's answer.
    pub seconds: u64,
}

impl HostStates {
    /// Tells whether every host is already as the states would make it.
    ///
    /// # Errors
    /// [`Error::Remote`] where a host does not answer.
    pub async fn stands(&self, outside: &Outside) -> Result<bool> {
        let pillar = self.pillar();
        let looks = self.each(outside).map(|states| {
            let pillar = &pillar;
            async move { states.amiss(pillar).await }
        });
        Ok(try_join_all(looks).await?.iter().all(Amiss::is_empty))
    }

    /// Applies the states on every host.
    ///
    /// # Errors
    /// [`Error::Remote`] where a host does not answer, or a state fails.
    pub async fn apply(&self, outside: &Outside, permit: &Permit) -> Result<()> {
        let pillar = self.pillar();
        let runs = self.each(outside).map(|states| {
            let pillar = &pillar;
            async move { states.apply(permit, pillar).await }
        });
        try_join_all(runs).await.map(|_| ())
    }

    fn pillar(&self) -> Value {
        json!({"saltext_migrate": self.told})
    }

    fn each(&self, outside: &Outside) -> impl Iterator<Item = States> {
        self.hosts.iter().map(|host| States {
            outside: outside.clone(),
            host: host.clone(),
            names: vec![self.states.to_owned()],
            seconds: self.seconds,
        })
    }
}

fn judged(said: &BTreeMap<String, Value>, test: bool) -> Amiss {
    let wrong = |state: &Value| match state.get("result") {
        Some(Value::Bool(true)) => test && changes(state),
        Some(Value::Null) => test,
        _ => true,
    };
    let words = |state: &Value| state.get("comment").and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    said.iter().filter(|(_, state)| wrong(state)).map(|(key, state)| (name(key), words(state))).collect()
}

fn changes(state: &Value) -> bool {
    state.get("changes").and_then(Value::as_object).is_some_and(|changes| !changes.is_empty())
}

/// Names a state as its file does: kind and id.
fn name(key: &str) -> String {
    let parts: Vec<&str> = key.split("_|-").collect();
    match parts[..] {
        [kind, id, _, function] => format!("{kind}.{function} {id}"),
        _ => key.to_owned(),
    }
}
