//! The kinds of facts, one per file.

mod arrival;
mod caught_up;
pub mod checks;
mod decision;
mod domain;
mod drain;
mod edge;
mod fence;
mod following;
mod guard;
mod host_files;
mod marker;
mod promotion;
mod rewritten;
mod scheduler;
mod tables;
mod trial;

pub use arrival::Arrival;
pub use caught_up::CaughtUp;
pub use decision::Decision;
pub use domain::{QuarantineDomain, SiteDomain};
pub use drain::Drain;
pub use edge::{Activated, Activation, Everywhere, Purged, Staged, Switch, Unmoved, Versions};
pub use fence::Fence;
pub use following::{Follow, Following};
pub use guard::GuardReady;
pub use host_files::{HostFiles, MARK};
pub use marker::{MarkerTrial, Timing};
pub use promotion::Promotion;
pub use rewritten::Rewritten;
pub use scheduler::Scheduler;
pub use tables::Tables;
pub use trial::ReverseTrial;
