//! Whether the sides left each other alone for the configured time, as the hosts' own kernels counted it.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::outside::Outside;
use crate::site::{Counted, Crossing, Watch, counted};
use std::collections::BTreeMap;

/// The watched hosts, and what they are asked for.
pub struct Tripwire {
    pub outside: Outside,
    pub watches: BTreeMap<String, Watch>,
    /// Seconds without a crossing.
    pub quiet: u64,
    /// Seconds to wait for a host's answer.
    pub seconds: u64,
    /// Whether nobody at all may have arrived at old hosts: before they go away.
    pub deserted: bool,
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
        for crossing in counted.recent_arrivals.iter().filter(|_| self.deserted) {
            notes.block(
                host,
                format!("somebody still comes: {}", words(crossing)),
                "find out who, before it goes away",
            );
        }
        if !counted.whole {
            let found = format!("it has not been watched for {} s yet", self.quiet);
            notes.block(host, found, "wait; the rules count since they were loaded");
        }
    }
}

/// Says what crossed.
fn words(crossing: &Crossing) -> String {
    let port = crossing.port.map_or_else(String::new, |port| format!(" port {port}"));
    format!("{} ({}{port}, {} packets)", crossing.address, crossing.protocol, crossing.packets)
}
