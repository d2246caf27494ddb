//! On what the databases' part of the flip is rehearsed.
//!
//! Invariant: nothing is opened for it that the move rests on: neither the primary-to-be nor the relay.

use super::check::wrong;
use super::{Settings, Side};
use crate::error::Result;
use serde::Deserialize;

/// The value of `migrate:rehearsal`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// A node of the new side whose database follows as the others do, and that nobody would miss.
    pub replica: String,
}

pub(super) fn consistent(settings: &Settings) -> Result<()> {
    let Some(rehearsal) = &settings.rehearsal else { return Ok(()) };
    let (node, new) = (rehearsal.replica.as_str(), &settings.databases.new);
    let hint = "for example rehearsal: {replica: db3}, of migrate:nodes:new";
    if settings.node(Side::New, node).is_none() {
        return Err(wrong("rehearsal:replica", node, "a node of migrate:nodes:new", hint));
    }
    if node == new.primary || new.relay.as_deref() == Some(node) {
        return Err(wrong("rehearsal:replica", node, "neither the new primary nor the relay", hint));
    }
    Ok(())
}
