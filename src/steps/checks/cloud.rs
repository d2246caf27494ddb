//! Whether the new cloud can be reached and has what is asked of it.

use super::{Notes, Topic};
use crate::cloud::{Answer, Cloud};
use crate::error::Result;
use crate::event::Finding;
use crate::steps::cloud::Project;
use osauth::services::{COMPUTE, IMAGE, NETWORK};
use std::rc::Rc;

/// Login and catalogue.
pub struct CloudReached(pub Rc<Project>);

impl Topic for CloudReached {
    async fn look(&self) -> Result<Vec<Finding>> {
        Ok(reached(&self.0.cloud).await)
    }
}

/// Says what stands between us and a cloud's services.
pub async fn reached(cloud: &Cloud) -> Vec<Finding> {
    let mut notes = Notes::new("cloud");
    if let Err(refusal) = cloud.login().await {
        notes.block("login", refusal.to_string(), "correct migrate:clouds; docs/prepare.md shows every form of access");
        return notes.findings;
    }
    let mut tell = |service: &str, answer: Answer<bool>| {
        let mend = "correct region_name and interface in migrate:clouds, or ask the provider";
        match answer {
            Ok(true) => {}
            Ok(false) => notes.block(service, "the catalogue has no such service in this region", mend),
            Err(refusal) => notes.block(service, refusal.to_string(), mend),
        }
    };
    tell("compute", cloud.has(COMPUTE).await);
    tell("image", cloud.has(IMAGE).await);
    tell("network", cloud.has(NETWORK).await);
    notes.findings
}
