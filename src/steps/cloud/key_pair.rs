//! Whether a public key is in the cloud under its name.

use super::{Project, STAYS};
use crate::error::{Error, Result};
use crate::journal::Permit;
use crate::step::{Earlier, Seen, Step, Undo};
use std::rc::Rc;

/// The public key under a name; nothing where there is none.
pub struct KeyPairImported {
    pub project: Rc<Project>,
    pub name: String,
}

/// Tells whether two public keys are one; what stands behind is a comment.
pub fn same_key(one: &str, other: &str) -> bool {
    let key = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    key(one) == key(other)
}

impl KeyPairImported {
    fn wanted(&self) -> String {
        self.project.prepare.key_pairs.get(&self.name).cloned().unwrap_or_default()
    }
}

impl Step for KeyPairImported {
    type Fact = Option<String>;
    type Evidence = ();

    async fn observe(&self) -> Result<Seen<Option<String>, ()>> {
        let pairs = self.project.cloud.key_pairs().await?;
        let wanted = self.wanted();
        let fact = pairs.iter().find(|pair| pair.name == self.name).map(|pair| {
            if same_key(&pair.public_key, &wanted) { wanted.clone() } else { pair.public_key.trim().to_owned() }
        });
        Ok(Seen { fact, evidence: () })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Option<String>> {
        Ok(Some(self.wanted()))
    }

    async fn set(&self, permit: &Permit, to: &Option<String>, _: &Earlier) -> Result<Seen<Option<String>, ()>> {
        let seen = self.observe().await?;
        if seen.fact.is_some() {
            if seen.fact == *to {
                return Ok(seen);
            }
            let problem = format!("the key pair {} is another key, and a key pair cannot be changed", self.name);
            return Err(Error::remote(&self.project.cloud.name, problem));
        }
        let key = to.clone().unwrap_or_default();
        self.project
            .ask_clearly(
                async || self.project.cloud.import_key_pair(permit, &self.name, &key).await,
                async || {
                    let pairs = self.project.cloud.key_pairs().await?;
                    Ok(pairs.iter().any(|pair| pair.name == self.name).then_some(()))
                },
            )
            .await?;
        self.observe().await
    }

    fn undo(&self) -> Undo<Option<String>> {
        Undo::Leave(STAYS)
    }
}
