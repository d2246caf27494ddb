//! One connection to one server, on a thread of its own.
//!
//! Invariant: every call ends within the socket time-outs; a broken connection is reported, and opened anew only by the
//! next call; nothing here retries.

use super::Endpoint;
use crate::error::{Error, Result};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row, SslOpts, Value as Cell};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// A result row by column name; NULL is nothing.
pub type Record = BTreeMap<String, Option<String>>;

type Job = Box<dyn FnOnce(&mut Option<Conn>) + Send>;

/// A connection that is opened by its first call.
pub struct Session {
    endpoint: Endpoint,
    jobs: RefCell<Option<Sender<Job>>>,
    connection: Arc<AtomicU32>,
}

impl Session {
    /// Prepares a session; nothing is opened yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, jobs: RefCell::new(None), connection: Arc::default() }
    }

    /// Sends one packet, which may hold several statements, and returns the rows of each that has any.
    ///
    /// # Errors
    /// [`Error::Remote`] with the server's words; the statement's text is never in it.
    pub async fn packet(&self, sql: &str) -> Result<Vec<Vec<Record>>> {
        let (reply, answer) = oneshot::channel();
        let sql = sql.to_owned();
        let endpoint = self.endpoint.clone();
        let number = self.connection.clone();
        let job: Job = Box::new(move |connection| {
            let result = run(connection, &number, &endpoint, &sql);
            if matches!(&result, Err(error) if ends(error)) {
                *connection = None;
            }
            let _ = reply.send(result);
        });
        let gone = || Error::remote(&self.endpoint.name, "the session's thread is gone");
        self.sender().send(job).map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())? {
            Ok(sets) => Ok(sets),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// Sends one packet and returns the first row of its last result.
    ///
    /// # Errors
    /// As [`Session::packet`], and where there is no row.
    pub async fn row(&self, sql: &str) -> Result<Record> {
        let last = self.packet(sql).await?.pop().and_then(|rows| rows.into_iter().next());
        last.ok_or_else(|| Error::remote(&self.endpoint.name, "the server answered without a row"))
    }

    /// Returns the number by which the server knows the connection that was opened last.
    pub fn connection(&self) -> u32 {
        self.connection.load(Ordering::Relaxed)
    }

    fn sender(&self) -> Sender<Job> {
        self.jobs
            .borrow_mut()
            .get_or_insert_with(|| {
                let (jobs, queue) = channel::<Job>();
                // The thread ends when the session is dropped, for then the queue closes.
                std::thread::spawn(move || {
                    let mut connection = None;
                    while let Ok(job) = queue.recv() {
                        job(&mut connection);
                    }
                });
                jobs
            })
            .clone()
    }

    fn explain(&self, error: &mysql::Error) -> Error {
        let name = &self.endpoint.name;
        match error {
            // 1969: the bound of SET STATEMENT max_statement_time; 1317: killed by the watchdog; 1205: lock_wait_timeout.
            mysql::Error::MySqlError(server) if matches!(server.code, 1969 | 1317 | 1205) => {
                Error::Deadline { what: format!("{name}: a statement"), limit_ms: self.endpoint.statement_ms }
            }
            mysql::Error::MySqlError(server) => {
                Error::remote(name, format!("error {}: {}", server.code, server.message))
            }
            mysql::Error::IoError(error) => Error::remote(name, format!("{error} ({})", self.endpoint.place())),
            other => Error::remote(name, format!("{other} ({})", self.endpoint.place())),
        }
    }
}

/// Tells whether the connection is gone with an error: 4031 says that it was idle for too long, 1927 that it was killed.
fn ends(error: &mysql::Error) -> bool {
    match error {
        mysql::Error::IoError(_) | mysql::Error::DriverError(_) | mysql::Error::CodecError(_) => true,
        mysql::Error::MySqlError(server) => matches!(server.code, 4031 | 1927),
        _ => false,
    }
}

fn run(
    connection: &mut Option<Conn>,
    number: &AtomicU32,
    endpoint: &Endpoint,
    sql: &str,
) -> mysql::Result<Vec<Vec<Record>>> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let opened = connection.insert(open(endpoint)?);
            number.store(opened.connection_id(), Ordering::Relaxed);
            opened
        }
    };
    let mut result = connection.query_iter(sql)?;
    let mut sets = Vec::new();
    while let Some(set) = result.iter() {
        let rows: mysql::Result<Vec<Record>> = set.map(|row| row.map(record)).collect();
        let rows = rows?;
        if !rows.is_empty() {
            sets.push(rows);
        }
    }
    Ok(sets)
}

fn open(endpoint: &Endpoint) -> mysql::Result<Conn> {
    let timeout = Duration::from_millis(endpoint.connect_ms);
    if let Some(tls) = &endpoint.tls {
        // Else the words would be those of a file without a name.
        File::open(&tls.ca).map_err(|error| {
            io::Error::new(error.kind(), format!("migrate:databases:tls:ca, {}: {error}", tls.ca.display()))
        })?;
    }
    // A wait of the server may take its whole deadline, and its answer must still be heard.
    let read = Duration::from_millis(endpoint.statement_ms) + timeout;
    let tls = endpoint.tls.as_ref().map(|tls| {
        SslOpts::default()
            .with_root_cert_path(Some(tls.ca.clone()))
            .with_danger_skip_domain_validation(!tls.verify_hostname)
    });
    let mut options = OptsBuilder::new()
        .ip_or_hostname(Some(endpoint.address.to_string()))
        .tcp_port(endpoint.port)
        .user(Some(&endpoint.user))
        .pass(Some(endpoint.password.reveal()))
        .prefer_socket(false)
        .tcp_connect_timeout(Some(timeout))
        .read_timeout(Some(read))
        .write_timeout(Some(timeout))
        .tcp_keepalive_time_ms(Some(1_000))
        .ssl_opts(tls);
    // A connection that waits for its moment is not to be ended meanwhile; a site's own limit may be seconds.
    let mut first = vec!["SET SESSION wait_timeout=86400"];
    if endpoint.private_log {
        // What the controller keeps on a server is about that server alone, and must not travel down the chain.
        first.push("SET SESSION sql_log_bin=0, autocommit=1, lock_wait_timeout=5");
    }
    options = options.init(first);
    Conn::new(options)
}

fn record(row: Row) -> Record {
    let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    names.into_iter().zip(row.unwrap()).map(|(name, cell)| (name, text(cell))).collect()
}

fn text(cell: Cell) -> Option<String> {
    match cell {
        Cell::NULL => None,
        Cell::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}
