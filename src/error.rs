//! Every way a migration can stop, by what the operator does next.
//!
//! Invariant: no variant ever holds a secret; messages say where, what was found and what was expected.

use crate::event::Finding;

/// The result of anything that can stop a migration.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a migration stopped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The pillar is wrong: fix it.
    #[error("{path}: found {found}, expected {expected}")]
    Settings { path: String, found: String, expected: String, hint: String },
    /// Checks found what must be mended before anybody is bothered.
    #[error("refused, {} to mend:{}", count(.0), lines(.0))]
    Refused(Vec<Finding>),
    /// Another system failed or refused: mend it and apply again.
    #[error("{system}: {problem}")]
    Remote { system: String, problem: String },
    /// The world is neither as it was nor as it should be: look before anything is touched.
    #[error("{step}: changed by somebody else: it was {old}, should become {new}, and is {found}; nothing was touched")]
    Drift { step: String, old: String, new: String, found: String },
    /// Something took longer than its limit.
    #[error("{what}: not within {limit_ms} ms")]
    Deadline { what: String, limit_ms: u64 },
    /// A value that only the work itself can tell.
    #[error("not known yet: {0}")]
    NotYet(String),
    /// Another run holds the lock.
    #[error("another run holds the lock: {0}")]
    HeldByAnother(String),
    /// The journal cannot be written or read.
    #[error("journal: {0}")]
    Journal(String),
    /// A signal ended the run before the commit point.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// The decision was taken for the other way: what was asked can no longer be done.
    #[error("already decided: {0}")]
    Committed(String),
    /// Going back is not finished: what is named must be mended first.
    #[error("not everything is undone: {0}")]
    NotUndone(String),
    /// It cannot be known which way the decision went: nothing more was touched.
    #[error("undecided: {0}")]
    Undecided(String),
    /// A fenced primary wrote what the one that took over has not: the way back needs it seeded anew.
    #[error(
        "{server}: transaction {gtids} was written there behind the fence, and {primary} has it not; \
         replication from {primary} would stop at it, so {server} was not made to follow"
    )]
    Apart { server: String, primary: String, gtids: String },
    /// The tool itself broke in the middle.
    #[error("a defect of this tool: {0}")]
    Defect(String),
}

impl Error {
    /// Builds the error of a remote system.
    pub fn remote(system: impl Into<String>, problem: impl ToString) -> Self {
        Self::Remote { system: system.into(), problem: problem.to_string() }
    }

    /// Names the kind of the error in one word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "settings",
            Self::Refused(_) => "refused",
            Self::Remote { .. } => "remote",
            Self::Drift { .. } => "drift",
            Self::Deadline { .. } => "deadline",
            Self::NotYet(_) => "not-yet",
            Self::HeldByAnother(_) => "held",
            Self::Journal(_) => "journal",
            Self::Interrupted(_) => "interrupted",
            Self::Committed(_) => "committed",
            Self::NotUndone(_) => "not-undone",
            Self::Undecided(_) => "undecided",
            Self::Apart { .. } => "apart",
            Self::Defect(_) => "defect",
        }
    }

    /// Says what the operator does next.
    pub fn hint(&self) -> String {
        match self {
            Self::Settings { hint, .. } => hint.clone(),
            Self::Refused(_) => "mend each finding, then look again: salt-run migrate.preflight, or, for another phase than the flip, as salt-run migrate.preflight prepare".into(),
            Self::Remote { system, .. } => {
                format!("mend what {system} says, or see that it answers; then run the same command again: it goes on where it stopped")
            }
            Self::Drift { .. } => "look at what changed it: salt-run migrate.status; then put it back or accept it, and run the same command again".into(),
            Self::Deadline { .. } => "find what holds it (salt-run migrate.preflight), then run the same command again".into(),
            Self::NotYet(_) => "do what is named first, then run the same command again".into(),
            Self::HeldByAnother(_) => "wait for it, or look at it: salt-run migrate.status; a run that is not finished is ended by its own command, or taken back: salt-run migrate.abort".into(),
            Self::Journal(_) => "see that migrate:state_dir is writable and not full, then run the same command again".into(),
            Self::Interrupted(_) => "run the same command again when ready".into(),
            Self::Committed(_) => "run the same command again: it finishes what was decided".into(),
            Self::NotUndone(_) => "mend what is named, then go on back: salt-run migrate.abort".into(),
            Self::Undecided(_) => "bring the server that is named back, then run the same command again; of a flip whose new primary is gone for good \
                 salt-run migrate.status says what to type".into(),
            Self::Apart { server, primary, .. } => format!(
                "people are served by {primary}, and nothing of theirs is at risk. See what it is (mariadb-binlog on {server} shows it), \
                 bring what matters to {primary}, seed {server} and those below it anew from {primary}, then run the same command again"
            ),
            Self::Defect(_) => {
                "report it; the guard takes the run back once this command has ended: salt-run migrate.status".into()
            }
        }
    }
}

fn count(findings: &[Finding]) -> String {
    let blocking = findings.iter().filter(|finding| finding.blocking).count();
    if blocking == 1 { "1 finding".into() } else { format!("{blocking} findings") }
}

fn lines(findings: &[Finding]) -> String {
    findings
        .iter()
        .filter(|finding| finding.blocking)
        .map(|finding| {
            format!("\n  [{}] {}: {}; mend: {}", finding.topic, finding.subject, finding.found, finding.mend)
        })
        .collect()
}
