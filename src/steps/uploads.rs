//! Whether the other side has the files that people wrote through the site.
//!
//! Invariant: nothing is taken from either side, and what is newer on the one that gets them stays.

use super::deed::Deed;
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::site::{Brought, Pass, Trees};
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// How often they are carried, until nothing is left to carry.
const PASSES: u32 = 3;

/// How they were carried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    pub files: u64,
    pub passes: u32,
}

/// Carries them until a pass finds nothing more; returns also what the last one still found.
async fn carried(trees: &Trees, permit: &Permit, may_break_off: bool) -> Result<(Carried, Brought)> {
    let until = trees.until();
    let mut all = Carried::default();
    loop {
        let brought = trees.pass(permit, Pass::Add, until, may_break_off).await?;
        all.files += brought.files;
        all.passes += 1;
        if brought.files == 0 || all.passes == PASSES {
            return Ok((all, brought));
        }
    }
}

/// `true` where the other side lacks nothing of them.
pub struct UploadsThere(pub Rc<Trees>);

impl Step for UploadsThere {
    type Fact = bool;
    type Evidence = Carried;

    async fn observe(&self) -> Result<Seen<bool, Carried>> {
        let lacking = self.0.lacking().await?;
        Ok(Seen { fact: lacking.is_some_and(|lacking| lacking.paths.is_empty()), evidence: Carried::default() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, Carried>> {
        // Who writes meanwhile is the next run's affair, and in the end the flip's.
        let (evidence, _) = carried(&self.0, permit, true).await?;
        Ok(Seen { fact: *to, evidence })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave("the side they come from has them still, and the next pass needs only what is new")
    }
}

/// Carries what is new just before people are asked to wait, so that little is left for afterwards.
pub struct UploadsAhead(pub Rc<Trees>);

impl Deed for UploadsAhead {
    type Evidence = Carried;

    const KEPT: &'static str = "the side they come from has them still, and keeps what is newer there";

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Carried> {
        Ok(carried(&self.0, permit, true).await?.0)
    }
}

/// Carries the last of them, once nobody writes any more where they come from.
pub struct UploadsEnded(pub Rc<Trees>);

impl Deed for UploadsEnded {
    type Evidence = Carried;

    const KEPT: &'static str = UploadsAhead::KEPT;

    async fn carry_out(&self, permit: &Permit, _earlier: &Earlier) -> Result<Carried> {
        let (all, last) = carried(&self.0, permit, false).await?;
        if last.files == 0 {
            return Ok(all);
        }
        let problem = format!(
            "somebody still writes there, though its notice is up: {} files in the last of {PASSES} passes, for example {}",
            last.files,
            last.names.join(", ")
        );
        Err(Error::remote(&self.0.pushes.host, problem))
    }
}
