"""Each thing that stands against a flip is found, named, and said how to mend; all of them at once."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.lab import direct, world
from tests.lab.cut import Cut
from tests.lab.loopback import Chain

# server, what is done to it, what takes it back, who is named, the finding, whether it blocks
SQL: list[tuple[str, str, str, str, str, bool]] = [
    ("old-db1", "SET GLOBAL read_only=1", "SET GLOBAL read_only=0",
     "old-db1", "it is read-only, and it is the primary to move from", True),
    ("relay", "SET GLOBAL read_only=0", "SET GLOBAL read_only=1",
     "new-relay", "it accepts writes beside the primary", True),
    ("new-db1", "STOP SLAVE SQL_THREAD", "START SLAVE",
     "new-db1", "replication from new-relay stands", True),
    ("relay", "STOP SLAVE IO_THREAD", "START SLAVE",
     "new-relay", "replication from old-db1 stands", True),
    ("new-db2", "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=30; START SLAVE",
     "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=0; START SLAVE",
     "new-db2", "it is delayed by 30 s on purpose", True),
    ("relay", "STOP SLAVE; SET GLOBAL replicate_ignore_table='site.junk'; START SLAVE",
     "STOP SLAVE; SET GLOBAL replicate_ignore_table=''; START SLAVE",
     "new-relay", "replication filters: Replicate_Ignore_Table=site.junk", True),
    ("new-db1", "CHANGE MASTER 'leftover' TO MASTER_HOST='127.0.0.9'", "RESET SLAVE 'leftover' ALL",
     "new-db1", "further replication channels: leftover", True),
    ("old-db1", "SET GLOBAL sync_binlog=0", "SET GLOBAL sync_binlog=1",
     "old-db1", "sync_binlog=0", False),
    ("new-db1", "SET GLOBAL innodb_flush_log_at_trx_commit=2",
     "SET GLOBAL innodb_flush_log_at_trx_commit=1",
     "new-db1", "innodb_flush_log_at_trx_commit=2", False),
    ("relay", "SET GLOBAL binlog_format=MIXED", "SET GLOBAL binlog_format=ROW",
     "new-relay", "binlog_format is MIXED", False),
    ("relay", "SET GLOBAL gtid_strict_mode=OFF", "SET GLOBAL gtid_strict_mode=ON",
     "new-relay", "gtid_strict_mode is off", False),
    ("old-db1", "GRANT READ_ONLY ADMIN ON *.* TO app@'%'",
     "REVOKE READ_ONLY ADMIN ON *.* FROM app@'%'",
     "old-db1", "app@% can write past the fence", True),
    ("new-db1", "SET GLOBAL sql_mode=''", "SET GLOBAL sql_mode=DEFAULT",
     "new-db1", 'sql_mode is ""', False),
    ("new-db1", "SET GLOBAL max_allowed_packet=1048576", "SET GLOBAL max_allowed_packet=16777216",
     "new-db1", "max_allowed_packet is 1048576, and 16777216 on old-db1", False),
    ("old-db1", "SET GLOBAL binlog_expire_logs_seconds=3600",
     "SET GLOBAL binlog_expire_logs_seconds=0",
     "old-db1", "binlog_expire_logs_seconds is 3600", False),
    ("old-db1", "SET GLOBAL rpl_semi_sync_master_enabled=1",
     "SET GLOBAL rpl_semi_sync_master_enabled=0",
     "old-db1", "semi-synchronous replication may hold a commit for 10000 ms", False),
    ("old-db1", "CREATE EVENT site.tick ON SCHEDULE EVERY 1 DAY DO SELECT 1", "DROP EVENT site.tick",
     "old-db1", "scheduled events: site.tick", False),
    ("old-db1", "RENAME TABLE saltext_migrate.marker TO saltext_migrate.hidden",
     "RENAME TABLE saltext_migrate.hidden TO saltext_migrate.marker",
     "old-db1", "the table saltext_migrate.marker is missing", True),
    # What these drop counts as arrived, and the flip would lose it.
    ("new-db1", "STOP SLAVE; CHANGE MASTER TO IGNORE_DOMAIN_IDS=(5); START SLAVE",
     "STOP SLAVE; CHANGE MASTER TO IGNORE_DOMAIN_IDS=(); START SLAVE",
     "new-db1", "replication filters: Replicate_Ignore_Domain_Ids=5", True),
    ("relay", "STOP SLAVE; CHANGE MASTER TO IGNORE_SERVER_IDS=(77); START SLAVE",
     "STOP SLAVE; CHANGE MASTER TO IGNORE_SERVER_IDS=(); START SLAVE",
     "new-relay", "replication filters: Replicate_Ignore_Server_Ids=77", True),
    ("old-db1", "SET GLOBAL gtid_domain_id=99", "SET GLOBAL gtid_domain_id=0",
     "old-db1", "it writes in domain 99", False),
    # Through a role, and a role of a role; no view of the server lists these.
    ("old-db1", "CREATE ROLE heads; GRANT READ_ONLY ADMIN ON *.* TO heads; CREATE ROLE staff;"
     " GRANT heads TO staff; GRANT staff TO app@'%'", "DROP ROLE staff; DROP ROLE heads",
     "old-db1", "app@% can write past the fence", True),
    ("old-db1", "GRANT READ_ONLY ADMIN ON *.* TO PUBLIC", "REVOKE READ_ONLY ADMIN ON *.* FROM PUBLIC",
     "old-db1", "PUBLIC@% can write past the fence", True),
    # The fence would be refused, behind the notice.
    ("old-db1", "REVOKE READ_ONLY ADMIN ON *.* FROM migrate@'%'",
     "GRANT READ_ONLY ADMIN ON *.* TO migrate@'%'",
     "old-db1", "migrate has not READ_ONLY ADMIN", True),
    # `read_only` goes by the definer's rights.
    ("old-db1", "CREATE DEFINER=root@localhost PROCEDURE site.put() SELECT 1", "DROP PROCEDURE site.put",
     "old-db1", "whoever may call them writes past the fence: site.put of root@localhost", True),
    ("new-db1", "SET GLOBAL rpl_semi_sync_master_enabled=1",
     "SET GLOBAL rpl_semi_sync_master_enabled=0",
     "new-db1", "the first writes after the flip would wait", False),
    ("relay", "SET GLOBAL binlog_row_image=MINIMAL", "SET GLOBAL binlog_row_image=FULL",
     "new-relay", "binlog_row_image is MINIMAL", False),
    ("old-db1", "INSTALL SONAME 'ha_archive'", "UNINSTALL SONAME 'ha_archive'",
     "new-db1", "it has not what old-db1 has: ARCHIVE (STORAGE ENGINE)", False),
    # Each by the identity of both ends of its hop, not by an address alone.
    ("relay", "SET GLOBAL server_id=77", "SET GLOBAL server_id=20",
     "new-db1", "it reads from server_id 20, but new-relay is 77", True),
    ("relay", "SET GLOBAL server_id=22", "SET GLOBAL server_id=20",
     "new-db2", "server_id 22 is also that of new-relay", True),
    ("new-db2", "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='127.0.0.9'; START SLAVE SQL_THREAD",
     "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='127.0.0.20'; START SLAVE",
     "new-db2", "which migrate:databases does not name", True),
    ("old-db1", "CHANGE MASTER TO MASTER_HOST='127.0.0.9'", "RESET SLAVE ALL",
     "old-db1", "the primary itself follows 127.0.0.9", True),
    # The site would move to where its application cannot log in.
    ("new-db1", "SET sql_log_bin=0; RENAME USER app@'%' TO gone@'%'",
     "SET sql_log_bin=0; RENAME USER gone@'%' TO app@'%'",
     "new-db1", "app@% is on old-db1, and not here", True),
    ("new-db1", "SET sql_log_bin=0; ALTER USER app@'%' ACCOUNT LOCK",
     "SET sql_log_bin=0; ALTER USER app@'%' ACCOUNT UNLOCK",
     "new-db1", "app@% logs in otherwise than on old-db1", True),
    ("new-db1", "SET sql_log_bin=0; REVOKE DELETE, DROP ON site.* FROM app@'%'",
     "SET sql_log_bin=0; GRANT DELETE, DROP ON site.* TO app@'%'",
     "new-db1", "app@% may on old-db1, and not here: DELETE ON site.*, DROP ON site.*", True),
    ("old-db1", "RENAME USER app@'%' TO app@'127.0.0.1_'", "RENAME USER app@'127.0.0.1_' TO app@'%'",
     "new-db1", "app may log in from app1 at 127.0.0.13, and not at 127.0.0.23", False),
    ("new-db1", "STOP SLAVE; CHANGE MASTER TO MASTER_SSL=1",
     "CHANGE MASTER TO MASTER_SSL=0; START SLAVE",
     "new-db1", "it reads from new-relay over TLS, and would read in clear", False),
]  # fmt: skip


def findings(pillar: dict[str, Any]) -> list[dict[str, Any]]:
    """What a look finds; every finding says how to mend it."""
    planned = direct.run(pillar, "plan", phase="flip")
    assert planned.rc == 0, planned.problem
    found: list[dict[str, Any]] = planned.answer["findings"]
    assert all(note["mend"] and note["topic"] for note in found)
    assert planned.answer["refused"] == any(note["blocking"] for note in found)
    # Nobody signs here.
    return [note for note in found if note["topic"] != "signoff"]


def has(found: list[dict[str, Any]], subject: str, words: str, blocking: bool) -> bool:
    return any(
        note["subject"] == subject and words in note["found"] and note["blocking"] == blocking
        for note in found
    )


@contextlib.contextmanager
def configured(chain: Chain, server: str, setting: str) -> Iterator[None]:
    """A server that was started with another setting."""
    path = chain[server].conf_d / "50-test.cnf"
    path.write_text(f"[mysqld]\n{setting}\n")
    chain[server].restart()
    try:
        yield
    finally:
        path.unlink()
        chain[server].restart()


def test_a_chain_in_order_has_no_finding(fresh_chain: Chain) -> None:
    assert findings(fresh_chain.pillar()) == []
    # That nobody is asked is said, and hinders nobody.
    (told,) = direct.run(fresh_chain.pillar(), "plan", phase="flip").answer["findings"]
    assert (told["topic"], told["subject"], told["blocking"]) == ("signoff", "flip", False)
    assert told["found"] == "nobody is asked: the pillar names no role"


def test_each_thing_that_is_wrong_is_named(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    for server, wrong, right, subject, words, blocking in SQL:
        fresh_chain[server].run(wrong)
        found = findings(pillar)
        assert has(found, subject, words, blocking), (wrong, found)
        fresh_chain[server].run(right)
        fresh_chain.wait_replicating()
        fresh_chain.settle()
        assert findings(pillar) == [], wrong


def test_accounts_that_came_with_the_chain_or_are_a_machines_own_are_no_finding(
    fresh_chain: Chain,
) -> None:
    new, old, pillar = fresh_chain.new, fresh_chain.old, fresh_chain.pillar()
    # As long as it takes on a busy machine until the channel runs.
    pillar["databases"]["max_lag"] = 20_000
    # Another lag than that of a look: what is granted now is on its way.
    new.run("STOP SLAVE")
    old.run("CREATE ROLE staff; GRANT SELECT ON site.* TO staff; GRANT staff TO app@'%'")
    old.run("SET sql_log_bin=0; CREATE USER local@localhost IDENTIFIED BY 'mine'")
    looked = threading.Timer(1.0, new.run, args=("START SLAVE",))
    looked.start()
    found = [note for note in findings(pillar) if note["topic"] == "accounts"]
    looked.join()
    assert found == []
    fresh_chain.settle()
    assert findings(fresh_chain.pillar()) == []
    new.run("SET sql_log_bin=0; REVOKE staff FROM app@'%'")
    assert has(
        findings(fresh_chain.pillar()),
        "new-db1",
        "app@% may on old-db1, and not here: role staff",
        True,
    )


def test_all_that_is_wrong_is_shown_at_once_and_nothing_is_touched(fresh_chain: Chain) -> None:
    # One that stops replication would be mended by another that starts it.
    together = [row for row in SQL[1:10] if "IO_THREAD" not in row[1]]
    for server, wrong, *_ in together:
        fresh_chain[server].run(wrong)
    before = world.look(fresh_chain)
    done = direct.run(fresh_chain.pillar(), "apply", phase="flip")
    assert done.problem["kind"] == "refused"
    for _, _, _, subject, words, blocking in together:
        assert (f"{subject}: {words}" in done.problem["message"]) == blocking
    assert world.look(fresh_chain) == before


@pytest.mark.parametrize("server", ["old-db1", "relay", "new-db1"])
def test_a_hop_that_does_not_pass_on_what_it_replicated_blocks(
    fresh_chain: Chain, server: str
) -> None:
    """It would lose the writes of the other side after a flip and a revert, with every thread running."""
    with configured(fresh_chain, server, "log_slave_updates=OFF"):
        fresh_chain.wait_replicating()
        subject = "new-relay" if server == "relay" else server
        assert has(findings(fresh_chain.pillar()), subject, "log_slave_updates is off", True)


@pytest.mark.parametrize("server", ["old-db1", "relay"])
def test_a_binlog_that_leaves_something_out_blocks(fresh_chain: Chain, server: str) -> None:
    with configured(fresh_chain, server, "binlog_ignore_db=cache"):
        fresh_chain.wait_replicating()
        subject = "new-relay" if server == "relay" else server
        words = "its binlog leaves something out: Binlog_Ignore_DB=cache"
        assert has(findings(fresh_chain.pillar()), subject, words, True)


def test_a_way_back_that_cannot_log_in_ends_it_before_anybody_sees_anything(
    fresh_chain: Chain,
) -> None:
    pillar, user = fresh_chain.pillar(), fresh_chain.replication.user
    # Nobody else follows the new primary, so that nobody else would find it.
    del pillar["databases"]["new"]["replicas"]
    fresh_chain.new.run(f"SET sql_log_bin=0; ALTER USER {user}@'%' IDENTIFIED BY 'another'")
    before = world.look(fresh_chain)
    done = direct.run(pillar, "apply", phase="flip")
    assert done.verdict == "aborted"
    assert done.happened("failed") == ["way-back-tried"]
    assert "Access denied" in done.problem["message"]
    assert not {"notice.new", "notice.old", "fence"} & set(done.happened("started"))
    assert world.look(fresh_chain) == before


def test_a_site_whose_own_domain_is_the_quarantine_blocks(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    pillar["databases"]["quarantine_domain"] = 0
    assert has(findings(pillar), "old-db1", "it writes in domain 0", True)


@pytest.mark.parametrize("server", ["relay", "new-db1", "old-db2"])
def test_a_transaction_that_only_one_server_has_blocks_and_is_an_alarm(
    fresh_chain: Chain, server: str
) -> None:
    fresh_chain[server].run("FLUSH TABLES")
    subject = "new-relay" if server == "relay" else server
    written = fresh_chain[server].value("SELECT @@gtid_binlog_pos")
    found = findings(fresh_chain.pillar())
    assert has(found, subject, f"transaction {written} is not on old-db1", True)
    alarms = direct.run(fresh_chain.pillar(), "status").answer["alarms"]
    assert any(f"{subject}: transaction {written} is on it alone" in alarm for alarm in alarms)
    refused = direct.run(fresh_chain.pillar(), "apply", phase="flip")
    assert refused.problem["kind"] == "refused"


def test_names_that_mean_something_else_on_the_other_side_block(fresh_chain: Chain) -> None:
    with configured(fresh_chain, "new-db1", "lower_case_table_names=1"):
        fresh_chain.wait_replicating()
        assert has(findings(fresh_chain.pillar()), "new-db1", 'lower_case_table_names is "1"', True)


def test_another_zone_of_the_system_is_told_where_the_server_goes_by_it(
    fresh_chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, pillar = fresh_chain.new, fresh_chain.pillar()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    new.restart()
    fresh_chain.wait_replicating()
    try:
        assert has(findings(pillar), "new-db1", 'system_time_zone is "JST"', blocking=False)
        for server in (fresh_chain.old, new):
            server.run("SET GLOBAL time_zone='+00:00'")
        assert findings(pillar) == [], "nobody goes by it"
    finally:
        monkeypatch.undo()
        fresh_chain.old.run("SET GLOBAL time_zone=SYSTEM")
        new.restart()


def test_a_scheduler_that_could_not_take_over_blocks(fresh_chain: Chain) -> None:
    """DISABLED cannot be changed while the server runs."""
    fresh_chain.old.run("SET GLOBAL event_scheduler=ON")
    with configured(fresh_chain, "new-db1", "event_scheduler=DISABLED"):
        fresh_chain.wait_replicating()
        words = "event_scheduler is DISABLED, and ON on old-db1"
        assert has(findings(fresh_chain.pillar()), "new-db1", words, True)
        # Where the old one does not run, nothing has to be taken over.
        fresh_chain.old.run("SET GLOBAL event_scheduler=OFF")
        assert findings(fresh_chain.pillar()) == []


@pytest.mark.parametrize("user", ["heartbeat", "orchestrator_client"])
def test_who_may_write_past_the_fence_and_is_connected_is_named(
    fresh_chain: Chain, user: str
) -> None:
    fresh_chain.old.run(f"CREATE USER {user}; GRANT READ_ONLY ADMIN ON *.* TO {user}")
    fresh_chain.settle()
    pillar = fresh_chain.pillar()
    pillar["databases"]["may_bypass_fence"] = ["root", "mysql", "mariadb.sys", user]
    with fresh_chain.old.connect(user, "") as connection:
        connection.query("SELECT 1")
        found = findings(pillar)
    assert has(found, "old-db1", f"{user} can write past the fence, and has 1 conn", False)
    assert has(found, "old-db1", f"{user} is connected: a tool that may move", False) == (
        user != "heartbeat"
    )


def test_a_tool_that_moves_primaries_is_named_by_its_account(fresh_chain: Chain) -> None:
    fresh_chain.old.run("CREATE USER orchestrator IDENTIFIED BY 'x'")
    fresh_chain.settle()
    found = findings(fresh_chain.pillar())
    assert has(found, "old-db1", "orchestrator has an account: a tool that may move", False)


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_a_journal_without_room_is_named_and_can_be_taken_on(
    fresh_chain: Chain, tmp_path: Path
) -> None:
    pillar = fresh_chain.pillar()
    pillar["state_dir"] = str(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(tmp_path)], check=True)
    try:
        done = direct.run(pillar, "plan", phase="flip")
        (room,) = [one for one in done.answer["findings"] if one["topic"] == "room"]
        assert room["subject"] == "controller" and "MiB are free under" in room["found"]
        assert (room["blocking"], room["forceable"]) == (True, True)
        forced = direct.run(
            pillar, "apply", phase="flip", force=room["id"], reason="a megabyte will do"
        )
        assert forced.verdict == "done", forced.problem
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(folder: Path, command: direct.Command) -> None:
    """Leaves no room on the file system of a journal, nor on the journal's last page."""
    filler = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, b"0" * 512)
    os.close(filler)
    (journal,) = (folder / "runs").glob("*.jsonl")
    size = journal.stat().st_size
    resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_a_disk_that_fills_up_between_the_promotion_and_its_record_goes_on_once_there_is_room(
    fresh_chain: Chain, tmp_path: Path
) -> None:
    """What was decided stands on the server; a run that cannot write it down neither goes back nor turns in circles."""
    pillar = fresh_chain.pillar()
    pillar["state_dir"] = str(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "small", str(tmp_path)], check=True)
    try:
        room = [one["id"] for one in findings(pillar) if one["topic"] == "room"]
        with Cut(fresh_chain, "new-db1") as cut:
            there = cut.pillar(pillar)
            cut.hold(b"SET state='promote'", reply=True)
            flip = direct.Command(there, "apply", phase="flip", force=room, reason="to see it full")
            assert cut.passed.wait(60)
            fill(tmp_path, flip)
            cut.release()
            done = flip.wait(30)
            assert (done.verdict, done.problem["kind"]) == ("stopped", "journal"), done.problem
            assert "state_dir" in done.problem["hint"]
            assert world.writable(fresh_chain) == ["new-db1"]
            # People can save: that it is at rest needs no record.
            assert not fresh_chain.notice_path("new").exists()
            (tmp_path / "filler").unlink()
            assert direct.run(there, "apply", phase="flip").verdict == "done"
            assert world.writable(fresh_chain) == ["new-db1"]
            assert direct.run(there, "plan", phase="flip").answer["changes"] == []
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_a_disk_that_fills_up_behind_the_fence_keeps_nobody_fenced(
    fresh_chain: Chain, tmp_path: Path
) -> None:
    """The way back does not wait for the journal, which can be written no more."""
    pillar = fresh_chain.pillar()
    pillar["state_dir"] = str(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "small", str(tmp_path)], check=True)
    try:
        room = [one["id"] for one in findings(pillar) if one["topic"] == "room"]
        with Cut(fresh_chain, "old-db1") as cut:
            there = cut.pillar(pillar)
            before = world.look(fresh_chain)
            cut.hold(b"SET GLOBAL read_only=1", reply=True)
            flip = direct.Command(there, "apply", phase="flip", force=room, reason="to see it full")
            assert cut.passed.wait(60)
            fill(tmp_path, flip)
            cut.release()
            done = flip.wait()
            assert done.verdict == "aborted", done.problem
            assert done.problem["kind"] == "journal"
            assert world.look(fresh_chain) == before
            # Room again: the unfinished journal is gone on with.
            (tmp_path / "filler").unlink()
            assert direct.run(there, "abort").verdict in ("aborted", "unchanged")
            assert world.look(fresh_chain) == before
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_two_servers_with_one_id_block(fresh_chain: Chain) -> None:
    ident = fresh_chain["old-db2"].server_id
    with configured(fresh_chain, "new-db2", f"server_id={ident}"):
        assert has(findings(fresh_chain.pillar()), "new-db2", f"server_id {ident} is also", True)


