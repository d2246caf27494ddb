//! Whether a primary has the tables in which runs are fenced and decided.

use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// `true` once the tables are there.
pub struct Tables {
    pub server: Rc<Server>,
}

impl Step for Tables {
    type Fact = bool;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<bool, ()>> {
        Ok(Seen { fact: self.server.has_tables().await?, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, to: &bool, _earlier: &Earlier) -> Result<Seen<bool, ()>> {
        self.server.make_tables(permit).await?;
        Ok(Seen { fact: *to, evidence: () })
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Keep("empty tables of our own harm nobody, and the next run needs them")
    }
}
