//! The migration's own pillar among what is searched: it names the old nodes on purpose.

use memchr::memmem;
use serde_json::Value;
use std::ops::Range;

/// Why an old address in it stays.
pub const WHY: &str = "the migration's own pillar, in which old nodes stay old";

/// Finds the migration's own pillar in a text: the key `migrate` at its top, with `nodes` or `addresses` right below it, and
/// all that is indented below; JSON with the `nodes` of both sides is that as a whole.
pub fn pillar(text: &[u8]) -> Option<Range<usize>> {
    memmem::find(text, b"nodes").or_else(|| memmem::find(text, b"addresses"))?;
    let whole = text.strip_prefix(b"#!json").unwrap_or(text).trim_ascii();
    if whole.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"")) {
        let told: Value = serde_json::from_slice(whole).ok()?;
        let nodes = told.get("migrate").unwrap_or(&told).get("nodes")?;
        return (nodes.get("old").is_some() && nodes.get("new").is_some()).then_some(0..text.len());
    }
    let (mut at, mut found, mut inner, mut ours) = (0, None, None, false);
    for row in text.split_inclusive(|byte| *byte == b'\n') {
        let (start, line) = (at, row.trim_ascii());
        at += row.len();
        // Comments and templates stand at any depth.
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"{%") || line.starts_with(b"{#") {
            continue;
        }
        let depth = row.iter().take_while(|byte| **byte == b' ').count();
        match found {
            Some(from) if depth == 0 && ours => return Some(from..start),
            _ if depth == 0 => (found, inner) = (has_key(line, b"migrate").then_some(start), None),
            Some(_) if *inner.get_or_insert(depth) == depth => {
                ours |= has_key(line, b"nodes") || has_key(line, b"addresses");
            }
            _ => {}
        }
    }
    found.filter(|_| ours).map(|from| from..text.len())
}

fn has_key(line: &[u8], key: &[u8]) -> bool {
    line.strip_prefix(key).is_some_and(|rest| rest.starts_with(b":"))
}
