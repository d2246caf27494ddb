//! The engine: carries a graph of steps forward, or back.
//!
//! Invariant: it names no system. It asks a step four things (observe, want, set, undo) and the journal for permits.

mod abort;
mod entry;
mod plan;
mod run;

pub use entry::{Left, Report, StepReport, Verdict, abort, apply, rescue, resume};
pub use plan::{Change, Force, Plan, facts, plan};

use crate::error::{Error, Result};
use crate::step::{Erased, Step};
use serde_json::Value;
use std::collections::BTreeSet;

/// What part a step has in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is there for its own sake.
    Fact,
    /// It is there for the steps it serves, and not needed without them.
    Guard,
    /// It serves the facts it names, or every one; it cannot be set, and all findings are gathered before the first
    /// step starts.
    Check,
    /// Once it is done, the run can only go forward.
    Commit,
}

/// A step and its place in the graph.
pub struct Node {
    pub id: String,
    pub role: Role,
    /// The steps without which this one would be wrong.
    pub after: Vec<String>,
    /// The steps for whose sake a guard is there.
    pub serves: Vec<String>,
    /// Of the steps before a commit, those without which it would be wrong to carry it out once more.
    again_after: Vec<String>,
    /// That from its start on no events are shown before the commit.
    quiet: bool,
    step: Box<dyn Erased>,
}

impl Node {
    /// Names the steps that come before; for correctness, never for taste.
    pub fn after<T: AsRef<str>>(&mut self, steps: impl IntoIterator<Item = T>) -> &mut Self {
        self.after.extend(steps.into_iter().map(|step| step.as_ref().to_owned()));
        self
    }

    /// Names, in order, the steps that must stand where a commit that was taken has to be carried out once more, for
    /// example as its host rebooted. Whatever else came before it holds nobody up then.
    pub fn again_after<T: AsRef<str>>(&mut self, steps: impl IntoIterator<Item = T>) -> &mut Self {
        self.again_after.extend(steps.into_iter().map(|step| step.as_ref().to_owned()));
        self
    }

    /// Names the steps for whose sake this one is there.
    pub fn serves<T: AsRef<str>>(&mut self, steps: impl IntoIterator<Item = T>) -> &mut Self {
        self.serves.extend(steps.into_iter().map(|step| step.as_ref().to_owned()));
        self
    }

    /// Has events wait from this step's start to the commit or the first failure.
    ///
    /// Showing them takes a processor from the servers that people wait for.
    pub fn quiet(&mut self) -> &mut Self {
        self.quiet = true;
        self
    }
}

/// The steps of a phase, in an order in which each comes after what it names.
pub struct Graph {
    pub phase: String,
    /// The topics of findings that refuse a run which goes on as they would have when it began.
    pub asks_anew: &'static [&'static str],
    nodes: Vec<Node>,
}

impl Graph {
    /// Makes an empty graph.
    pub fn new(phase: &str) -> Self {
        Self { phase: phase.to_owned(), asks_anew: &[], nodes: Vec::new() }
    }

    /// Adds a step.
    pub fn add<S: Step + 'static>(&mut self, id: impl Into<String>, role: Role, step: S) -> &mut Node {
        let index = self.nodes.len();
        self.nodes.push(Node {
            id: id.into(),
            role,
            after: Vec::new(),
            serves: Vec::new(),
            again_after: Vec::new(),
            quiet: false,
            step: Box::new(step),
        });
        &mut self.nodes[index]
    }

    /// Names, for a step that was added before, those for whose sake it is there.
    pub fn serve(&mut self, id: &str, serves: &[&str]) {
        for node in self.nodes.iter_mut().filter(|node| node.id == id) {
            node.serves(serves);
        }
    }

    /// Names, for a step that was added before, those that come before it.
    pub fn come_after(&mut self, id: &str, after: &[String]) {
        for node in self.nodes.iter_mut().filter(|node| node.id == id) {
            node.after(after);
        }
    }

    /// Lists the ids of the steps of one role.
    pub fn ids(&self, role: Role) -> Vec<String> {
        self.nodes.iter().filter(|node| node.role == role).map(|node| node.id.clone()).collect()
    }

    /// Lists the nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn node(&self, id: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .ok_or_else(|| Error::Journal(format!("the phase {} has no step {id}", self.phase)))
    }

    /// Refuses a graph in which a step comes after, or serves, what is not there, or after what comes later.
    ///
    /// # Errors
    /// [`Error::Journal`]: it is a defect of the phase, not of the operator.
    pub fn checked(self) -> Result<Self> {
        let mut seen = BTreeSet::new();
        for node in &self.nodes {
            if let Some(missing) = node.after.iter().chain(&node.again_after).find(|id| !seen.contains(id.as_str())) {
                return Err(Error::Journal(format!("{} comes after {missing}, which is not before it", node.id)));
            }
            if !seen.insert(node.id.as_str()) {
                return Err(Error::Journal(format!("{} stands twice", node.id)));
            }
        }
        for node in &self.nodes {
            if let Some(missing) = node.serves.iter().find(|id| !seen.contains(id.as_str())) {
                return Err(Error::Journal(format!("{} serves {missing}, which is not there", node.id)));
            }
        }
        Ok(self)
    }

    /// Widens a set of needed steps by the guards that serve any of them.
    fn with_guards(&self, mut needed: BTreeSet<String>) -> BTreeSet<String> {
        loop {
            let more: Vec<String> = self
                .nodes
                .iter()
                .filter(|node| !needed.contains(&node.id))
                .filter(|node| match node.role {
                    Role::Check if node.serves.is_empty() => !needed.is_empty(),
                    Role::Check | Role::Guard => node.serves.iter().any(|id| needed.contains(id)),
                    Role::Fact | Role::Commit => false,
                })
                .map(|node| node.id.clone())
                .collect();
            if more.is_empty() {
                return needed;
            }
            needed.extend(more);
        }
    }
}

/// Tells whether a fact is neither as it was nor as it should be, and not our own half-done work either.
fn foreign(node: &Node, found: &Value, old: &Value, new: &Value) -> bool {
    let neither = match (found, old, new) {
        (Value::Object(found), Value::Object(old), Value::Object(new)) => {
            found.len() != old.len()
                || found.iter().any(|(key, value)| old.get(key) != Some(value) && new.get(key) != Some(value))
        }
        _ => found != old && found != new,
    };
    neither && !node.step.half_done(found, old, new)
}
