//! The role that a server reads at its next boot, where it keeps that itself (MySQL).

use super::Server;
use super::quote::text;
use crate::error::Result;
use crate::journal::Permit;
use std::collections::BTreeMap;

/// Settings for the next boot by name; nothing where the configuration decides.
pub type Role = BTreeMap<String, Option<String>>;

const NAMES: [&str; 2] = ["read_only", "super_read_only"];

impl Server {
    /// Tells whether the server itself keeps its role over a restart.
    pub async fn keeps_its_role(&self) -> Result<bool> {
        Ok(self.dialect().await?.keeps_its_role())
    }

    /// Reads what is kept.
    pub async fn kept_role(&self) -> Result<Role> {
        let sql = format!(
            "SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM performance_schema.persisted_variables \
             WHERE VARIABLE_NAME IN ({})",
            NAMES.map(text).join(", ")
        );
        let mut role: Role = NAMES.iter().map(|name| ((*name).to_owned(), None)).collect();
        for row in self.session.packet(&sql).await?.iter().flatten() {
            role.insert(self.field(row, "name")?.to_lowercase(), Some(self.field(row, "value")?.to_uppercase()));
        }
        Ok(role)
    }

    /// Names what a closed, or an open, server keeps.
    pub fn role(read_only: bool) -> Role {
        let word = if read_only { "ON" } else { "OFF" };
        NAMES.iter().map(|name| ((*name).to_owned(), Some(word.to_owned()))).collect()
    }

    /// Changes what is kept, and nothing of the running server. One packet.
    pub async fn keep_role(&self, _permit: &Permit, role: &Role) -> Result<()> {
        let words: Vec<String> = NAMES
            .iter()
            .filter_map(|name| Some((name, role.get(*name)?)))
            .map(|(name, value)| match value {
                Some(value) => format!("SET PERSIST_ONLY {name}={}", if value == "ON" { "ON" } else { "OFF" }),
                None => format!("RESET PERSIST IF EXISTS {name}"),
            })
            .collect();
        self.session.packet(&words.join("; ")).await.map(|_| ())
    }
}
