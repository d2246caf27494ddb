//! Whether a server has the site's data, by a copy of a server that runs on.
//!
//! Invariant: a copy is complete or none; one that died is begun anew, one that still travels is waited for, and a server
//! that has data of any other origin is never touched. The server comes up read-only, knowing where its source goes on.

use super::{checksum, restored};
use crate::database::Server;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::{Work, Worker};
use crate::step::{Earlier, Seen, Step, Undo};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a copy that died is begun anew before people are asked to look.
const ATTEMPTS: usize = 3;
/// How long one look waits for the end, in seconds: signals are seen in between.
const LOOK: u64 = 3;

/// `true` once the server has the data, and knows where its source goes on.
pub struct Seeded {
    pub server: Rc<Server>,
    /// Who is copied.
    pub source: Rc<Server>,
    pub sends: Worker,
    pub receives: Worker,
    pub port: u16,
    /// Configuration of either server, and how the new one is started and stopped.
    pub source_defaults: String,
    pub defaults: String,
    pub start: String,
    pub stop: String,
    /// What else the two ends are told, where their family copies in a way of its own.
    pub told: Told,
    pub limit_ms: u64,
    pub state_dir: PathBuf,
    /// With whose data a comparison of its own is on record.
    pub primary: String,
}

/// Which part each worker plays, and what is told to it alone.
pub struct Told {
    pub sends: Vec<(&'static str, String)>,
    pub receives: Vec<(&'static str, String)>,
}

impl Seeded {
    /// Tells whether the server is one of the chain already, whoever brought it there, and where it stands.
    async fn standing(&self) -> Result<(bool, String)> {
        let Ok(status) = self.server.status().await else { return Ok((false, String::new())) };
        if status.channel.is_some() || !status.read_only {
            return Ok((true, status.position));
        }
        // Copied, and perhaps not told yet where its source goes on.
        let copied = self.receives.standing(None).await?;
        let brought = match copied.work {
            Work::Working => false,
            // One of the other family is refused by the check, which comes after.
            Work::Done => self.server.stands_at(&status.position, &copied.position).await.unwrap_or(false),
            Work::Nothing => self.server.stands_at(&status.position, "").await.unwrap_or(false),
            // Whatever answers there, its copy was not finished.
            Work::Failed => false,
        };
        Ok((brought, status.position))
    }

    /// Begins a copy: first whoever sent before is ended, so that nobody takes its end for that of the new one.
    async fn begin(&self, permit: &Permit) -> Result<()> {
        // What was said of the data that it had before.
        checksum::forget(&self.state_dir, &self.primary, &self.server.name)?;
        restored::forget(&self.state_dir, &self.server.name)?;
        let (theirs, ours) = (self.sends.certificate(permit).await?, self.receives.certificate(permit).await?);
        self.sends.reset(permit).await?;
        self.receives.reset(permit).await?;
        let way = [("ADDRESS", self.server.address.to_string()), ("PORT", self.port.to_string())];
        let mut told = self.told.receives.clone();
        told.extend([
            ("DEFAULTS_FILE", self.defaults.clone()),
            ("START", format!("DEFAULTS_FILE='{}'; {}", self.defaults, self.start)),
            ("STOP", format!("DEFAULTS_FILE='{}'; {}", self.defaults, self.stop)),
        ]);
        told.extend(way.clone());
        self.receives.begin(permit, &told, &theirs).await?;
        self.send(permit, &ours).await
    }

    async fn send(&self, permit: &Permit, peer: &str) -> Result<()> {
        let mut told = self.told.sends.clone();
        told.extend([
            ("DEFAULTS_FILE", self.source_defaults.clone()),
            ("ADDRESS", self.server.address.to_string()),
            ("PORT", self.port.to_string()),
        ]);
        self.sends.begin(permit, &told, peer).await
    }

    /// Brings the copy here, whatever an earlier run left of it; returns where the source stood.
    async fn copy(&self, permit: &Permit, until: Instant) -> Result<String> {
        let (mut begun, mut sent) = (0, 0);
        let mut words = String::new();
        loop {
            let here = self.receives.standing(None).await?;
            match here.work {
                Work::Done => return Ok(here.position),
                Work::Working => {
                    let there = self.sends.standing(None).await?;
                    // An earlier run died between the two, or it began to send long before anybody listened.
                    if there.work == Work::Nothing || (there.work == Work::Failed && sent < ATTEMPTS) {
                        sent += 1;
                        let peer = self.receives.certificate(permit).await?;
                        self.sends.reset(permit).await?;
                        self.send(permit, &peer).await?;
                    } else if there.work == Work::Failed {
                        self.sends.reset(permit).await?;
                        return Err(Error::remote(&self.source.name, format!("it cannot send: {}", there.words)));
                    }
                    self.receives.standing(Some(LOOK)).await?;
                }
                Work::Nothing | Work::Failed => {
                    if begun > 0 {
                        let there = self.sends.standing(Some(LOOK)).await?;
                        words = [there.words, here.words]
                            .into_iter()
                            .filter(|words| !words.is_empty())
                            .collect::<Vec<_>>()
                            .join("; ");
                    }
                    if begun == ATTEMPTS {
                        // What a worker that was killed left of a copy goes with it.
                        self.sends.reset(permit).await?;
                        let problem = format!("{begun} copies of {} came to nothing: {words}", self.source.name);
                        return Err(Error::remote(&self.server.name, problem));
                    }
                    begun += 1;
                    self.begin(permit).await?;
                }
            }
            if Instant::now() >= until {
                let what = format!("{}: a copy of {}", self.server.name, self.source.name);
                return Err(Error::Deadline { what, limit_ms: self.limit_ms });
            }
        }
    }
}

impl Step for Seeded {
    type Fact = bool;
    /// Where it stands.
    type Evidence = String;

    async fn observe(&self) -> Result<Seen<bool, String>> {
        let (fact, evidence) = self.standing().await?;
        Ok(Seen { fact, evidence })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, String>> {
        let until = Instant::now() + Duration::from_millis(self.limit_ms);
        let logged = tokio::select! {
            logged = self.copy(permit, until) => logged?,
            // The workers go on, and the next run finds them.
            why = self.receives.outside.interrupted() => return Err(Error::Interrupted(why)),
        };
        let up = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.server.status().await {
            if Instant::now() >= up.min(until) {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let position = self.server.take_position(permit, &logged).await?;
        Ok(Seen { fact: *to, evidence: position })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave("a copy is dear, and the next run goes on from it")
    }
}
