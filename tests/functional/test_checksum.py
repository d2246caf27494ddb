"""The comparison of data: it finds what differs, names it, and leaves replication running."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab import direct
from tests.lab.loopback import Chain

SITE = r"""
USE site;
CREATE TABLE site.pages (space INT NOT NULL, title VARBINARY(40) NOT NULL, body MEDIUMBLOB,
  touched DATETIME(6), score DOUBLE NULL, note VARCHAR(40) CHARACTER SET latin1 NULL,
  PRIMARY KEY (space, title)) ENGINE=InnoDB;
INSERT INTO site.pages SELECT seq % 7, CONCAT('Page_', LPAD(seq, 6, '0')), REPEAT(MD5(seq), 4),
  '2026-01-01', seq / 3, IF(seq % 5, CONVERT(X'C3A4' USING utf8mb4), NULL) FROM seq_1_to_30000;
CREATE TABLE site.words (word VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci
  PRIMARY KEY, kind ENUM('a','b') NOT NULL) ENGINE=InnoDB;
INSERT INTO site.words SELECT CONCAT(IF(seq % 2, CONVERT(X'C384' USING utf8mb4), 'o'), seq, '''\\'),
  1 + seq % 2 FROM seq_1_to_3000;
CREATE TABLE site.log (line TEXT) ENGINE=InnoDB;
INSERT INTO site.log SELECT IF(seq > 98, 'twice', MD5(seq)) FROM seq_1_to_100;
CREATE TABLE site.counters (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL) ENGINE=InnoDB;
INSERT INTO site.counters SELECT seq, 0 FROM seq_1_to_50;
CREATE TABLE site.prices (id INT PRIMARY KEY, price INT NOT NULL) ENGINE=InnoDB WITH SYSTEM VERSIONING;
INSERT INTO site.prices SELECT seq, seq FROM seq_1_to_50;
CREATE TABLE site.pairs (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB;
INSERT INTO site.pairs SELECT seq, 0 FROM seq_1_to_50;
CREATE TABLE site.ratios (id INT PRIMARY KEY, ratio FLOAT NOT NULL) ENGINE=InnoDB;
INSERT INTO site.ratios SELECT seq, 0.1 FROM seq_1_to_50;
CREATE TABLE site.old_engine (id INT PRIMARY KEY) ENGINE=MyISAM;
"""
PAIR = {"source": "old-db1", "replica": "new-db1"}


@pytest.fixture(scope="module")
def filled(chain: Chain) -> Iterator[Chain]:
    chain.reset()
    chain.old.run(SITE)
    chain.settle()
    yield chain
    chain.reset()


@contextmanager
def writing(chain: Chain) -> Iterator[None]:
    """Changes rows without a pause."""
    over = threading.Event()

    def write() -> None:
        with chain.old.connect(chain.app.user, chain.app.password) as connection:
            number = 0
            while not over.is_set():
                number += 1
                connection.query(f"UPDATE site.counters SET n=n+1 WHERE id={number % 50 + 1}")
                connection.query(
                    f"UPDATE site.pages SET score={number} WHERE space={number % 7} LIMIT 3"
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join(20)


def compared(chain: Chain) -> dict[str, Any]:
    """Compares everything, and returns what was seen."""
    done = direct.run(chain.pillar(), "database.checksum", **PAIR)
    assert done.verdict == "done", done.problem
    seen: dict[str, Any] = done.answer["seen"]["compared"]
    return seen


def health(chain: Chain, **databases: Any) -> tuple[dict[str, Any], list[str]]:
    """What the status shows of the pair, and what of that is an alarm."""
    settings = chain.pillar()
    settings["databases"] |= databases
    shown = direct.run(settings, "status").answer
    alarms = [alarm for alarm in shown["alarms"] if "compared" in alarm or "data" in alarm]
    return shown["health"]["proofs"]["checksum.old-db1.new-db1"], alarms


def follows(chain: Chain) -> None:
    """What is written now arrives."""
    chain.old.run("INSERT INTO site.counters (n) VALUES (1)")
    chain.settle()


def test_what_is_the_same_is_found_the_same_while_people_write(filled: Chain) -> None:
    with writing(filled):
        seen = compared(filled)
    assert seen["differences"] == []
    assert {"site.pages", "site.words", "site.log", "site.counters"} <= set(seen["tables"])
    assert seen["tables"]["site.pages"]["rows"] == 30000
    assert seen["tables"]["site.pages"]["ranges"] > 1
    assert list(seen["left_out"]) == ["site.old_engine"]
    assert seen["positions"]
    follows(filled)
    shown, alarms = health(filled)
    assert (shown["differences"], shown["left_out"]) == (0, 1)
    assert 0 <= shown["hours_ago"] < 1
    assert alarms == []
    (late,) = health(filled, checksum_hours=0)[1]
    assert late.startswith("new-db1: it was compared with old-db1 more than 0 hours ago: ")


def test_one_byte_one_missing_row_and_one_extra_row_are_named(filled: Chain) -> None:
    filled.new.run(
        "SET sql_log_bin=0;"
        "UPDATE site.pages SET body=INSERT(body, 64, 1, 'x') WHERE title='Page_004321';"
        "DELETE FROM site.words WHERE word LIKE 'o1000__';"
        "INSERT INTO site.words VALUES ('zz extra', 1);"
        "UPDATE site.prices SET price=0 WHERE id=17;"
        # The same change of two rows changes the same bits of both CRCs.
        "UPDATE site.pairs SET n=1 WHERE id IN (3, 7);"
        # As a text both are 0.1.
        "UPDATE site.ratios SET ratio=0.10000001 WHERE id=9;"
        # Two equal rows, of a table without a key.
        "UPDATE site.log SET line='other' WHERE line='twice'"
    )
    with writing(filled):
        seen = compared(filled)
    found = {(each["table"], each["what"]): each for each in seen["differences"]}
    assert set(found) == {
        ("site.pages", "changed"),
        ("site.words", "missing"),
        ("site.words", "extra"),
        ("site.log", "rows"),
        ("site.pairs", "changed"),
        ("site.ratios", "changed"),
        ("site.prices", "changed"),
    }
    page = found["site.pages", "changed"]
    assert page["place"] == f"'2', X'{b'Page_004321'.hex().upper()}'"
    assert page["range"]["after"] is not None or page["range"]["upto"] is not None
    assert found["site.words", "extra"]["place"] == f"_utf8mb4 X'{b'zz extra'.hex().upper()}'"
    (alarm,) = health(filled)[1]
    again = "salt-run migrate.checksum old-db1 new-db1"
    places = len(seen["differences"])
    assert alarm == f"new-db1: its data is not that of old-db1, in {places} places: {again}"


def test_a_flip_can_demand_that_nothing_differs(filled: Chain) -> None:
    site = filled.pillar()
    site["databases"]["checksum_hours"] = 24
    done = direct.run(site, "apply", phase="flip")
    assert done.problem["kind"] == "refused", done.problem
    assert "site.pages: changed" in done.problem["message"]
    # What was not looked at is no proof, and no hindrance.
    assert "old_engine" not in done.problem["message"]
    looked = direct.run(site, "plan", phase="flip").answer["findings"]
    (left,) = [one for one in looked if "site.old_engine was not compared" in one["found"]]
    assert (left["topic"], left["blocking"]) == ("data", False)
    proof = filled.state / "migrate" / "proofs" / "checksum.old-db1.new-db1.json"
    aged = json.loads(proof.read_text())
    proof.write_text(json.dumps(aged | {"at": aged["at"] - 90_100}))
    done = direct.run(site, "apply", phase="flip")
    assert "was compared 25 hours ago; 24 is the limit" in done.problem["message"]
    proof.unlink()
    done = direct.run(site, "apply", phase="flip")
    assert "never compared" in done.problem["message"]


def test_what_the_account_may_not_see_is_not_passed_over(filled: Chain) -> None:
    filled.old.run(
        "CREATE USER blind@'%' IDENTIFIED BY 'blind-17';"
        "GRANT REPLICATION SLAVE ADMIN, SLAVE MONITOR, BINLOG MONITOR, BINLOG ADMIN, SUPER, PROCESS "
        "ON *.* TO blind@'%';"
        "GRANT SELECT ON saltext_migrate.* TO blind@'%'"
    )
    filled.settle()
    site = filled.pillar()
    site["databases"]["accounts"]["admin"] = {"user": "blind", "password": "blind-17"}
    done = direct.run(site, "database.checksum", **PAIR)
    filled.old.run("DROP USER blind@'%'")
    filled.settle()
    assert "1 databases are hidden from the migration's account" in done.problem["message"]
    assert "GRANT SELECT" in done.problem["message"]


def test_who_dies_while_a_replica_stands_still_leaves_it_running(filled: Chain) -> None:
    # A table lock holds what the replica applies, so that it stands for longer.
    app = filled.app
    with filled.new.connect(app.user, app.password) as somebody:
        somebody.query("LOCK TABLES site.counters READ")
        filled.old.run("UPDATE site.counters SET n=n+1 WHERE id=1")
        command = direct.Command(filled.pillar(), "database.checksum", **PAIR)
        until = time.monotonic() + 60
        stopping = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO='STOP SLAVE'"
        while not filled.new.value(stopping):
            assert command.process.poll() is None, command.wait()
            assert time.monotonic() < until
        command.process.kill()
        command.process.wait()
        somebody.query("UNLOCK TABLES")
    follows(filled)


def test_a_replica_that_has_what_its_source_does_not_show_yet_is_no_difference(
    filled: Chain,
) -> None:
    # As a semi-synchronous source shows it: a transaction is logged and sent, and committed where the answer comes.
    filled.old.run("CREATE TABLE site.shown (id INT PRIMARY KEY) ENGINE=InnoDB")
    filled.settle()
    filled.old.run(
        "SET GLOBAL rpl_semi_sync_master_timeout=600000, GLOBAL rpl_semi_sync_master_wait_no_slave=ON,"
        " GLOBAL rpl_semi_sync_master_wait_point=AFTER_SYNC, GLOBAL rpl_semi_sync_master_enabled=ON"
    )

    def write() -> None:
        with filled.old.connect(filled.app.user, filled.app.password) as connection:
            connection.query("INSERT INTO site.shown VALUES (17)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until = time.monotonic() + 60
        there = "SELECT COUNT(*) FROM site.shown WHERE id=17"
        while not filled.new.value(there):
            assert time.monotonic() < until
        assert filled.old.value(there) == 0
        # It is shown while the comparison waits for it, and not before that began.
        shown = "SET GLOBAL rpl_semi_sync_master_enabled=OFF"
        threading.Timer(3, filled.old.run, (shown,)).start()
        settings = filled.pillar()
        settings["databases"] |= {"max_lag": 60_000, "deadlines": {"catch_up": 60_000}}
        done = direct.run(settings, "database.checksum", **PAIR, tables=["site.shown"])
        assert done.verdict == "done", done.problem
        assert done.answer["seen"]["compared"]["differences"] == []
        assert done.answer["seen"]["compared"]["tables"]["site.shown"]["rows"] == 1
    finally:
        filled.old.run("SET GLOBAL rpl_semi_sync_master_enabled=OFF")
        writer.join(60)
        filled.old.run("SET GLOBAL rpl_semi_sync_master_wait_point=DEFAULT; DROP TABLE site.shown")
    follows(filled)


def test_a_replica_that_falls_behind_is_waited_for(filled: Chain) -> None:
    # What is worked out at each look takes its time.
    slow = "text"
    for _ in range(12):
        slow = f"SHA2({slow}, 512)"
    filled.old.run(
        f"CREATE TABLE site.much (id INT PRIMARY KEY, text CHAR(9), slow CHAR(128) AS ({slow}) VIRTUAL)"
        " ENGINE=InnoDB; USE site; INSERT INTO site.much (id, text) SELECT seq, seq FROM seq_1_to_200000"
    )
    filled.settle()
    half = filled.state / "migrate" / "proofs" / "checksum-half.old-db1.new-db1.json"
    command = direct.Command(filled.pillar(), "database.checksum", **PAIR, tables=["site.much"])
    waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT MASTER_GTID_WAIT%'"

    def until(seen: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not seen():
            assert command.process.poll() is None, command.wait()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    try:
        until(half.exists)
        command.process.send_signal(signal.SIGSTOP)
        with filled.new.connect(filled.app.user, filled.app.password) as somebody:
            somebody.query("LOCK TABLES site.counters READ")
            filled.old.run("UPDATE site.counters SET n=n+1 WHERE id=1")
            command.process.send_signal(signal.SIGCONT)
            # When it breathes next it finds out.
            until(lambda: filled.new.value(waits))
            standing = half.read_text()
            time.sleep(1.5)
            assert (half.read_text(), command.process.poll()) == (standing, None)
            somebody.query("UNLOCK TABLES")
        done = command.wait()
    finally:
        command.process.kill()
        filled.old.run("DROP TABLE site.much")
    assert done.verdict == "done", done.problem
    assert done.answer["seen"]["compared"]["tables"]["site.much"]["rows"] == 200_000


def test_who_dies_in_the_middle_goes_on_there(filled: Chain) -> None:
    filled.old.run("CREATE TABLE site.zz (id INT PRIMARY KEY) ENGINE=InnoDB")
    filled.settle()
    record = filled.state / "migrate" / "proofs" / "checksum-half.old-db1.new-db1.json"
    app = filled.app
    # The last table cannot be read for now.
    with filled.old.connect(app.user, app.password) as somebody:
        somebody.query("LOCK TABLES site.zz WRITE")
        settings = filled.pillar()
        # It waits for the lock for as long.
        settings["databases"]["deadlines"] |= {"catch_up": 60_000}
        command = direct.Command(settings, "database.checksum", **PAIR)
        until = time.monotonic() + 60
        while not (record.exists() and "site.words" in record.read_text()):
            assert command.process.poll() is None, command.wait()
            assert time.monotonic() < until, record.exists() and record.read_text()
            time.sleep(0.02)
        command.process.kill()
        command.process.wait()
    before = json.loads(record.read_text())["evidence"]
    seen = compared(filled)
    assert seen["positions"][: len(before["positions"])] == before["positions"]
    # What differed is looked at again, for it may have been mended.
    again = {found["table"] for found in before["differences"]}
    done = {
        name: table
        for name, table in before["tables"].items()
        if table["whole"] and name not in again
    }
    assert done
    assert done.items() <= seen["tables"].items()
    assert not record.exists()
