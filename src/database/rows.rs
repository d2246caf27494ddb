//! Tables as a comparison sees them: keys, ranges of keys, and one number for the rows in a range.
//!
//! Invariant: whatever the literals of a bound are, every row of a table lies in exactly one of the ranges that the
//! bounds divide it into, on each server.

use super::quote::{name, text};
use super::{Record, SCHEMA, Server, Session};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A bound: the key of a row, column by column, as literals.
pub type Bound = Vec<String>;

/// A table and how its rows are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
    engine: String,
    columns: Vec<Column>,
    /// The columns of the primary key, in its order; empty where there is none.
    key: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    kind: String,
    characters: Option<String>,
    nullable: bool,
}

/// What stands for the rows of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    pub rows: u64,
    pub crc: String,
}

/// A range of keys: after one bound, up to and with the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub after: Option<Bound>,
    pub upto: Option<Bound>,
}

impl Column {
    fn of(row: &Record) -> Self {
        let cell = |key: &str| row.get(key).cloned().flatten();
        Self {
            name: cell("name").unwrap_or_default(),
            kind: cell("kind").unwrap_or_default().to_lowercase(),
            characters: cell("characters"),
            nullable: cell("nullable").as_deref() == Some("YES"),
        }
    }

    /// The column as a part of a row's text: the same bytes on both sides, whatever the session's character set.
    fn plain(&self) -> String {
        let column = name(&self.name);
        match self.kind.as_str() {
            "bit" => format!("{column}+0"),
            // As a text it has six digits, and more in the row.
            "float" => format!("{column}+0e0"),
            _ if self.characters.is_some() => format!("CAST({column} AS BINARY)"),
            _ => column,
        }
    }

    /// How a key's value is asked for.
    fn asked(&self) -> String {
        let column = name(&self.name);
        match self.kind.as_str() {
            "enum" | "set" | "bit" => format!("{column}+0"),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => format!("HEX({column})"),
            _ if self.characters.is_some() => format!("HEX(CONVERT({column} USING utf8mb4))"),
            _ => format!("CAST({column} AS CHAR)"),
        }
    }

    /// And how the answer is written in a statement.
    fn literal(&self, answer: &str) -> String {
        match self.kind.as_str() {
            "enum" | "set" | "bit" => answer.to_owned(),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => format!("X'{answer}'"),
            _ if self.characters.is_some() => format!("_utf8mb4 X'{answer}'"),
            _ => text(answer),
        }
    }
}

impl Table {
    /// Names the table as people do.
    pub fn full(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Tells why the table cannot be compared at one point, where it cannot.
    pub fn unfit(&self) -> Option<String> {
        (self.engine != "InnoDB").then(|| format!("its engine, {}, has no snapshots", self.engine))
    }

    /// Tells whether it has a key to divide it by.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// Describes what differs between two definitions of what should be one table.
    pub fn differs(&self, other: &Self) -> Option<String> {
        let words = |table: &Self| -> Vec<String> {
            table.columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect()
        };
        let (here, there) = (words(self), words(other));
        if here != there {
            return Some(format!("its columns are {} and {}", here.join(", "), there.join(", ")));
        }
        (self.key.iter().map(|column| &column.name).ne(other.key.iter().map(|column| &column.name)))
            .then(|| "its primary key is another one".into())
    }

    fn place(&self) -> String {
        let index = if self.has_key() { " FORCE INDEX (PRIMARY)" } else { "" };
        format!("{}.{}{index}", name(&self.schema), name(&self.name))
    }

    fn crc(&self) -> String {
        let mut parts: Vec<String> = self.columns.iter().map(Column::plain).collect();
        let nullable: Vec<String> = self
            .columns
            .iter()
            .filter(|column| column.nullable)
            .map(|column| format!("ISNULL({})", name(&column.name)))
            .collect();
        if !nullable.is_empty() {
            parts.push(format!("CONCAT({})", nullable.join(", ")));
        }
        format!("CRC32(CONCAT_WS('#', {}))", parts.join(", "))
    }

    fn condition(&self, range: &Range) -> String {
        let mut parts = Vec::new();
        if let Some(bound) = &range.after {
            parts.push(beyond(&self.key, bound, ">", ">"));
        }
        if let Some(bound) = &range.upto {
            parts.push(beyond(&self.key, bound, "<", "<="));
        }
        if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) }
    }

    /// Asks for the key of the row that ends a range of some rows; no row where fewer are left.
    pub async fn bound(&self, session: &Session, after: Option<&Bound>, rows: u64) -> Result<Option<Bound>> {
        if !self.has_key() {
            return Ok(None);
        }
        let range = Range { after: after.cloned(), upto: None };
        let asked: Vec<String> =
            self.key.iter().enumerate().map(|(place, column)| format!("{} AS k{place}", column.asked())).collect();
        let order: Vec<String> = self.key.iter().map(|column| name(&column.name)).collect();
        let sql = format!(
            "SELECT {} FROM {}{} ORDER BY {} LIMIT 1 OFFSET {}",
            asked.join(", "),
            self.place(),
            self.condition(&range),
            order.join(", "),
            rows.max(1) - 1
        );
        let found = session.packet(&sql).await?.pop().and_then(|rows| rows.into_iter().next());
        Ok(found.map(|row| self.key_of(&row)))
    }

    fn key_of(&self, row: &Record) -> Bound {
        let answer = |place: usize| row.get(&format!("k{place}")).cloned().flatten().unwrap_or_default();
        self.key.iter().enumerate().map(|(place, column)| column.literal(&answer(place))).collect()
    }

    /// Sums the rows of a range up.
    pub async fn sum(&self, session: &Session, range: &Range) -> Result<Sum> {
        let row = session.row(&self.sum_sql(range)).await?;
        let cell = |key: &str| row.get(key).cloned().flatten().unwrap_or_default();
        let rows = cell("n").parse().map_err(|_| Error::remote(self.full(), "it counts no rows"))?;
        Ok(Sum { rows, crc: cell("crc") })
    }

    /// Writes the statement by which the rows of a range are summed up.
    pub(super) fn sum_sql(&self, range: &Range) -> String {
        format!(
            // Not BIT_XOR: one and the same change of two rows changes both CRCs by the same bits, and they would cancel
            // each other out; so would equal rows, where there is no key.
            "SELECT COUNT(*) AS n, COALESCE(SUM({}), 0) AS crc FROM {}{}",
            self.crc(),
            self.place(),
            self.condition(range)
        )
    }

    /// Returns a number for each row of a range, by its key.
    pub async fn each(&self, session: &Session, range: &Range) -> Result<BTreeMap<Bound, String>> {
        let asked: Vec<String> =
            self.key.iter().enumerate().map(|(place, column)| format!("{} AS k{place}", column.asked())).collect();
        let sql = format!(
            "SELECT {}, {} AS crc FROM {}{}",
            asked.join(", "),
            self.crc(),
            self.place(),
            self.condition(range)
        );
        let sets = session.packet(&sql).await?;
        let pair = |row: &Record| (self.key_of(row), row.get("crc").cloned().flatten().unwrap_or_default());
        Ok(sets.iter().flatten().map(pair).collect())
    }
}

