//! Instead of other literals: the pillar that knows each node's addresses, and the lines that ask it.
//!
//! Invariant: it proposes and changes nothing; only a plain address of one node can be asked for, the rest is named.

use super::{Hit, Verdict};
use crate::settings::Inventory;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Builds the proposal from the hits of a search.
pub fn proposal(inventory: &Inventory, hits: &[Hit]) -> Value {
    let stale: Vec<&Hit> = hits.iter().filter(|hit| hit.verdict == Verdict::Stale).collect();
    let mut named = BTreeSet::new();
    let (mut edits, mut left) = (Vec::new(), Vec::new());
    for hit in stale {
        let reference = hit.edit.as_ref().and_then(|edit| Some((edit, edit.reference.clone()?)));
        match reference {
            Some((edit, (node, kind))) => {
                edits.push(json!({"path": hit.path, "line": hit.line, "column": hit.column, "old": edit.old,
                                  "new": format!("{{{{ pillar['nodes']['{node}']['{kind}'] }}}}")}));
                named.insert(node);
            }
            None => left.push(json!({"path": hit.path, "line": hit.line, "column": hit.column, "token": hit.token})),
        }
    }
    let mut nodes = Map::new();
    for name in named {
        let Some(node) = inventory.successor(&name) else { continue };
        let mut addresses = json!({"private": node.private});
        if let Some(public) = node.public {
            addresses["public"] = json!(public);
        }
        nodes.insert(name, addresses);
    }
    json!({"pillar": {"nodes": nodes}, "edits": edits, "left": left})
}
