//! Whether every declared copy of a CDN service can be made, what it will cost, and what it will lack.

use super::{Notes, Topic};
use crate::edge::Quota;
use crate::error::Result;
use crate::event::Finding;
use crate::steps::edge_copy::Twin;
use std::rc::Rc;

/// The copies, and how many writes may be left.
pub struct CopiesReady {
    pub twins: Vec<Rc<Twin>>,
    /// The last budget that was seen, where its hour still runs.
    pub quota: Option<Quota>,
    pub writes_per_hour: u64,
}

impl Topic for CopiesReady {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("copies");
        let mut needed = 0;
        for twin in &self.twins {
            let wanted = match twin.wanted().await {
                Ok(wanted) => wanted,
                Err(error) => {
                    notes.block(&twin.name, error.to_string(), format!("correct migrate:edge:services:{}", twin.name));
                    continue;
                }
            };
            if let Err(error) = twin.allowed(&wanted) {
                notes.block(&twin.name, error.to_string(), error.hint());
            }
            let found = twin.find().await?;
            if found.is_none()
                && let Some(foreign) = twin.fastly.named(&twin.copy.name).await?
            {
                let mend = format!("choose another migrate:edge:services:{}:copy:name", twin.name);
                notes.block(&twin.name, format!("the service {foreign} is called {} too", twin.copy.name), mend);
            }
            if !wanted.left_out.is_empty() {
                let found = format!("its copy will be without {}", wanted.left_out.join(", "));
                notes.warn(&twin.name, found, "add by hand what the tests need, or name log endpoints under copy:logs");
            }
            let likeness = twin.compare(&wanted).await?;
            if likeness.version != 0 && !likeness.differences.is_empty() {
                let found = format!("its copy differs in {}", likeness.differences.join(", "));
                notes.warn(&twin.name, found, "nothing: it is brought up to date, in a new version");
            }
            needed += likeness.writes;
        }
        let left = self.quota.map_or_else(
            || format!("how many of {} are left this hour is not known before the first", self.writes_per_hour),
            |quota| format!("{} left this hour", quota.left),
        );
        let have = self.quota.map_or(self.writes_per_hour, |quota| quota.left);
        let mend = if needed > have {
            "nothing: when none is left it waits for the next hour, and goes on"
        } else {
            "nothing: it is a forecast"
        };
        notes.warn("writes", format!("needs {needed} writes; {left}"), mend);
        Ok(notes.findings)
    }
}
