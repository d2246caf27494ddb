//! Whether the target answers as the source does, and for as long as the way back must stay open.

use super::{Notes, Topic};
use crate::database::Server;
use crate::error::Result;
use crate::event::Finding;
use std::rc::Rc;

/// What changes the meaning of stored data where it differs.
const MEANING: [&str; 1] = ["lower_case_table_names"];
/// What changes how statements are read and answered.
const MANNER: [&str; 6] =
    ["sql_mode", "character_set_server", "collation_server", "time_zone", SYSTEM_TIME_ZONE, "transaction_isolation"];
/// What `time_zone` is where it says SYSTEM; of no account where it does not.
const SYSTEM_TIME_ZONE: &str = "system_time_zone";
/// What the target should have no less of.
const SIZE: [&str; 3] = ["max_allowed_packet", "max_connections", "innodb_buffer_pool_size"];
const RETENTION: &str = "binlog_expire_logs_seconds";
/// Clocks further apart make logs and timings of both sides hard to compare, in seconds.
const CLOCKS: f64 = 1.0;

/// The settings and clocks of both primaries.
pub struct Likeness {
    pub from: Rc<Server>,
    pub to: Rc<Server>,
    /// For how long both keep what they logged, in hours.
    pub soak_hours: u64,
}

impl Topic for Likeness {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("likeness");
        let names: Vec<&str> = MEANING.iter().chain(&MANNER).chain(&SIZE).copied().chain([RETENTION]).collect();
        let (Ok(from), Ok(to)) = (self.from.variables(&names).await, self.to.variables(&names).await) else {
            return Ok(notes.findings);
        };
        let by_system = from.get("time_zone").is_some_and(|zone| zone == "SYSTEM");
        for name in MEANING.iter().chain(&MANNER).filter(|name| **name != SYSTEM_TIME_ZONE || by_system) {
            let (Some(theirs), Some(ours)) = (from.get(*name), to.get(*name)) else { continue };
            if theirs != ours {
                let what = format!("{name} is {ours:?}, and {theirs:?} on {}", self.from.name);
                let mend =
                    format!("set {name} as on {}, and restart where it cannot be set at run time", self.from.name);
                if MEANING.contains(name) {
                    notes.doubt(&self.to.name, what, mend)
                } else {
                    notes.warn(&self.to.name, what, mend)
                }
            }
        }
        for name in SIZE {
            let size = |value: Option<&String>| value.and_then(|value| value.parse::<u64>().ok());
            let (Some(theirs), Some(ours)) = (size(from.get(name)), size(to.get(name))) else { continue };
            if ours < theirs {
                let what = format!("{name} is {ours}, and {theirs} on {}", self.from.name);
                notes.warn(&self.to.name, what, format!("SET GLOBAL {name}={theirs}, and in its configuration"));
            }
        }
        if let (Ok(theirs), Ok(ours)) = (self.from.plugins().await, self.to.plugins().await) {
            let lacks: Vec<&str> = theirs.difference(&ours).map(String::as_str).collect();
            if !lacks.is_empty() {
                let what = format!("it has not what {} has: {}", self.from.name, lacks.join(", "));
                notes.warn(&self.to.name, what, "install it, or see that no table and no account needs it");
            }
        }
        for (server, variables) in [(&self.from, &from), (&self.to, &to)] {
            let kept = variables.get(RETENTION).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
            // Nought keeps everything.
            if kept > 0 && kept < self.soak_hours * 3600 {
                let what = format!("{RETENTION} is {kept}: a replica that is away longer cannot come back");
                let mend = format!(
                    "SET GLOBAL {RETENTION}={} for the soak, or lower migrate:databases:soak_hours",
                    self.soak_hours * 3600
                );
                notes.warn(&server.name, what, mend);
            }
            let ahead = server.clock_ahead().await?;
            if ahead.abs() > CLOCKS {
                let what = format!("its clock is {ahead:+.1} s from the controller's");
                notes.warn(&server.name, what, "let both follow the same NTP source");
            }
        }
        Ok(notes.findings)
    }
}
