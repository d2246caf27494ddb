//! One replacement in a text, and how it is shown.
//!
//! Invariant: edits are places in the text as it was read; applied together they never see each other's result.

use super::{Hit, mask};
use serde::{Deserialize, Serialize};

/// A replacement at a place of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Byte offset in the text as it was.
    pub start: usize,
    pub old: String,
    pub new: String,
    /// The pillar's word for what takes the place: node, and the key of its address.
    #[serde(skip)]
    pub reference: Option<(String, &'static str)>,
}

/// A text, rewritten.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub bytes: Vec<u8>,
    /// The edits that lead back, in places of the new text.
    pub back: Vec<Edit>,
}

/// Applies all edits at once; nothing where the text is no longer as it was read.
pub fn apply(text: &[u8], edits: &[Edit]) -> Option<Change> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| edit.start);
    let (mut bytes, mut back, mut at) = (Vec::with_capacity(text.len()), Vec::new(), 0);
    for edit in edits {
        let end = edit.start + edit.old.len();
        if edit.start < at || text.get(edit.start..end)? != edit.old.as_bytes() {
            return None;
        }
        bytes.extend_from_slice(&text[at..edit.start]);
        back.push(Edit { start: bytes.len(), old: edit.new.clone(), new: edit.old.clone(), reference: None });
        bytes.extend_from_slice(edit.new.as_bytes());
        at = end;
    }
    bytes.extend_from_slice(text.get(at..)?);
    Some(Change { bytes, back })
}

/// The edits of the hits that must change and may.
pub fn edits(hits: &[&Hit]) -> Vec<Edit> {
    hits.iter().filter_map(|hit| hit.edit.clone()).collect()
}

/// What changes in one file, as lines of a diff without secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    pub path: String,
    pub lines: Vec<String>,
}

/// Shows what changes in a text; what looks like a password is masked.
pub fn diff(path: &str, old: &[u8], edits: &[Edit], new: &[u8]) -> Diff {
    let mut lines = vec![format!("--- {path}"), format!("+++ {path}")];
    let (old_text, new_text) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let shifted = old_text.len() != old.len() || old_text.lines().count() != new_text.lines().count();
    if shifted {
        // Not text that lines would show; the edits themselves do.
        lines.extend(
            edits
                .iter()
                .flat_map(|edit| [format!("-{}", mask::line(&edit.old)), format!("+{}", mask::line(&edit.new))]),
        );
        return Diff { path: path.to_owned(), lines };
    }
    for (index, (before, after)) in old_text.lines().zip(new_text.lines()).enumerate().filter(|(_, (b, a))| b != a) {
        lines.push(format!("@@ -{0} +{0} @@", index + 1));
        lines.push(format!("-{}", mask::line(before)));
        lines.push(format!("+{}", mask::line(after)));
    }
    Diff { path: path.to_owned(), lines }
}
