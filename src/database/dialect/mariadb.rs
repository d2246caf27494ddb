//! MariaDB's column: compound statements, GTID domains, a fence that bounds itself.

use super::super::gtid::{self, Position};
use super::super::pinned::Pinning;
use super::super::quote::text;
use super::super::server::seconds;
use super::super::{Record, SCHEMA, Status};
use super::{Columns, Dialect, Errant, Harm, Remark, Source, Words, rights};
use crate::error::Result;
use std::time::Duration;

/// MariaDB, by what it has had since 10.6.
pub struct MariaDb;

/// `User` and `Host` of those who get a global right through a role, whatever roles lie between; what the role PUBLIC has
/// everybody has. No view of the server lists what a role may do: its rights are the bits of `access` (MariaDB Server,
/// sql/privilege.h).
macro_rules! through_roles {
    ($access:literal) => {
        concat!(
            "(WITH RECURSIVE role (name) AS (\
               SELECT User FROM mysql.global_priv WHERE JSON_VALUE(Priv,'$.is_role') AND ",
            $access,
            " UNION SELECT further.User FROM mysql.roles_mapping AS further JOIN role ON further.Role = role.name \
               WHERE further.Host = '') \
             SELECT User, Host FROM mysql.roles_mapping JOIN role ON Role = name WHERE Host <> '' \
             UNION SELECT name, '%' FROM role WHERE name = 'PUBLIC') AS holder"
        )
    };
}

/// Names of those whose statements a read-only server may log.
pub const PRIVILEGED: &str = concat!(
    "SELECT SUBSTRING_INDEX(SUBSTRING(GRANTEE, 2), '''@''', 1) FROM information_schema.USER_PRIVILEGES \
     WHERE PRIVILEGE_TYPE IN ('RELOAD','SUPER','READ_ONLY ADMIN') UNION SELECT User FROM ",
    through_roles!("JSON_VALUE(Priv,'$.access') & 0x200008040")
);

const WORDS: &Words = &Words {
    family: "MariaDB",
    oldest: (10, 6, 0),
    facts: "SELECT @@global.read_only AS read_only, @@global.server_id AS server_id, VERSION() AS version, \
            @@global.gtid_binlog_pos AS binlog_position, @@global.gtid_current_pos AS position, \
            @@global.gtid_binlog_state AS binlog_state, @@global.gtid_domain_id AS domain, @@global.log_bin AS log_bin, \
            @@global.log_slave_updates AS updates, @@global.gtid_strict_mode AS strict, @@global.binlog_format AS format, \
            @@global.sync_binlog AS sync_binlog, @@global.innodb_flush_log_at_trx_commit AS flush_log, \
            @@global.event_scheduler AS events",
    channels: "SHOW ALL SLAVES STATUS",
    replicas: "SHOW SLAVE HOSTS",
    stop: "STOP SLAVE",
    forget: "STOP SLAVE; RESET SLAVE ALL",
    position: "SELECT @@global.gtid_current_pos AS position",
    binlog_position: "SELECT @@global.gtid_binlog_pos AS position",
    binlog_status: &["SHOW MASTER STATUS"],
    last_written: "SELECT @@last_gtid AS position",
    // READ_ONLY ADMIN was part of SUPER before 10.11 (MariaDB Server documentation, "Grant").
    logins: concat!(
        "SELECT CONCAT(User,'@',Host) AS account, SHA2(CONCAT_WS('#', JSON_VALUE(Priv,'$.plugin'), \
           JSON_VALUE(Priv,'$.authentication_string'), JSON_QUERY(Priv,'$.auth_or'), \
           COALESCE(JSON_VALUE(Priv,'$.account_locked') IN ('1','true'), 0)), 256) \
           AS proof FROM mysql.global_priv; ",
        rights!("SELECT CONCAT(User,'@',Host), CONCAT('role ', Role) FROM mysql.roles_mapping")
    ),
    bypassing: concat!(
        "SELECT DISTINCT GRANTEE AS grantee FROM information_schema.USER_PRIVILEGES \
         WHERE PRIVILEGE_TYPE = 'READ_ONLY ADMIN' OR (PRIVILEGE_TYPE = 'SUPER' AND \
           SUBSTRING_INDEX(VERSION(),'.',1) * 100 + SUBSTRING_INDEX(SUBSTRING_INDEX(VERSION(),'.',2),'.',-1) < 1011) \
         UNION SELECT CONCAT(User,'@',Host) FROM ",
        through_roles!(
            "(JSON_VALUE(Priv,'$.access') & 0x200000000 OR JSON_VALUE(Priv,'$.access') & 0x8000 \
              AND COALESCE(JSON_VALUE(Priv,'$.version_id'),0) < 101100)"
        )
    ),
    // A function that is called within a statement is refused with it.
    procedures: Some(
        "SELECT CONCAT(db,'.',name) AS name, definer FROM mysql.proc WHERE type='PROCEDURE' AND security_type='DEFINER' \
         AND db NOT IN ('mysql','sys')",
    ),
    needed: &[
        "READ_ONLY ADMIN",
        "BINLOG ADMIN",
        "BINLOG MONITOR",
        "REPLICATION SLAVE ADMIN",
        "REPLICATION MASTER ADMIN",
        "SLAVE MONITOR",
        "CONNECTION ADMIN",
        "PROCESS",
        "EVENT",
        "RELOAD",
        "SUPER",
    ],
    close_by_hand: "SET GLOBAL read_only=1",
    open_by_hand: "SET GLOBAL read_only=0;",
    end_by_hand: "STOP SLAVE; RESET SLAVE ALL",
    undelay_by_hand: "CHANGE MASTER TO MASTER_DELAY=0",
    semi_sync: &[("rpl_semi_sync_master_enabled", "rpl_semi_sync_master_timeout")],
    replica_updates: "log_slave_updates",
    copied: "SELECT @@global.gtid_slave_pos AS position",
    copied_engines: "'InnoDB','ROCKSDB'",
    size: "SELECT CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) AS bytes FROM information_schema.TABLES \
           WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED')",
    copies_by: None,
    engine_tables: ("INNODB_SYS_TABLES", "INNODB_SYS_COLUMNS"),
    columns: Columns {
        channel: "Connection_name",
        host: "Master_Host",
        port: "Master_Port",
        server_id: "Master_Server_Id",
        receiving: "Slave_IO_Running",
        applying: "Slave_SQL_Running",
        tls: "Master_SSL_Allowed",
        replica: "Server_id",
    },
};