/// Compares a key with a bound so that an index serves: a row comparison of several columns would read the whole table.
fn beyond(key: &[Column], bound: &[String], strictly: &str, last: &str) -> String {
    let (column, value) = (name(&key[0].name), &bound[0]);
    if key.len() == 1 {
        return format!("{column} {last} {value}");
    }
    let rest = beyond(&key[1..], &bound[1..], strictly, last);
    format!("({column} {strictly}= {value} AND ({column} {strictly} {value} OR ({column} = {value} AND {rest})))")
}

impl Server {
    /// Lists the tables of the site, the migration's own and the server's left out.
    ///
    /// # Errors
    /// [`Error::Remote`] where they cannot be asked for.
    pub async fn tables(&self) -> Result<Vec<Table>> {
        let ours = format!("TABLE_SCHEMA NOT IN ('mysql','sys','information_schema','performance_schema','{SCHEMA}')");
        let sql = format!(
            "SELECT TABLE_SCHEMA AS home, TABLE_NAME AS name, ENGINE AS engine FROM information_schema.TABLES \
             WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED') AND {ours} ORDER BY 1, 2; \
             SELECT TABLE_SCHEMA AS home, TABLE_NAME AS place, COLUMN_NAME AS name, DATA_TYPE AS kind, \
             CHARACTER_SET_NAME AS characters, IS_NULLABLE AS nullable FROM information_schema.COLUMNS WHERE {ours} \
             ORDER BY 1, 2, ORDINAL_POSITION; \
             SELECT TABLE_SCHEMA AS home, TABLE_NAME AS place, COLUMN_NAME AS name FROM information_schema.STATISTICS \
             WHERE {ours} AND INDEX_NAME='PRIMARY' ORDER BY 1, 2, SEQ_IN_INDEX"
        );
        let sets = self.session.packet(&sql).await?;
        let cell = |row: &Record, key: &str| row.get(key).cloned().flatten().unwrap_or_default();
        type By<T> = BTreeMap<(String, String), Vec<T>>;
        let mut tables: Vec<Table> = Vec::new();
        let (mut columns, mut keys) = (By::<Column>::new(), By::<String>::new());
        // A set without rows is not there, so each is known by its columns.
        for row in sets.iter().flatten() {
            let place = (cell(row, "home"), cell(row, "place"));
            if row.contains_key("engine") {
                let (schema, name, engine) = (cell(row, "home"), cell(row, "name"), cell(row, "engine"));
                tables.push(Table { schema, name, engine, columns: Vec::new(), key: Vec::new() });
            } else if row.contains_key("kind") {
                columns.entry(place).or_default().push(Column::of(row));
            } else {
                keys.entry(place).or_default().push(cell(row, "name"));
            }
        }
        for table in &mut tables {
            let place = (table.schema.clone(), table.name.clone());
            table.columns = columns.remove(&place).unwrap_or_default();
            for part in keys.remove(&place).unwrap_or_default() {
                table.key.extend(table.columns.iter().find(|column| column.name == part).cloned());
            }
        }
        Ok(tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: &str, characters: Option<&str>) -> Column {
        Column { name: name.into(), kind: kind.into(), characters: characters.map(Into::into), nullable: false }
    }

    #[test]
    fn a_bound_of_several_columns_is_written_so_that_an_index_serves() {
        let key = [column("a", "int", None), column("b", "varchar", Some("utf8mb4"))];
        let bound = vec!["'5'".to_owned(), "_utf8mb4 X'61'".to_owned()];
        assert_eq!(
            beyond(&key, &bound, ">", ">"),
            "(`a` >= '5' AND (`a` > '5' OR (`a` = '5' AND `b` > _utf8mb4 X'61')))"
        );
        assert_eq!(
            beyond(&key, &bound, "<", "<="),
            "(`a` <= '5' AND (`a` < '5' OR (`a` = '5' AND `b` <= _utf8mb4 X'61')))"
        );
    }

    #[test]
    fn a_key_is_asked_for_so_that_its_bytes_survive() {
        let binary = column("title", "varbinary", None);
        assert_eq!((binary.asked(), binary.literal("FF00")), ("HEX(`title`)".into(), "X'FF00'".into()));
        let day = column("day", "date", None);
        assert_eq!(day.literal("2026-01-01"), "'2026-01-01'");
    }
}
