//! MySQL's column: stored procedures, GTID sets, `super_read_only`.
//!
//! There are no statements without a procedure that decide anything, so each packet is a call of one that was made before.
//! Nobody writes past `super_read_only`, our own rows included: a procedure lifts it for one row, while `read_only`
//! stands, under a lock of the server, so that no two of them lift and close against one another.

use super::super::gtid_set::GtidSet;
use super::super::pinned::Pinning;
use super::super::quote::text;
use super::super::server::seconds;
use super::super::{Record, SCHEMA, Status};
use super::{Columns, Dialect, Errant, Harm, Remark, Source, Words, rights};
use crate::error::Result;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// MySQL, from the release on that says replica and source.
pub struct MySql;

const WORDS: &Words = &Words {
    family: "MySQL",
    oldest: (8, 0, 23),
    facts: "SELECT @@global.read_only AS read_only, @@global.super_read_only AS super_read_only, \
            @@global.server_id AS server_id, @@global.server_uuid AS uuid, VERSION() AS version, \
            @@global.gtid_executed AS binlog_position, @@global.gtid_executed AS position, \
            @@global.gtid_executed AS binlog_state, @@global.gtid_purged AS purged, @@global.gtid_mode AS gtid_mode, \
            @@global.log_bin AS log_bin, @@global.log_replica_updates AS updates, @@global.binlog_format AS format, \
            @@global.sync_binlog AS sync_binlog, @@global.innodb_flush_log_at_trx_commit AS flush_log, \
            @@global.event_scheduler AS events",
    channels: "SHOW REPLICA STATUS",
    replicas: "SHOW REPLICAS",
    stop: "STOP REPLICA",
    forget: "STOP REPLICA; RESET REPLICA ALL",
    position: "SELECT @@global.gtid_executed AS position",
    binlog_position: "SELECT @@global.gtid_executed AS position",
    binlog_status: &["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"],
    last_written: "SELECT @@global.gtid_executed AS position",
    logins: concat!(
        "SELECT CONCAT(User,'@',Host) AS account, SHA2(CONCAT_WS('#', plugin, HEX(authentication_string), account_locked), 256) \
           AS proof FROM mysql.user; ",
        rights!("SELECT CONCAT(TO_USER,'@',TO_HOST), CONCAT('role ', FROM_USER, '@', FROM_HOST) FROM mysql.role_edges")
    ),
    // Nobody: super_read_only holds off whoever may do everything else.
    bypassing: "SELECT '' AS grantee WHERE FALSE",
    procedures: None,
    needed: &[
        "SYSTEM_VARIABLES_ADMIN",
        "PERSIST_RO_VARIABLES_ADMIN",
        "REPLICATION_SLAVE_ADMIN",
        "CONNECTION_ADMIN",
        "XA_RECOVER_ADMIN",
        "REPLICATION CLIENT",
        "REPLICATION SLAVE",
        "RELOAD",
        "PROCESS",
        "EVENT",
    ],
    close_by_hand: "SET PERSIST super_read_only=ON",
    open_by_hand: "SET PERSIST super_read_only=OFF;\nSET PERSIST read_only=OFF;",
    end_by_hand: "STOP REPLICA; RESET REPLICA ALL",
    undelay_by_hand: "CHANGE REPLICATION SOURCE TO SOURCE_DELAY=0",
    semi_sync: &[
        ("rpl_semi_sync_source_enabled", "rpl_semi_sync_source_timeout"),
        ("rpl_semi_sync_master_enabled", "rpl_semi_sync_master_timeout"),
    ],
    replica_updates: "log_replica_updates",
    copied: "SELECT @@global.gtid_executed AS position",
    copied_engines: "'InnoDB'",
    // Of tables their statistics know only what was the case a day ago. The system's own space is in another list.
    size: "SELECT CAST(COALESCE(SUM(FILE_SIZE), 0) AS UNSIGNED) + (SELECT CAST(COALESCE(SUM(TOTAL_EXTENTS * EXTENT_SIZE), 0) AS UNSIGNED) \
           FROM information_schema.FILES WHERE FILE_ID = 0) AS bytes FROM information_schema.INNODB_TABLESPACES",
    copies_by: Some("clone"),
    engine_tables: ("INNODB_TABLES", "INNODB_COLUMNS"),
    columns: Columns {
        channel: "Channel_Name",
        host: "Source_Host",
        port: "Source_Port",
        server_id: "Source_Server_Id",
        receiving: "Replica_IO_Running",
        applying: "Replica_SQL_Running",
        tls: "Source_SSL_Allowed",
        replica: "Server_Id",
    },
};

