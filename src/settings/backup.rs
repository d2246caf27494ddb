//! The backup of the new side that is restored before anybody relies on it.
//!
//! Invariant: it is of a server that prepare copied, on the server's own host.

use super::{Family, Settings};
use crate::error::{Error, Result};
use serde::Deserialize;

/// Which server is backed up, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// A server of `databases:new`.
    pub node: String,
    /// A folder of its host, with room for the data twice.
    pub folder: String,
    /// A shell line that takes a backup of the running server, as mariadb-backup or `CLONE` makes them.
    #[serde(default)]
    pub take: Option<String>,
    /// A shell line that puts the backup into the empty folder `$INTO`.
    #[serde(default = "restore")]
    pub restore: String,
    /// Hours for which a backup that was restored counts.
    #[serde(default = "hours")]
    pub hours: f64,
    /// Milliseconds for either.
    #[serde(default = "limit")]
    pub limit: u64,
}

impl NewBackup {
    /// Returns the shell line that takes a backup.
    pub fn take(&self, family: Family) -> String {
        let own = match family {
            Family::MariaDb => MARIADB,
            Family::MySql => MYSQL,
        };
        self.take.clone().unwrap_or_else(|| own.to_owned())
    }

    pub(super) fn consistent(&self, settings: &Settings) -> Result<()> {
        let copied = settings.prepare.as_ref().is_some_and(|prepare| prepare.databases.is_some());
        if !copied || !settings.databases.new.all().contains(&self.node.as_str()) {
            return Err(wrong("node", &self.node, "a server of migrate:databases:new, with migrate:prepare:databases"));
        }
        if !self.folder.starts_with('/') || self.folder.len() > 80 {
            return Err(wrong(
                "folder",
                &self.folder,
                "a whole path of at most 80 letters, for a socket is made below it",
            ));
        }
        Ok(())
    }
}

fn wrong(path: &str, found: &str, expected: &str) -> Error {
    Error::Settings {
        path: format!("migrate:prepare:backup:{path}"),
        found: format!("{found:?}"),
        expected: expected.into(),
        hint: "for example backup: {node: db2, folder: /srv/backup/migrate}".into(),
    }
}

/// Takes a backup of a MariaDB that runs.
const MARIADB: &str = "rm -rf \"$FOLDER/new\" && nice -n 10 mariadb-backup --defaults-file=\"$DEFAULTS_FILE\" --backup \
     --target-dir=\"$FOLDER/new\" --user=root --socket=\"$SOCKET\" && mariadb-backup --prepare --target-dir=\"$FOLDER/new\" && \
     rm -rf \"$FOLDER/base\" && mv \"$FOLDER/new\" \"$FOLDER/base\"";

/// And of a MySQL, which copies itself.
const MYSQL: &str = "install -d -m 0700 -o \"$OWNER\" \"$COPY\" && mysql --defaults-file=\"$DEFAULTS_FILE\" --user=root \
     --protocol=socket --socket=\"$SOCKET\" -e \"CLONE LOCAL DATA DIRECTORY = '$COPY/data'\" && rm -rf \"$FOLDER/base\" && \
     mv \"$COPY/data\" \"$FOLDER/base\"";

fn restore() -> String {
    "cp -a --reflink=auto \"$FOLDER/base/.\" \"$INTO\"".into()
}

fn hours() -> f64 {
    168.0
}

fn limit() -> u64 {
    86_400_000
}
