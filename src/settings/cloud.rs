//! How to reach the APIs of both clouds: the keys are those of `clouds.yaml`, so that either can be copied.
//!
//! Invariant: a login has a password or an application credential, never a half of each.

use super::{Secret, check};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

/// The APIs of both clouds; the old one's may be gone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clouds {
    #[serde(default)]
    pub old: Option<Access>,
    #[serde(default)]
    pub new: Option<Access>,
}

/// One cloud's API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// An entry of `clouds.yaml`, instead of `auth`.
    #[serde(default)]
    pub cloud: Option<String>,
    #[serde(default)]
    pub auth: Option<Login>,
    #[serde(default)]
    pub region_name: Option<String>,
    /// `public` (default), `internal` or `admin`.
    #[serde(default)]
    pub interface: Option<String>,
    /// A file with the authority that signed the API's certificate.
    #[serde(default)]
    pub cacert: Option<PathBuf>,
    #[serde(default)]
    pub deadlines: CloudDeadlines,
}

/// Who logs in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub auth_url: String,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password: Option<Secret>,
    #[serde(default)]
    pub user_domain_name: Option<String>,
    #[serde(default)]
    pub project_id: Option<String>,
    #[serde(default)]
    pub project_name: Option<String>,
    #[serde(default)]
    pub project_domain_name: Option<String>,
    #[serde(default)]
    pub application_credential_id: Option<String>,
    #[serde(default)]
    pub application_credential_secret: Option<Secret>,
}

/// Limits in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloudDeadlines {
    pub connect: u64,
    pub request: u64,
}

impl Default for CloudDeadlines {
    fn default() -> Self {
        Self { connect: 5_000, request: 60_000 }
    }
}

impl Clouds {
    /// Reads the key `clouds` alone: a cloud can be asked before the rest of the site is described.
    ///
    /// # Errors
    /// [`Error::Settings`] with the pillar path of the first thing that is wrong.
    pub fn read(pillar: &Value) -> Result<Self> {
        let Some(clouds) = pillar.get("clouds") else {
            return Err(wrong("clouds", "nothing", "how to reach the clouds' APIs"));
        };
        let clouds: Self = serde_path_to_error::deserialize(clouds).map_err(|error| match check::explain(error) {
            Error::Settings { path, found, expected, hint } => {
                Error::Settings { path: path.replacen("migrate", "migrate:clouds", 1), found, expected, hint }
            }
            other => other,
        })?;
        clouds.consistent()?;
        Ok(clouds)
    }

    pub(super) fn consistent(&self) -> Result<()> {
        for (side, access) in [("old", &self.old), ("new", &self.new)] {
            let Some(access) = access else { continue };
            let path = format!("clouds:{side}");
            match (&access.cloud, &access.auth) {
                (Some(_), None) => {}
                (None, Some(login)) => login.consistent(&format!("{path}:auth"))?,
                (Some(_), Some(_)) => return Err(wrong(&path, "both `cloud` and `auth`", "one of them")),
                (None, None) => {
                    return Err(wrong(&path, "neither `cloud` nor `auth`", "an entry of clouds.yaml, or a login"));
                }
            }
            if let Some(interface) = &access.interface
                && !["public", "internal", "admin"].contains(&interface.as_str())
            {
                return Err(wrong(&format!("{path}:interface"), interface, "public, internal or admin"));
            }
        }
        Ok(())
    }
}

impl Login {
    fn consistent(&self, path: &str) -> Result<()> {
        let password = (&self.username, &self.password);
        let credential = (&self.application_credential_id, &self.application_credential_secret);
        match (password, credential) {
            ((Some(_), Some(_)), (None, None)) => {
                if self.project_id.is_none() && self.project_name.is_none() {
                    return Err(wrong(path, "no project", "project_name or project_id"));
                }
                Ok(())
            }
            ((None, None), (Some(_), Some(_))) => Ok(()),
            _ => Err(wrong(
                path,
                "neither a whole password login nor a whole application credential",
                "username and password, or application_credential_id and application_credential_secret",
            )),
        }
    }
}

fn wrong(path: &str, found: &str, expected: &str) -> Error {
    Error::Settings {
        path: format!("migrate:{path}"),
        found: found.into(),
        expected: expected.into(),
        hint: "docs/prepare.md shows every form of access".into(),
    }
}
