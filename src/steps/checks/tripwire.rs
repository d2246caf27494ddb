//! Whether the sides left each other alone for the configured time, as the hosts' own kernels counted it.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::{self, Finding};
use crate::outside::Outside;
use crate::site::{Counted, Crossing, MEMORY, ROOM, Watch, counted};
use std::collections::BTreeMap;

/// The watched hosts, and what they are asked for.
pub struct Tripwire {
    pub outside: Outside,
    pub watches: BTreeMap<String, Watch>,
    /// Seconds without a crossing.
    pub quiet: u64,
    /// Seconds to wait for a host's answer.
    pub seconds: u64,
    /// Where nobody at all may have come to old hosts: before they go away.
    pub deserted: Option<Deserted>,
}

/// Since when nobody may have come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deserted {
    /// When the flip was over, in seconds since the Unix epoch; nothing where the site was not moved.
    pub flipped: Option<f64>,
    /// For how many hours; nothing where it is since the flip.
    pub quiet_hours: Option<f64>,
}

impl Topic for Tripwire {
    async fn look(&self) -> Result<Vec<Finding>> {
        match counted(&self.outside, &self.watches, self.seconds).await {
            Ok(told) => Ok(self.judge(&told)),
            Err(error) => {
                let mut notes = Notes::new(TOPIC);
                notes.block("hosts", error.to_string(), "start the minion, and see that test.ping answers");
                Ok(notes.findings)
            }
        }
    }
}

const TOPIC: &str = "tripwire";

impl Tripwire {
    /// Judges what the hosts told.
    pub fn judge(&self, told: &BTreeMap<String, Counted>) -> Vec<Finding> {
        let mut notes = Notes::new(TOPIC);
        for (host, counted) in told {
            self.host(&mut notes, host, counted);
        }
        notes.findings
    }

    fn host(&self, notes: &mut Notes, host: &str, counted: &Counted) {
        let old = self.watches.get(host).is_some_and(|watch| watch.side == "old");
        if !counted.loaded {
            let mend = "salt-run state.orchestrate migrate.tripwire";
            notes.block(host, "its rules are not loaded, or are older than the pillar", mend);
            return;
        }
        for crossing in &counted.recent {
            let (what, mend) = if old {
                (
                    "is called from the new side's",
                    "on that node, find what still names this one: salt-run migrate.addresses",
                )
            } else {
                ("calls the old side's", "find where it is configured: salt-run migrate.addresses")
            };
            notes.block(host, format!("it {what} {}", words(crossing)), mend);
        }
        if !counted.whole {
            let found = format!("it has not been watched for {} s yet", self.quiet);
            notes.block(host, found, "wait; the rules count since they were loaded");
        }
        if let Some(deserted) = self.deserted.filter(|_| old) {
            deserted.judge(notes, host, counted, self.quiet);
        }
    }
}

/// How many of those who came are shown one by one.
const SHOWN: usize = 5;
/// Where somebody comes and may.
const NARROW: &str = "where that is right, ask for the last hours alone: migrate:cleanup:quiet_hours, or force it";

impl Deserted {
    #[allow(clippy::cast_precision_loss)] // seconds of some months
    fn judge(self, notes: &mut Notes, host: &str, counted: &Counted, quiet: u64) {
        let since_flip = self.flipped.map(|at| event::now() - at);
        // What was open when the site moved has the quiet time to close.
        let least = quiet as f64;
        let asked = match self.quiet_hours {
            Some(hours) => hours * 3600.0,
            None => since_flip.map_or(least, |past| (past - least).max(least)),
        };
        let came = counted.remembered.iter().filter(|crossing| (crossing.seconds_ago as f64) < asked);
        for crossing in came.clone().take(SHOWN) {
            let ago = crossing.seconds_ago as f64;
            let found = match since_flip {
                // A time that stays as it is, so that whoever forces it forces what he saw.
                Some(past) if ago >= least => format!("somebody came {} after the flip", span(past - ago)),
                _ => "somebody still comes".to_owned(),
            };
            let mend = format!("find out who, before it goes away (its kernel log has when); {NARROW}");
            notes.doubt(host, format!("{found}: {}", words(crossing)), mend);
        }
        let more = came.count().saturating_sub(SHOWN);
        if more > 0 {
            let mend = format!("salt-run migrate.status counts them, and its kernel log names them; {NARROW}");
            notes.doubt(host, format!("{more} more came"), mend);
        }
        if counted.full {
            let found = format!("it remembers {ROOM} who came, and no more: others may have come unseen");
            notes.doubt(host, found, NARROW);
        }
        if counted.whole && (counted.watched as f64) < asked.min(MEMORY as f64) {
            let found = match self.quiet_hours {
                Some(hours) => format!("it has not been watched for {hours} hours yet: somebody may have come unseen"),
                None => "it was not watched all the time since the flip: somebody may have come unseen".to_owned(),
            };
            notes.doubt(host, found, format!("the rules count since they were loaded, or since its boot; {NARROW}"));
        }
    }
}

/// Says how long something is.
fn span(seconds: f64) -> String {
    if seconds < 5400.0 {
        return format!("{:.0} min", (seconds / 60.0).max(0.0));
    }
    format!("{:.0} hours", seconds / 3600.0)
}

/// Says what crossed.
fn words(crossing: &Crossing) -> String {
    let port = crossing.port.map_or_else(String::new, |port| format!(" port {port}"));
    format!("{} ({}{port}, {} packets)", crossing.address, crossing.protocol, crossing.packets)
}
