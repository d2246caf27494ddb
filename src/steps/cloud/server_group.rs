//! Whether a group is there whose servers share no hypervisor.

use super::{Project, STAYS};
use crate::error::Result;
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// The group's id is its evidence; its name is its mark, for it can carry no other.
pub struct ServerGroupMade {
    pub project: Rc<Project>,
    pub name: String,
}

impl ServerGroupMade {
    async fn id(&self) -> Result<Option<String>> {
        let name = self.project.mark(&self.name).name();
        let groups = self.project.cloud.server_groups().await?;
        Ok(groups.iter().find(|group| group.name == name).map(|group| group.id.clone()))
    }
}

impl Step for ServerGroupMade {
    type Fact = bool;
    type Evidence = Option<String>;

    async fn observe(&self) -> Result<Seen<bool, Option<String>>> {
        let id = self.id().await?;
        Ok(Seen { fact: id.is_some(), evidence: id })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, permit: &Permit, _to: &bool, _: &Earlier) -> Result<Seen<bool, Option<String>>> {
        let name = self.project.mark(&self.name).name();
        if self.id().await?.is_none() {
            self.project
                .ask_clearly(
                    async || self.project.cloud.create_server_group(permit, &name).await,
                    async || {
                        let groups = self.project.cloud.server_groups().await?;
                        Ok(groups.iter().any(|group| group.name == name).then_some(()))
                    },
                )
                .await?;
        }
        self.observe().await
    }

    fn undo(&self) -> Undo<bool> {
        Undo::Leave(STAYS)
    }
}
