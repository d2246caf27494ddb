//! Which role a primary's server takes at its next boot: kept by the server itself where it can, else in a file.

use super::host_files::{Contents, HostFiles};
use crate::database::{Role, Server};
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// What the server, or its file, says; nothing at all where there is neither.
pub struct RoleAtBoot {
    pub server: Rc<Server>,
    pub read_only: bool,
    /// The file, where somebody can write it.
    pub file: Option<HostFiles>,
}

impl RoleAtBoot {
    fn key(&self, setting: &str) -> String {
        format!("{}:{setting}", self.server.name)
    }

    fn contents(&self, role: Role) -> Contents {
        role.into_iter().map(|(setting, value)| (self.key(&setting), value)).collect()
    }
}

impl Step for RoleAtBoot {
    type Fact = Contents;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Contents, ()>> {
        if self.server.keeps_its_role().await? {
            return Ok(Seen { fact: self.contents(self.server.kept_role().await?), evidence: () });
        }
        match &self.file {
            Some(file) => file.observe().await,
            None => Ok(Seen { fact: Contents::new(), evidence: () }),
        }
    }

    async fn want(&self, earlier: &Earlier) -> Result<Contents> {
        if self.server.keeps_its_role().await? {
            return Ok(self.contents(Server::role(self.read_only)));
        }
        match &self.file {
            Some(file) => file.want(earlier).await,
            None => Ok(Contents::new()),
        }
    }

    async fn set(&self, permit: &Permit, to: &Contents, earlier: &Earlier) -> Result<Seen<Contents, ()>> {
        if self.server.keeps_its_role().await? {
            let names = Server::role(self.read_only).into_keys();
            let role: Role = names
                .filter_map(|name| Some((to.get(&self.key(&name))?.clone(), name)))
                .map(|(value, name)| (name, value))
                .collect();
            self.server.keep_role(permit, &role).await?;
            return self.observe().await;
        }
        match &self.file {
            Some(file) => file.set(permit, to, earlier).await,
            None => self.observe().await,
        }
    }

    fn half_done(&self, found: &Contents, old: &Contents, new: &Contents) -> bool {
        // Either role may have been set by hand, from our page.
        let ours = [true, false].iter().any(|closed| *found == self.contents(Server::role(*closed)));
        ours || self.file.as_ref().is_some_and(|file| file.half_done(found, old, new))
    }

    fn undo(&self) -> Undo<Contents> {
        Undo::Restore
    }
}
