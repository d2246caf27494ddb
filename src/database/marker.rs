//! A row that crosses the chain, so that its way can be timed and its arrival proved.
//!
//! Invariant: it is written by an account that a fence stops, so it never writes past one.

use super::quote::text;
use super::{SCHEMA, Server};
use crate::error::Result;
use crate::event;
use std::time::{Duration, Instant};

/// A marker that was written.
#[derive(Debug, Clone)]
pub struct Marked {
    /// The position that holds it.
    pub position: String,
    /// When it was sent.
    pub sent: Instant,
    /// How long the writing server took to answer.
    pub answered: Duration,
}

impl Server {
    /// Writes a marker and returns where it is.
    pub async fn mark(&self, seq: u64) -> Result<Marked> {
        let dialect = self.dialect().await?;
        let sql = format!(
            "REPLACE INTO {SCHEMA}.marker (name, run, seq, at) VALUES ('chain', {}, {seq}, SYSDATE(6)); {}",
            text(&format!("{:.0}", event::now())),
            dialect.words().last_written
        );
        let sent = Instant::now();
        let row = self.marker.row(&sql).await?;
        let answered = sent.elapsed();
        Ok(Marked { position: dialect.normal(self.field(&row, "position")?)?, sent, answered })
    }

    /// Times the way to the server and back, over the open connection.
    pub async fn round_trip(&self) -> Result<Duration> {
        let sent = Instant::now();
        self.session.packet("DO 0").await?;
        Ok(sent.elapsed())
    }

    /// Opens the connection for the way back, so that it need not be opened when it counts.
    pub async fn warm(&self) -> Result<()> {
        self.session.packet("DO 0").await?;
        self.rescue.packet("DO 0").await?;
        self.dialect().await?;
        Ok(())
    }
}
