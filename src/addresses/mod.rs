//! Old addresses and names in whatever the site is configured with: found, judged, replaced. It knows no step.
//!
//! Invariant: reading changes nothing; a replacement is computed on the text as it was read, all of them at once, so that
//! a new address that is another node's old one is never replaced twice.

mod anchors;
mod blob;
mod comment;
mod edit;
mod line;
mod map;
mod mask;
mod name;
mod own;
mod proposal;
mod rewrite;
mod search;
mod table;
mod token;
mod tree;
mod v4;
mod v6;
mod zone;

pub use edit::{Change, Diff, Edit, diff};
pub use map::Map;
pub use proposal::proposal;
pub use rewrite::{Contents, Draft, Manifest, Rewrite};
pub use search::Search;
pub use table::table;
pub use token::Form;
pub use tree::{Found, Skipped, Tree};

use serde::Serialize;

/// What is to be done about a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It must change.
    Stale,
    /// Inside an old range or domain, and no node owns it: a person must look.
    Unknown,
    /// The name of a minion, or whom an orchestration is meant for.
    Target,
    /// A name that people use: it stays.
    Public,
    /// In a comment.
    Comment,
    /// A link that is meant to be, a network that holds the new addresses too, or the migration's own pillar.
    Allowed,
}

impl Verdict {
    /// Whether the configuration does not fit while such a hit remains.
    pub fn remains(self) -> bool {
        matches!(self, Self::Stale | Self::Unknown)
    }
}

/// One old address or name in a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    pub path: String,
    /// From 1.
    pub line: u64,
    /// In bytes, from 1.
    pub column: u64,
    pub token: String,
    pub form: Form,
    pub node: Option<String>,
    pub verdict: Verdict,
    /// What takes the place of the old address or name; nothing where a person must decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
    #[serde(skip)]
    pub edit: Option<Edit>,
}

#[cfg(test)]
mod tests;
