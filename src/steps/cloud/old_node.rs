//! How far a node of the old side is on its way out: stopped first, and deleted only after a second period.
//!
//! Invariant: only the one server that the pillar names by its id, and only while it has the node's own address. One that
//! somebody started again, though it be down by now, begins its period anew. Deleted is what was due when the run began.

use crate::cloud::{Cloud, Server, Status};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::proof::Proof;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Between two looks at a server that is on its way down.
const TICK: Duration = Duration::from_millis(500);
/// For a server to be down, or gone.
const LIMIT: Duration = Duration::from_secs(600);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaving {
    Up,
    /// It does not run, and we do not know since when.
    Down,
    /// It was stopped by us, or found stopped, and since then the period runs.
    Stopped,
    Gone,
}

/// A node of the old side.
pub struct OldNode {
    pub cloud: Rc<Cloud>,
    pub node: String,
    /// The server's id.
    pub id: String,
    pub addresses: Vec<IpAddr>,
    pub stopped_hours: f64,
    /// When the run began, in seconds since the Unix epoch: a period that ends later is none of its affairs.
    pub began: f64,
    pub state_dir: PathBuf,
}

impl OldNode {
    fn subject(&self) -> String {
        format!("stopped.{}", self.id)
    }

    async fn server(&self) -> Result<Option<Server>> {
        let servers = self.cloud.servers().await?;
        Ok(servers.iter().find(|server| server.id == self.id).cloned())
    }

    /// Says why the server of that id is not this node; nothing where it is, or is gone.
    ///
    /// # Errors
    /// Whatever hinders looking.
    pub async fn another(&self) -> Result<Option<String>> {
        let Some(server) = self.server().await? else { return Ok(None) };
        let has = server.addresses.iter().chain(&server.floating).any(|address| self.addresses.contains(address));
        if has {
            return Ok(None);
        }
        let known: Vec<String> = server.addresses.iter().map(ToString::to_string).collect();
        Ok(Some(format!("the server {} is {}, at {}", self.id, server.name, known.join(", "))))
    }

    async fn leaving(&self) -> Result<Leaving> {
        let Some(server) = self.server().await? else { return Ok(Leaving::Gone) };
        if server.word != "SHUTOFF" {
            return Ok(Leaving::Up);
        }
        let record = self.record()?;
        // Whatever happened to it since shows there; that it is being deleted, as a run that died had asked, does too.
        let known = record.is_some_and(|proof| {
            proof.evidence["updated"] == server.updated.as_str()
                || (proof.evidence["updated"].is_string() && server.status == Status::Deleting)
        });
        Ok(if known { Leaving::Stopped } else { Leaving::Down })
    }

    fn record(&self) -> Result<Option<Proof>> {
        Proof::read(&self.state_dir, &self.subject())
    }

    fn keep(&self, updated: Option<String>) -> Result<()> {
        let evidence = json!({"node": self.node, "updated": updated});
        Proof::new(&self.subject(), self.id.clone(), evidence).keep(&self.state_dir)
    }

    /// Says what of it is not as an earlier run left it, or as the pillar says.
    ///
    /// # Errors
    /// Whatever hinders looking.
    pub async fn doubt(&self) -> Result<Option<(String, &'static str)>> {
        Ok(match (self.leaving().await?, self.record()?) {
            (Leaving::Up | Leaving::Down, Some(proof)) if proof.evidence["updated"].is_string() => {
                let found = "an earlier run stopped it, and it changed since: it was started, or moved, or an image was taken of it; \
                             nobody was asked who uses it";
                Some((found.to_owned(), "see who uses it; where nobody does, force it, and its period begins anew"))
            }
            (Leaving::Gone, None) => {
                let found = format!("{} has no server {}", self.cloud.name, self.id);
                let mend =
                    "correct migrate:cleanup:old_nodes, or migrate:clouds:old; force it where somebody deleted it";
                Some((found, mend))
            }
            _ => None,
        })
    }

    async fn until(&self, wanted: impl Fn(Leaving) -> bool, what: &str) -> Result<()> {
        let began = Instant::now();
        while !wanted(self.leaving().await?) {
            if began.elapsed() > LIMIT {
                let what = format!("{}: {} {what}", self.cloud.name, self.node);
                return Err(Error::Deadline { what, limit_ms: 600_000 });
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }
}

/// How far it is, and what it shall be next.
pub struct OldNodeLeaves(pub Rc<OldNode>);

impl Step for OldNodeLeaves {
    type Fact = Leaving;
    /// Since when it stands stopped.
    type Evidence = Option<f64>;

    async fn observe(&self) -> Result<Seen<Leaving, Option<f64>>> {
        let since = self.0.record()?.map(|proof| proof.at);
        Ok(Seen { fact: self.0.leaving().await?, evidence: since })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Leaving> {
        let over = |proof: Proof| proof.at + self.0.stopped_hours * 3600.0 < self.0.began;
        Ok(match self.0.leaving().await? {
            Leaving::Gone => Leaving::Gone,
            Leaving::Stopped if self.0.record()?.is_some_and(over) => Leaving::Gone,
            _ => Leaving::Stopped,
        })
    }

    async fn set(&self, permit: &Permit, to: &Leaving, _earlier: &Earlier) -> Result<Seen<Leaving, Option<f64>>> {
        if let Some(another) = self.0.another().await? {
            return Err(Error::remote(
                &self.0.cloud.name,
                format!("{another}, and not {}: it was not touched", self.0.node),
            ));
        }
        match (to, self.0.leaving().await?) {
            (Leaving::Stopped, Leaving::Up | Leaving::Down) => {
                // A period that began before somebody started it again counts for nothing; that it was we who stop it does.
                self.0.keep(None)?;
                self.0.cloud.stop_server(permit, &self.0.id).await?;
                self.0.until(|leaving| leaving != Leaving::Up, "to be stopped").await?;
                self.0.keep(self.0.server().await?.map(|server| server.updated))?;
            }
            (Leaving::Gone, Leaving::Stopped) => {
                self.0.cloud.delete_server(permit, &self.0.id).await?;
                self.0.until(|leaving| leaving == Leaving::Gone, "to be gone").await?;
            }
            _ => {}
        }
        self.observe().await
    }

    fn half_done(&self, found: &Leaving, _old: &Leaving, new: &Leaving) -> bool {
        // Stopped, and not yet written down.
        (*found, *new) == (Leaving::Down, Leaving::Stopped)
    }

    fn undo(&self) -> Undo<Leaving> {
        Undo::Leave("a node that stands stopped serves nobody; start it by hand where it was stopped too early")
    }
}
