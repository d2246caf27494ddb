//! Whether what may run on one side alone is there to be held, on both sides.

use super::{Notes, Topic};
use crate::error::Result;
use crate::event::Finding;
use crate::outside::{Call, Outside};
use serde_json::{Value, json};

/// One thing on one host.
pub struct There {
    pub name: String,
    pub host: String,
    pub service: Option<String>,
    pub cron: Option<String>,
}

/// All of them.
pub struct SingletonsThere {
    pub outside: Outside,
    pub all: Vec<There>,
    pub seconds: u64,
}

impl Topic for SingletonsThere {
    async fn look(&self) -> Result<Vec<Finding>> {
        let mut notes = Notes::new("singletons");
        for one in &self.all {
            let mut looks = Vec::new();
            if let Some(service) = &one.service {
                looks.push(Call::new("service.available", json!({"name": service})));
            }
            if let Some(cron) = &one.cron {
                looks.push(Call::new("file.file_exists", json!({"path": cron})));
                looks.push(Call::new("file.file_exists", json!({"path": format!("{cron}.held")})));
            }
            let what = one.service.as_ref().or(one.cron.as_ref()).cloned().unwrap_or_default();
            let mut there = Some(false);
            for look in looks {
                let said = self.outside.call_some(std::slice::from_ref(&one.host), vec![look], self.seconds).await?;
                there = said.into_values().next().map(|said| said.contains(&Ok(Value::Bool(true))));
                if there != Some(false) {
                    break;
                }
            }
            match there {
                Some(true) => {}
                Some(false) => {
                    let mend = format!("install it there, or correct migrate:singletons:{}", one.name);
                    notes.block(&one.host, format!("it has no {what} to hold"), mend);
                }
                None => {
                    notes.block(&one.host, "it does not answer", "start the minion, and see that test.ping answers")
                }
            }
        }
        Ok(notes.findings)
    }
}