/// Closes again what was lifted for a row. Where somebody's transaction holds that up `read_only` stands, and the
/// checks tell of the rest; the row is written all the same.
const CLOSE_AGAIN: &str =
    "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; SET GLOBAL super_read_only=ON; END";

/// Begins a procedure that writes rows on a server that may be closed.
const LIFTED: &str = "DECLARE was INT DEFAULT 0; \
     DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN \
       IF was AND @@global.read_only THEN SET GLOBAL super_read_only=ON; END IF; \
       DO RELEASE_LOCK('saltext_migrate'); RESIGNAL; END; \
     IF GET_LOCK('saltext_migrate', 5) <> 1 THEN \
       SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='somebody else is deciding here'; END IF; \
     SET was = @@global.super_read_only; \
     IF was THEN SET GLOBAL super_read_only=OFF; END IF;";

/// Names each procedure, its parameters and its body.
fn procedures() -> [(&'static str, &'static str, String); 6] {
    let lifted = format!("EXISTS (SELECT 1 FROM {SCHEMA}.fence WHERE run=this AND state='lifted')");
    let announcement = super::announcement("this");
    let (others, supersede) = (super::others("this"), super::supersede("this"));
    [
        (
            "open_decision",
            "this VARCHAR(64)",
            format!(
                "{LIFTED} \
                 UPDATE {SCHEMA}.decision SET state='unfence', decided=NOW(6) WHERE state='open' AND run<>this; \
                 {supersede}; \
                 INSERT IGNORE INTO {SCHEMA}.decision (run, state, opened) VALUES (this, 'open', NOW(6)); \
                 IF was THEN {CLOSE_AGAIN}; END IF; DO RELEASE_LOCK('saltext_migrate');"
            ),
        ),
        (
            "go_back",
            "this VARCHAR(64)",
            format!(
                "{LIFTED} \
                 UPDATE {SCHEMA}.decision SET state='unfence', decided=NOW(6) WHERE run=this AND state='open'; \
                 IF was THEN {CLOSE_AGAIN}; END IF; DO RELEASE_LOCK('saltext_migrate'); \
                 SELECT COALESCE((SELECT state FROM {SCHEMA}.decision WHERE run=this), 'none') AS state;"
            ),
        ),
        (
            // Two who meet in the middle end open: the fence looks again after it took, and an unfence writes before
            // it opens.
            "fence",
            "this VARCHAR(64)",
            format!(
                "{announcement}; \
                 IF NOT {lifted} THEN \
                   SET GLOBAL super_read_only=ON; \
                   IF {lifted} AND NOT {others} THEN SET GLOBAL read_only=OFF; END IF; \
                 END IF; \
                 SELECT @@global.super_read_only AS read_only, @@global.gtid_executed AS position, \
                   (SELECT state FROM {SCHEMA}.fence WHERE run=this) AS state;"
            ),
        ),
        (
            "unfence",
            "this VARCHAR(64)",
            format!(
                "DECLARE came INT DEFAULT 0; {LIFTED} \
                 SELECT COUNT(*) INTO came FROM {SCHEMA}.fence WHERE run=this; \
                 INSERT INTO {SCHEMA}.fence (run, state, at) VALUES (this, 'lifted', NOW(6)) \
                   ON DUPLICATE KEY UPDATE state='lifted'; \
                 IF came = 1 AND NOT {others} THEN SET GLOBAL read_only=OFF; ELSEIF was THEN {CLOSE_AGAIN}; END IF; \
                 DO RELEASE_LOCK('saltext_migrate');"
            ),
        ),
        (
            "reopen",
            "this VARCHAR(64)",
            format!(
                "IF {won} THEN SET GLOBAL read_only=OFF; END IF; SELECT @@global.read_only AS read_only;",
                won = super::still_won("this")
            ),
        ),
        (
            "promote",
            "this VARCHAR(64), upto LONGTEXT, seconds DECIMAL(12,3)",
            format!(
                "DECLARE arrived INT DEFAULT WAIT_FOR_EXECUTED_GTID_SET(upto, seconds); DECLARE won INT DEFAULT 0; \
                 IF arrived = 0 THEN BEGIN {LIFTED} \
                   UPDATE {SCHEMA}.decision SET state='promote', position=upto, decided=NOW(6) WHERE run=this AND state='open'; \
                   SELECT COUNT(*) INTO won FROM {SCHEMA}.decision WHERE run=this AND state='promote'; \
                   IF won = 1 THEN SET GLOBAL read_only=OFF; ELSEIF was THEN {CLOSE_AGAIN}; END IF; \
                   DO RELEASE_LOCK('saltext_migrate'); \
                 END; END IF; \
                 SELECT arrived, won, @@global.read_only AS read_only, @@global.gtid_executed AS position;"
            ),
        ),
    ]
}

