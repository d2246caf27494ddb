//! A table as a whole: one number for all its rows, whoever adds them up.
//!
//! Invariant: the sum that is added up range by range, each within the limits of a session, is the one that a single
//! statement makes.

use super::quote::text;
use super::rows::{Range, Sum, Table};
use super::session::Session;
use crate::error::{Error, Result};

impl Sum {
    /// Adds the rows of another range, as one statement over both would.
    fn and(&self, other: &Self) -> Result<Self> {
        let number = |sum: &Self| {
            sum.crc.parse::<u128>().map_err(|_| Error::remote("a sum of rows", format!("it is no number: {}", sum.crc)))
        };
        Ok(Self { rows: self.rows + other.rows, crc: (number(self)? + number(other)?).to_string() })
    }
}

/// How many rows are summed up by one statement.
const ROWS: u64 = 20_000;

impl Table {
    /// Sums all rows up.
    ///
    /// # Errors
    /// As [`Session::packet`].
    pub async fn total(&self, session: &Session) -> Result<Sum> {
        let (mut total, mut after) = (Sum { rows: 0, crc: "0".into() }, None);
        loop {
            let upto = self.bound(session, after.as_ref(), ROWS).await?;
            let last = upto.is_none();
            let sum = self.sum(session, &Range { after, upto: upto.clone() }).await?;
            if !self.has_key() {
                return Ok(sum);
            }
            total = total.and(&sum)?;
            if last {
                return Ok(total);
            }
            after = upto;
        }
    }

    /// Writes the statement that answers the table's name, its rows and their sum.
    pub fn total_sql(&self) -> String {
        format!("SELECT {}, n, crc FROM ({}) AS whole;\n", text(&self.full()), self.sum_sql(&Range::default()))
    }
}
