//! What is asked of a server that is to be copied, and told to one that was.

use super::quote::text;
use super::server::Server;
use crate::error::Result;
use crate::journal::Permit;

/// Databases that are no data of the site.
const SYSTEM: &str = "'mysql','sys','information_schema','performance_schema','saltext_migrate'";

/// Tables of an engine whose copy is not of one moment, or holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsafe {
    pub engine: String,
    pub tables: u64,
    pub example: String,
}

impl Server {
    /// Tells whether a copy stands where its source stood when it was taken, or later; one without a transaction does not.
    ///
    /// # Errors
    /// [`crate::error::Error::Remote`] where either text is no position.
    pub async fn stands_at(&self, position: &str, logged: &str) -> Result<bool> {
        let dialect = self.dialect().await?;
        Ok(!dialect.normal(position)?.is_empty() && dialect.holds(position, logged)?)
    }

    /// Tells whether the server has what it copies itself by; answers the name of what it lacks.
    ///
    /// # Errors
    /// As [`super::Session::packet`].
    pub async fn lacks_to_be_copied(&self) -> Result<Option<&'static str>> {
        let Some(plugin) = self.dialect().await?.words().copies_by else { return Ok(None) };
        let sql = format!(
            "SELECT COUNT(*) AS active FROM information_schema.PLUGINS WHERE PLUGIN_NAME={} AND PLUGIN_STATUS='ACTIVE'",
            text(plugin)
        );
        Ok((self.number::<u32>(&self.session.row(&sql).await?, "active")? == 0).then_some(plugin))
    }

    /// Counts the tables that a copy of a running server does not hold as of one moment.
    ///
    /// # Errors
    /// As [`super::Session::packet`].
    pub async fn unsafe_to_copy(&self) -> Result<Vec<Unsafe>> {
        let copied = self.dialect().await?.words().copied_engines;
        let sql = format!(
            "SELECT ENGINE AS engine, COUNT(*) AS tables, MIN(CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)) AS example \
             FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN ({SYSTEM}) \
               AND ENGINE IS NOT NULL AND ENGINE NOT IN ({copied}) GROUP BY ENGINE"
        );
        let sets = self.session.packet(&sql).await?;
        sets.iter()
            .flatten()
            .map(|row| {
                Ok(Unsafe {
                    engine: self.field(row, "engine")?.to_owned(),
                    tables: self.number(row, "tables")?,
                    example: self.field(row, "example")?.to_owned(),
                })
            })
            .collect()
    }

    /// Counts the databases whose tables its account may not read: to it they are not there at all.
    ///
    /// # Errors
    /// As [`super::Session::packet`].
    pub async fn out_of_sight(&self) -> Result<u64> {
        // The engine's own list names each database as its folder; what cannot be matched by name can be counted.
        let (kept, _) = self.dialect().await?.words().engine_tables;
        let sql = format!(
            "SELECT CAST(GREATEST(0, CAST(kept AS SIGNED) - CAST(shown AS SIGNED)) AS UNSIGNED) AS hidden FROM \
             (SELECT COUNT(DISTINCT SUBSTRING_INDEX(NAME, '/', 1)) AS kept FROM information_schema.{kept} \
              WHERE NAME LIKE '%/%' AND NAME NOT LIKE '%/#sql%' AND SUBSTRING_INDEX(NAME, '/', 1) NOT IN ({SYSTEM})) AS engine, \
             (SELECT COUNT(DISTINCT TABLE_SCHEMA) AS shown FROM information_schema.TABLES \
              WHERE ENGINE = 'InnoDB' AND TABLE_SCHEMA NOT IN ({SYSTEM})) AS account"
        );
        self.number(&self.session.row(&sql).await?, "hidden")
    }

    /// Adds up what a copy has to carry, in bytes.
    ///
    /// # Errors
    /// As [`super::Session::packet`].
    pub async fn size(&self) -> Result<u64> {
        let sql = self.dialect().await?.words().size;
        self.number(&self.session.row(sql).await?, "bytes")
    }

    /// Tells a server that was copied from where its source goes on; nothing where it knows.
    ///
    /// # Errors
    /// As [`super::Session::packet`].
    pub async fn take_position(&self, _permit: &Permit, logged: &str) -> Result<String> {
        let dialect = self.dialect().await?;
        let copied = self.session.row(dialect.words().copied).await?;
        let (stands, tell) = dialect.stands(self.field(&copied, "position")?, logged)?;
        if let Some(sql) = tell {
            self.session.packet(&sql).await?;
        }
        Ok(stands)
    }
}
