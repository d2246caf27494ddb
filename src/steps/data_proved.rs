//! Whether the data of a new server was seen to be that of the old primary, table by table.
//!
//! Invariant: it counts only while the server stands where it stood, and no copy came over it since.

use super::checksum::{Difference, Progress, TablesAlike, subject};
use crate::error::{Error, Result};
use crate::journal::{Lock, Permit};
use crate::outside::Outside;
use crate::proof::Proof;
use crate::step::{Earlier, Seen, Step, Undo};
use serde::{Deserialize, Serialize};

/// How many differences a refusal names.
const NAMED: usize = 3;

/// The comparison of a new server with the old primary, and for how long it holds.
pub struct DataProved {
    pub tables: TablesAlike,
    pub outside: Outside,
    pub hours: f64,
}

/// What is known of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    Unproved,
    Alike,
    /// It cannot be compared, or need not be any more; why.
    NotCompared(String),
}

/// What a comparison saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    pub tables: usize,
    pub rows: u64,
    pub seconds: f64,
    pub left_out: Vec<String>,
}

impl DataProved {
    fn proof(&self) -> Result<Option<Progress>> {
        let subject = subject(&self.tables.source.name, &self.tables.replica.name);
        let proof = Proof::read(&self.tables.state_dir, &subject)?;
        let proof = proof.filter(|proof| proof.fresh(self.hours) && proof.hash == self.tables.hash());
        Ok(proof.and_then(|proof| serde_json::from_value(proof.evidence).ok()))
    }

    /// Says why the two are not compared, where they are not.
    async fn not_compared(&self) -> Result<Option<String>> {
        let source = &self.tables.source;
        let status = source.status().await?;
        Ok((status.read_only && status.channel.is_some())
            .then(|| format!("{} follows another server: the site moved", source.name)))
    }
}

impl Step for DataProved {
    type Fact = Data;
    type Evidence = Extent;

    async fn observe(&self) -> Result<Seen<Data, Extent>> {
        if let Some(why) = self.not_compared().await? {
            return Ok(Seen { fact: Data::NotCompared(why), evidence: Extent::default() });
        }
        // One that is not there yet, or was emptied, is not what was compared.
        let follows = self.tables.replica.status().await.is_ok_and(|status| status.channel.is_some());
        let proof = self.proof()?.filter(|proof| follows && proof.differences.is_empty());
        let fact = if proof.is_some() { Data::Alike } else { Data::Unproved };
        Ok(Seen { fact, evidence: proof.map(|proof| extent(&proof)).unwrap_or_default() })
    }

    async fn want(&self, _earlier: &Earlier) -> Result<Data> {
        Ok(self.not_compared().await?.map_or(Data::Alike, Data::NotCompared))
    }

    async fn set(&self, permit: &Permit, to: &Data, _earlier: &Earlier) -> Result<Seen<Data, Extent>> {
        let _lock = Lock::take(&self.tables.folder(), "migrate.prepare")?;
        let seen = tokio::select! {
            seen = self.tables.compared(permit) => seen?,
            // It may take hours; whoever goes on finds what was compared.
            why = self.outside.interrupted() => return Err(Error::Interrupted(why)),
        };
        if !seen.differences.is_empty() {
            return Err(self.refusal(&seen.differences));
        }
        Ok(Seen { fact: to.clone(), evidence: extent(&seen) })
    }

    fn undo(&self) -> Undo<Data> {
        Undo::Keep("it only looked")
    }
}

impl DataProved {
    fn refusal(&self, differences: &[Difference]) -> Error {
        let (source, replica) = (&self.tables.source.name, &self.tables.replica.name);
        let named: Vec<String> = differences
            .iter()
            .take(NAMED)
            .map(|each| format!("{}: {} at {}", each.table, each.what, each.place))
            .collect();
        Error::remote(
            replica,
            format!(
                "its data is not that of {source}, in {} places: {}; empty it (docs/troubleshooting.md says how), or mend the rows there, then run prepare again \
                 (salt-run migrate.checksum {source} {replica} names them all)",
                differences.len(),
                named.join("; ")
            ),
        )
    }
}

fn extent(seen: &Progress) -> Extent {
    Extent {
        tables: seen.tables.len(),
        rows: seen.tables.values().map(|table| table.rows).sum(),
        seconds: seen.seconds,
        left_out: seen.left_out.keys().cloned().collect(),
    }
}