def test_a_prepared_transaction_blocks_on_any_server(fresh_chain: Chain) -> None:
    app = fresh_chain.app
    with fresh_chain.old.connect(app.user, app.password) as connection:
        for statement in (
            "XA START 'left'",
            "INSERT INTO site.writes (run,writer,attempt,side,at) VALUES (1,1,1,'old',NOW())",
            "XA END 'left'",
            "XA PREPARE 'left'",
        ):
            connection.query(statement)
    found = findings(fresh_chain.pillar())
    assert has(found, "old-db1", "a prepared XA transaction: left", True)
    fresh_chain.old.run("XA ROLLBACK 'left'")


def test_an_application_that_is_at_work_and_could_not_log_in_over_there_blocks(
    fresh_chain: Chain,
) -> None:
    app = fresh_chain.app
    words = "app may log in from app1 at 127.0.0.13, and not at 127.0.0.23"
    with fresh_chain.old.connect(app.user, app.password):
        fresh_chain.old.run(f"RENAME USER {app.user}@'%' TO {app.user}@'127.0.0.0/255.255.255.240'")
        assert has(findings(fresh_chain.pillar()), "new-db1", words, True)
        fresh_chain.old.run(f"CREATE USER {app.user}@'127.0.0.2_' IDENTIFIED BY '{app.password}'")
        found = [note for note in findings(fresh_chain.pillar()) if note["topic"] == "accounts"]
    assert found == []