impl Dialect for MariaDb {
    fn words(&self) -> &'static Words {
        WORDS
    }

    fn bounds_a_fence(&self) -> bool {
        true
    }

    fn waits_for_its_own(&self) -> bool {
        // It looks at what replication applied only.
        false
    }

    fn source_needs(&self, position: &str, quarantine: u32) -> Result<Option<String>> {
        // A position that the source does not know ends the channel, but in a domain of which it knows nothing at all.
        Ok(Some(Position::read(position)?.without(quarantine).to_string()))
    }

    fn events_pass_a_fence(&self) -> bool {
        true
    }

    fn keeps_its_role(&self) -> bool {
        false
    }

    fn make_tables(&self, _closed: bool) -> String {
        super::tables()
    }

    fn has_tables(&self) -> String {
        format!("SELECT ({}) = 2 AS ready", super::TABLES)
    }

    fn open_decision(&self, run: &str) -> String {
        let run = text(run);
        format!(
            "UPDATE {SCHEMA}.decision SET state='unfence', decided=NOW(6) WHERE state='open' AND run<>{run}; \
             {supersede}; \
             INSERT IGNORE INTO {SCHEMA}.decision (run, state, opened) VALUES ({run}, 'open', NOW(6))",
            supersede = super::supersede(&run)
        )
    }

    fn decide_to_go_back(&self, run: &str) -> String {
        let run = text(run);
        format!(
            "UPDATE {SCHEMA}.decision SET state='unfence', decided=NOW(6) WHERE run={run} AND state='open'; \
             SELECT COALESCE((SELECT state FROM {SCHEMA}.decision WHERE run={run}), 'none') AS state"
        )
    }

    /// Two who meet in the middle end open: the fence looks again after it took, and an unfence writes before it opens.
    fn fence(&self, run: &str, limit_ms: u64) -> String {
        let run = text(run);
        let lifted = format!("EXISTS (SELECT 1 FROM {SCHEMA}.fence WHERE run={run} AND state='lifted')");
        format!(
            "{announcement}; \
             SET STATEMENT max_statement_time={limit} FOR BEGIN NOT ATOMIC \
               IF NOT {lifted} THEN \
                 SET GLOBAL read_only=1; \
                 IF {lifted} AND NOT {others} THEN SET GLOBAL read_only=0; END IF; \
               END IF; \
             END; \
             SELECT @@global.read_only AS read_only, @@global.gtid_binlog_pos AS position, \
               (SELECT state FROM {SCHEMA}.fence WHERE run={run}) AS state",
            announcement = super::announcement(&run),
            limit = seconds(limit_ms),
            others = super::others(&run)
        )
    }

    fn unfence(&self, run: &str, first: &str) -> String {
        let run = text(run);
        format!(
            "BEGIN NOT ATOMIC \
               DECLARE came INT DEFAULT 0; \
               SELECT COUNT(*) INTO came FROM {SCHEMA}.fence WHERE run={run}; \
               INSERT INTO {SCHEMA}.fence (run, state, at) VALUES ({run}, 'lifted', NOW(6)) \
                 ON DUPLICATE KEY UPDATE state='lifted'; \
               IF came = 1 AND NOT {others} THEN {first} SET GLOBAL read_only=0; END IF; \
             END",
            others = super::others(&run)
        )
    }

    fn promote(&self, run: &str, position: &str, limit_ms: u64) -> String {
        format!(
            "BEGIN NOT ATOMIC \
               DECLARE arrived INT DEFAULT -1; DECLARE won INT DEFAULT 0; \
               SET arrived = MASTER_GTID_WAIT({position}, {limit}); \
               IF arrived = 0 THEN \
                 UPDATE {SCHEMA}.decision SET state='promote', position={position}, decided=NOW(6) WHERE run={run} AND state='open'; \
                 SELECT COUNT(*) INTO won FROM {SCHEMA}.decision WHERE run={run} AND state='promote'; \
                 IF won = 1 THEN SET GLOBAL read_only=0; END IF; \
               END IF; \
               SELECT arrived, won, @@global.read_only AS read_only, @@global.gtid_binlog_pos AS position; \
             END",
            position = text(position),
            limit = seconds(limit_ms),
            run = text(run)
        )
    }

    fn close(&self) -> &'static str {
        WORDS.close_by_hand
    }

    fn reopen(&self, run: &str) -> String {
        format!(
            "BEGIN NOT ATOMIC IF {won} THEN SET GLOBAL read_only=0; END IF; END; \
             SELECT @@global.read_only AS read_only",
            won = super::still_won(&text(run))
        )
    }

    fn open_alone(&self) -> String {
        format!("{}; SET GLOBAL read_only=0", super::LIFT_ALL)
    }

    fn received(&self) -> &'static str {
        WORDS.channels
    }

    fn pinning(&self) -> Pinning {
        // A snapshot of MariaDB knows its place in the binlog ("START TRANSACTION", MariaDB Server documentation).
        Pinning::Told {
            snapshot: "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET SESSION time_zone='+00:00'; \
                       START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY; \
                       SELECT BINLOG_GTID_POS(f.VARIABLE_VALUE, p.VARIABLE_VALUE) AS position \
                       FROM information_schema.SESSION_STATUS AS f, information_schema.SESSION_STATUS AS p \
                       WHERE f.VARIABLE_NAME='BINLOG_SNAPSHOT_FILE' AND p.VARIABLE_NAME='BINLOG_SNAPSHOT_POSITION'",
        }
    }

    fn site_domain(&self, status: &Status, quarantine: u32) -> Result<Option<u32>> {
        Ok(Position::read(&status.position)?.busiest(quarantine).or(status.own.domain))
    }

    fn wait(&self, position: &str, limit_ms: u64) -> String {
        format!("SELECT MASTER_GTID_WAIT({}, {}) AS waited", text(position), seconds(limit_ms))
    }

    fn normal(&self, position: &str) -> Result<String> {
        Ok(Position::read(position)?.to_string())
    }

    fn holds(&self, position: &str, wanted: &str) -> Result<bool> {
        Ok(Position::read(position)?.contains(&Position::read(wanted)?))
    }

    fn errant(&self, status: &Status, writer: &Status, quarantine: u32) -> Result<Vec<Errant>> {
        let found = gtid::errant(&status.binlog_state, &writer.binlog_state, writer.server_id)?;
        let harm = |one: &gtid::Errant| match (one.gtid.domain == quarantine, one.ahead) {
            (true, _) => Harm::Quarantined,
            (false, true) => Harm::Stops,
            (false, false) => Harm::Stays,
        };
        Ok(found.iter().map(|one| Errant { gtids: one.gtid.to_string(), harm: harm(one) }).collect())
    }

    fn apart(&self, status: &Status, successor: &Status, quarantine: u32) -> Result<Option<String>> {
        let found = gtid::errant(&status.binlog_state, &successor.binlog_state, successor.server_id)?;
        // Of what others wrote before it was the primary, a successor that was seeded later need not know.
        let own = |one: &&gtid::Errant| one.gtid.server == status.server_id && one.gtid.domain != quarantine;
        let gtids: Vec<String> = found.iter().filter(own).map(|one| one.gtid.to_string()).collect();
        Ok((!gtids.is_empty()).then(|| gtids.join(", ")))
    }

    fn quarantined(&self, status: &Status, quarantine: u32) -> Result<bool> {
        Ok(Position::read(&status.binlog_state)?.domains().any(|domain| domain == quarantine))
    }

    fn begins_at(&self, ours: &str, theirs: &str, quarantine: u32) -> Result<Option<String>> {
        // What a primary wrote itself is in its binlog alone; without being told it would ask for what it has.
        let begins = Position::read(ours)?.with_domain(quarantine, &Position::read(theirs)?);
        Ok(Some(begins.to_string()))
    }

    fn follow(&self, source: &Source, at: Option<&str>) -> String {
        // Of its own work in the quarantine it may have more than it asks for, which strict mode would not hear of.
        let told = at.map_or_else(String::new, |position| {
            format!(
                "BEGIN NOT ATOMIC DECLARE strict INT DEFAULT @@global.gtid_strict_mode; \
                 DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN SET GLOBAL gtid_strict_mode=strict; RESIGNAL; END; \
                 SET GLOBAL gtid_strict_mode=0; SET GLOBAL gtid_slave_pos={}; SET GLOBAL gtid_strict_mode=strict; END; ",
                text(position)
            )
        });
        format!("{told}CHANGE MASTER TO {}, MASTER_USE_GTID=slave_pos; START SLAVE", connection(source))
    }

    /// By file and position, for a GTID position that still moves cannot be asked for; from the file's beginning, for its end
    /// moves as well, and was once no place at which an event begins.
    fn try_to_follow(&self, channel: &str, source: &Source, at: Option<&Record>) -> String {
        let column = |key: &str| at.and_then(|row| row.get(key)).and_then(Option::as_deref).unwrap_or_default();
        format!(
            "CHANGE MASTER '{channel}' TO {}, MASTER_USE_GTID=no, MASTER_LOG_FILE={}, MASTER_LOG_POS=4; \
             START SLAVE '{channel}' IO_THREAD",
            connection(source),
            text(column("File"))
        )
    }

    fn trial_from(&self) -> Option<&'static str> {
        Some("SHOW MASTER STATUS")
    }

    fn forget_channel(&self, channel: &str) -> String {
        format!("STOP SLAVE '{channel}'; RESET SLAVE '{channel}' ALL")
    }

    fn at_work(&self, nodes: &str, last: u64, quiet: Duration) -> String {
        format!(
            "SELECT COUNT(*) AS busy FROM information_schema.PROCESSLIST AS p \
             LEFT JOIN information_schema.INNODB_TRX AS t ON t.trx_mysql_thread_id = p.ID \
             WHERE p.ID <= {last} AND {host} IN ({nodes}) AND p.COMMAND NOT LIKE 'Binlog Dump%' \
               AND (p.COMMAND <> 'Sleep' OR p.TIME_MS < {quiet} OR t.trx_rows_modified > 0)",
            host = super::HOST,
            quiet = quiet.as_millis()
        )
    }

    /// A source that was a replica itself has its own source's transactions in a table, which the copy holds, and those
    /// that it logged beside the copy: the later of both is where it stood.
    fn stands(&self, copied: &str, logged: &str) -> Result<(String, Option<String>)> {
        let copied = Position::read(copied)?;
        let stands = Position::read(logged)?.or(&copied).to_string();
        let tell = (stands != copied.to_string()).then(|| format!("SET GLOBAL gtid_slave_pos={}", text(&stands)));
        Ok((stands, tell))
    }

    fn remarks(&self, status: &Status) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if status.own.gtid_strict_mode == Some(false) {
            remarks.push(Remark {
                blocking: false,
                found: "gtid_strict_mode is off".into(),
                mend: "SET GLOBAL gtid_strict_mode=ON, so that a stray write is refused and not mixed in",
            });
        }
        remarks
    }

    fn open_by_page(&self, domain: Option<u32>, scheduler: bool) -> String {
        let domain = domain.map_or_else(String::new, |domain| format!("SET GLOBAL gtid_domain_id={domain};\n"));
        format!(
            "SET SESSION sql_log_bin=0;\n{};\n{domain}{}{}",
            super::LIFT_ALL,
            WORDS.open_by_hand,
            super::scheduled(scheduler)
        )
    }

    fn decide_by_hand(&self) -> String {
        format!("{}{}", super::DECIDE_BY_HAND.0, super::DECIDE_BY_HAND.1)
    }
}

fn connection(source: &Source) -> String {
    // Off is said too: from 11.4 on it is on, and verified, unless it is told otherwise.
    let tls = match source.tls {
        Some((ca, verify)) => format!(
            "MASTER_SSL=1, MASTER_SSL_CA={}, MASTER_SSL_VERIFY_SERVER_CERT={}",
            text(&ca.to_string_lossy()),
            u8::from(verify)
        ),
        None => "MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0".to_owned(),
    };
    format!(
        "MASTER_HOST={}, MASTER_PORT={}, MASTER_USER={}, MASTER_PASSWORD={}, MASTER_CONNECT_RETRY=1, {tls}",
        text(&source.address.to_string()),
        source.port,
        text(source.user),
        text(source.password)
    )
}
