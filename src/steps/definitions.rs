//! What the tables were when everything was to stand still.

use super::deed::Deed;
use crate::database::Server;
use crate::error::Result;
use crate::journal::Permit;
use crate::proof::{Proof, digest};
use crate::step::Earlier;
use serde_json::json;
use std::path::PathBuf;
use std::rc::Rc;

/// The record's subject.
pub const DEFINITIONS: &str = "definitions";

/// Notes the definition of every table of a primary.
pub struct DefinitionsNoted {
    pub server: Rc<Server>,
    pub state_dir: PathBuf,
}

impl Deed for DefinitionsNoted {
    type Evidence = usize;

    const KEPT: &'static str = "it only looked";

    async fn carry_out(&self, _permit: &Permit, _earlier: &Earlier) -> Result<usize> {
        let found = self.server.definitions().await?;
        let evidence = json!(found);
        Proof::new(DEFINITIONS, digest(&evidence), evidence).keep(&self.state_dir)?;
        Ok(found.len())
    }
}