def slept(connection: pymysql.Connection) -> None:
    with contextlib.suppress(pymysql.err.Error):
        connection.query("DO SLEEP(30)")


def test_long_work_is_named(fresh_chain: Chain) -> None:
    app = fresh_chain.app
    old, new = fresh_chain.old, fresh_chain.new
    with (
        old.connect(app.user, app.password) as connection,
        new.connect(app.user, app.password) as other,
    ):
        sleeper = threading.Thread(target=slept, args=(other,))
        sleeper.start()
        connection.query("BEGIN")
        connection.query(
            "INSERT INTO site.writes (run,writer,attempt,side,at) VALUES (1,1,1,'o',NOW())"
        )
        fresh_chain.old.run("DO SLEEP(6)")
        found = findings(fresh_chain.pillar())
        new.run(f"KILL {other.thread_id()}")
        sleeper.join()
    assert has(found, "old-db1", "transaction of connection", False)
    assert has(found, "new-db1", "of app (Query for ", False)


@pytest.mark.parametrize("server", ["old-db1", "new-db1", "old-db2"])
def test_a_server_that_is_down_is_no_server_that_agrees(fresh_chain: Chain, server: str) -> None:
    fresh_chain[server].kill()
    planned = direct.run(fresh_chain.pillar(), "plan", phase="flip")
    assert planned.rc == 1
    assert server in planned.problem["message"]
    assert f"mend what {server} says, or see that it answers" in planned.problem["hint"]


def test_a_replica_that_nobody_declared_is_named(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    pillar["databases"]["old"]["replicas"] = []
    found = findings(pillar)
    assert has(found, "old-db1", "a replica with server_id 12", False)