/// Tells one release's procedures from another's.
fn mark() -> String {
    let digest = procedures().iter().fold(Sha256::new(), |digest, (name, parameters, body)| {
        digest.chain_update(name).chain_update(parameters).chain_update(body)
    });
    let digest = digest.finalize();
    format!("saltext-migrate {:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

impl Dialect for MySql {
    fn words(&self) -> &'static Words {
        WORDS
    }

    fn bounds_a_fence(&self) -> bool {
        // lock_wait_timeout knows whole seconds only.
        false
    }

    fn waits_for_its_own(&self) -> bool {
        true
    }

    fn source_needs(&self, _position: &str, _quarantine: u32) -> Result<Option<String>> {
        // By auto-position each is sent what it lacks, whatever else it has.
        Ok(None)
    }

    fn events_pass_a_fence(&self) -> bool {
        // Its scheduler runs none while nobody may write.
        false
    }

    fn keeps_its_role(&self) -> bool {
        true
    }

    fn make_tables(&self, closed: bool) -> String {
        let mark = mark();
        let mut sql = format!("{}; ", super::tables());
        for (name, parameters, body) in procedures() {
            sql += &format!(
                "DROP PROCEDURE IF EXISTS {SCHEMA}.{name}; \
                 CREATE PROCEDURE {SCHEMA}.{name}({parameters}) SQL SECURITY INVOKER COMMENT '{mark}' BEGIN {body} END; "
            );
        }
        let (open, close) =
            if closed { ("SET GLOBAL super_read_only=OFF; ", "SET GLOBAL super_read_only=ON") } else { ("", "DO 0") };
        format!("{open}{sql}{close}")
    }

    fn has_tables(&self) -> String {
        format!(
            "SELECT ({}) = 2 AND (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='{SCHEMA}' \
             AND ROUTINE_COMMENT='{}') = {} AS ready",
            super::TABLES,
            mark(),
            procedures().len()
        )
    }

    fn open_decision(&self, run: &str) -> String {
        format!("CALL {SCHEMA}.open_decision({})", text(run))
    }

    fn decide_to_go_back(&self, run: &str) -> String {
        format!("CALL {SCHEMA}.go_back({})", text(run))
    }

    fn fence(&self, run: &str, limit_ms: u64) -> String {
        // The server's own limit stands behind ours.
        format!(
            "SET SESSION lock_wait_timeout={}; CALL {SCHEMA}.fence({}); SET SESSION lock_wait_timeout=5",
            limit_ms.div_ceil(1000).max(1),
            text(run)
        )
    }

    fn unfence(&self, run: &str, _first: &str) -> String {
        format!("CALL {SCHEMA}.unfence({})", text(run))
    }

    fn promote(&self, run: &str, position: &str, limit_ms: u64) -> String {
        format!("CALL {SCHEMA}.promote({}, {}, {})", text(run), text(position), seconds(limit_ms))
    }

    fn close(&self) -> &'static str {
        "SET GLOBAL super_read_only=ON"
    }

    fn reopen(&self, run: &str) -> String {
        format!("CALL {SCHEMA}.reopen({})", text(run))
    }

    fn open_alone(&self) -> String {
        format!("SET GLOBAL super_read_only=OFF; {}; SET GLOBAL read_only=OFF", super::LIFT_ALL)
    }

    fn received(&self) -> &'static str {
        "SELECT RECEIVED_TRANSACTION_SET AS position FROM performance_schema.replication_connection_status \
         WHERE CHANNEL_NAME=''"
    }

    fn pinning(&self) -> Pinning {
        // A transaction is owned before its engine commits and executed after that. So whatever the snapshot shows is owned
        // or executed right after it; where nothing is owned then, and nothing came to what was executed before, it shows
        // what was executed, no more and no less.
        Pinning::Between {
            snapshot: "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET SESSION time_zone='+00:00'; \
                       SET @before=@@global.gtid_executed; \
                       START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY; \
                       SET @owned=@@global.gtid_owned, @after=@@global.gtid_executed; \
                       SELECT @owned='' AND @before=@after AS quiet, @after AS position",
            same: |source, replica, uuid| {
                let (source, replica) = (GtidSet::read(source)?, GtidSet::read(replica)?);
                // What the replica alone has of somebody else is another check's to name.
                let more = replica.without(&source);
                Ok(replica.contains(&source) && more.of_none_in(&source) && more.not_of(uuid) == more)
            },
        }
    }

    fn site_domain(&self, _status: &Status, _quarantine: u32) -> Result<Option<u32>> {
        Ok(None)
    }

    fn wait(&self, position: &str, limit_ms: u64) -> String {
        format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {}) AS waited", text(position), seconds(limit_ms))
    }

    fn normal(&self, position: &str) -> Result<String> {
        Ok(GtidSet::read(position)?.to_string())
    }

    fn holds(&self, position: &str, wanted: &str) -> Result<bool> {
        Ok(GtidSet::read(position)?.contains(&GtidSet::read(wanted)?))
    }

    fn errant(&self, status: &Status, writer: &Status, _quarantine: u32) -> Result<Vec<Errant>> {
        let ours = GtidSet::read(&status.binlog_state)?.without(&GtidSet::read(&writer.binlog_state)?);
        let errant = ours.not_of(writer.own.uuid.as_deref().unwrap_or_default());
        let found = (!errant.is_empty()).then(|| Errant { gtids: errant.to_string(), harm: Harm::Spreads });
        Ok(found.into_iter().collect())
    }

    fn apart(&self, _status: &Status, _successor: &Status, _quarantine: u32) -> Result<Option<String>> {
        // As below: it is no hindrance.
        Ok(None)
    }

    fn quarantined(&self, _status: &Status, _quarantine: u32) -> Result<bool> {
        // What a fenced server writes bears its own name, and stands in nobody's way.
        Ok(false)
    }

    fn begins_at(&self, _ours: &str, _theirs: &str, _quarantine: u32) -> Result<Option<String>> {
        Ok(None)
    }

    fn follow(&self, source: &Source, _at: Option<&str>) -> String {
        format!("CHANGE REPLICATION SOURCE TO {}; START REPLICA", connection(source))
    }

    fn try_to_follow(&self, channel: &str, source: &Source, _at: Option<&Record>) -> String {
        format!(
            "CHANGE REPLICATION SOURCE TO {} FOR CHANNEL '{channel}'; START REPLICA IO_THREAD FOR CHANNEL '{channel}'",
            connection(source)
        )
    }

    fn trial_from(&self) -> Option<&'static str> {
        None
    }

    fn forget_channel(&self, channel: &str) -> String {
        format!("STOP REPLICA FOR CHANNEL '{channel}'; RESET REPLICA ALL FOR CHANNEL '{channel}'")
    }

    fn at_work(&self, nodes: &str, last: u64, quiet: Duration) -> String {
        // The list itself knows whole seconds only. Where statements are not instrumented it must do.
        format!(
            "SELECT COUNT(DISTINCT p.ID) AS busy FROM information_schema.PROCESSLIST AS p \
             LEFT JOIN information_schema.INNODB_TRX AS t ON t.trx_mysql_thread_id = p.ID \
             LEFT JOIN performance_schema.threads AS h ON h.PROCESSLIST_ID = p.ID \
             LEFT JOIN performance_schema.events_statements_current AS s ON s.THREAD_ID = h.THREAD_ID \
               AND COALESCE(s.NESTING_EVENT_TYPE, 'TRANSACTION') = 'TRANSACTION' \
             LEFT JOIN performance_schema.threads AS me ON me.PROCESSLIST_ID = CONNECTION_ID() \
             LEFT JOIN performance_schema.events_statements_current AS now ON now.THREAD_ID = me.THREAD_ID \
             WHERE p.ID <= {last} AND {host} IN ({nodes}) AND p.COMMAND NOT LIKE 'Binlog Dump%' \
               AND (p.COMMAND <> 'Sleep' OR COALESCE((CAST(now.TIMER_START AS SIGNED) - CAST(s.TIMER_END AS SIGNED)) / 1000000000, p.TIME * 1000) < {quiet} \
                    OR t.trx_rows_modified > 0)",
            host = super::HOST,
            quiet = quiet.as_millis()
        )
    }

    fn stands(&self, copied: &str, _logged: &str) -> Result<(String, Option<String>)> {
        // Its transactions stand in a table, all of them.
        Ok((self.normal(copied)?, None))
    }

    fn remarks(&self, status: &Status) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if let Some(mode) = status.own.gtid_mode.as_deref().filter(|mode| *mode != "ON") {
            remarks.push(Remark {
                blocking: true,
                found: format!("gtid_mode is {mode}"),
                mend: "turn it on without a stop, each on every server before the next: SET PERSIST enforce_gtid_consistency=WARN; \
                       once no warning is logged SET PERSIST enforce_gtid_consistency=ON; then SET PERSIST gtid_mode=OFF_PERMISSIVE; \
                       SET PERSIST gtid_mode=ON_PERMISSIVE; once SHOW STATUS LIKE 'Ongoing_anonymous_transaction_count' is 0 everywhere, \
                       and every replica has what was written by then, SET PERSIST gtid_mode=ON; on each replica STOP REPLICA; \
                       CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1; START REPLICA",
            });
        }
        if status.read_only && status.own.super_read_only == Some(false) {
            remarks.push(Remark {
                blocking: false,
                found: "super_read_only is off, and read_only alone lets administrators write".into(),
                mend: "SET PERSIST super_read_only=ON",
            });
        }
        remarks
    }

    fn open_by_page(&self, _domain: Option<u32>, scheduler: bool) -> String {
        format!(
            "SET SESSION sql_log_bin=0;\nSET GLOBAL super_read_only=OFF;\n{};\n{}{}",
            super::LIFT_ALL,
            WORDS.open_by_hand,
            super::scheduled(scheduler)
        )
    }

    fn decide_by_hand(&self) -> String {
        format!(
            "{}SET GLOBAL super_read_only=OFF;\n{}\n\
             SET GLOBAL super_read_only=(SELECT state<>'promote' FROM {SCHEMA}.decision ORDER BY opened DESC LIMIT 1);",
            super::DECIDE_BY_HAND.0,
            super::DECIDE_BY_HAND.1
        )
    }
}

fn connection(source: &Source) -> String {
    // In clear the password goes under the source's own key, else `caching_sha2_password` refuses.
    let tls = match source.tls {
        Some((ca, verify)) => format!(
            "SOURCE_SSL=1, SOURCE_SSL_CA={}, SOURCE_SSL_VERIFY_SERVER_CERT={}",
            text(&ca.to_string_lossy()),
            u8::from(verify)
        ),
        None => "SOURCE_SSL=0, SOURCE_SSL_VERIFY_SERVER_CERT=0, GET_SOURCE_PUBLIC_KEY=1".to_owned(),
    };
    format!(
        "SOURCE_HOST={}, SOURCE_PORT={}, SOURCE_USER={}, SOURCE_PASSWORD={}, SOURCE_CONNECT_RETRY=1, \
         SOURCE_AUTO_POSITION=1, {tls}",
        text(&source.address.to_string()),
        source.port,
        text(source.user),
        text(source.password)
    )
}
