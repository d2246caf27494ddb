//! The database servers, and what they can be asked and told. It knows no step.
//!
//! What the two families of servers say in different words stands in `dialect`; every statement that changes something
//! takes a permit.

mod accounts;
pub mod dialect;
mod fence;
mod gtid;
mod gtid_set;
mod inspection;
pub mod literals;
mod logins;
mod marker;
mod pinned;
pub mod quote;
mod role;
mod rows;
mod rulings;
mod seeding;
mod server;
mod session;
mod source;
mod whole;

pub use dialect::{Errant, Harm};
pub use fence::{Fenced, Promoted};
pub use inspection::Writers;
pub use logins::{Logins, lets_in};
pub use marker::Marked;
pub use pinned::Pinned;
pub use role::Role;
pub use rows::{Bound, Range, Sum, Table};
pub use rulings::Rulings;
pub use seeding::Unsafe;
pub use server::{Server, Status};
pub use session::{Record, Session};
pub use source::Channel;

use crate::settings::{Account, Secret, Settings, Side, Tls};
use std::net::IpAddr;
use std::rc::Rc;

/// The database that holds what the migration keeps on the servers.
pub const SCHEMA: &str = "saltext_migrate";

/// Where and as whom a session connects.
#[derive(Clone)]
pub struct Endpoint {
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    pub user: String,
    pub password: Secret,
    pub tls: Option<Tls>,
    pub connect_ms: u64,
    pub statement_ms: u64,
    pub private_log: bool,
}

impl Endpoint {
    /// Names the place for messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }
}

/// The servers of the declared chain.
pub struct Servers {
    all: Vec<Rc<Server>>,
    old_primary: usize,
    new_primary: usize,
}

impl Servers {
    /// Prepares a client for each server that the settings declare; nothing is connected yet.
    pub fn new(settings: &Settings) -> Self {
        let databases = &settings.databases;
        let mut all = Vec::new();
        let mut add = |side: Side, node: &str, declared: Option<usize>| {
            if let Some(found) = settings.node(side, node) {
                all.push(Rc::new(Server::new(settings, side, node, found, declared)));
            }
            all.len().saturating_sub(1)
        };
        let old_primary = add(Side::Old, &databases.old.primary, None);
        for node in &databases.old.replicas {
            add(Side::Old, node, Some(old_primary));
        }
        let above = databases.new.relay.as_ref().map_or(old_primary, |relay| add(Side::New, relay, Some(old_primary)));
        let new_primary = add(Side::New, &databases.new.primary, Some(above));
        for node in &databases.new.replicas {
            add(Side::New, node, Some(above));
        }
        Self { all, old_primary, new_primary }
    }

    /// Prepares a client for a node of the new side, whether or not the chain has it.
    pub fn beside(settings: &Settings, node: &str) -> Option<Rc<Server>> {
        let found = settings.node(Side::New, node)?;
        Some(Rc::new(Server::new(settings, Side::New, node, found, None)))
    }

    /// Lists every server, sources before their replicas.
    pub fn all(&self) -> &[Rc<Server>] {
        &self.all
    }

    /// Returns the primary of a side.
    pub fn primary(&self, side: Side) -> Rc<Server> {
        self.all[if side == Side::Old { self.old_primary } else { self.new_primary }].clone()
    }

    /// Lists the replicas of a side, without its relay.
    pub fn replicas(&self, settings: &Settings, side: Side) -> Vec<Rc<Server>> {
        let names = match side {
            Side::Old => &settings.databases.old.replicas,
            Side::New => &settings.databases.new.replicas,
        };
        self.all.iter().filter(|server| server.side == side && names.contains(&server.node)).cloned().collect()
    }

    /// Returns the server between the sides, where there is one.
    pub fn relay(&self) -> Option<Rc<Server>> {
        self.declared_source(&self.all[self.new_primary]).filter(|source| source.side == Side::New)
    }

    /// Returns the source that the pillar declares for a server.
    pub fn declared_source(&self, server: &Server) -> Option<Rc<Server>> {
        server.declared.map(|index| self.all[index].clone())
    }

    /// Finds a server by name, as `old-db1`.
    pub fn named(&self, name: &str) -> Option<Rc<Server>> {
        self.all.iter().find(|server| server.name == name).cloned()
    }
}

fn endpoint(settings: &Settings, name: &str, address: IpAddr, account: &Account, private_log: bool) -> Endpoint {
    let databases = &settings.databases;
    let limits = &databases.deadlines;
    Endpoint {
        name: name.to_owned(),
        address,
        port: databases.port,
        user: account.user.clone(),
        password: account.password.clone(),
        tls: databases.tls.clone(),
        connect_ms: limits.connect,
        statement_ms: limits.fence.max(limits.catch_up).max(5_000),
        private_log,
    }
}
