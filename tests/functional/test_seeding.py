"""The relay and the new databases: copied from an old side that runs on, by a real Salt, and after every death."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.authority import Authority
from tests.lab.mariadb import MariaDB
from tests.lab.newside import NEW, NewSide, minions
from tests.lab.salt import Ran, SaltMaster
from tests.lab.writer import Writer, judge

ORCHESTRATE = ("state.orchestrate", "migrate.prepare")


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewSide]:
    home = tmp_path_factory.mktemp("newside")
    with NewSide(home, authority=Authority(home / "ca")) as running:
        # Enough that a copy takes its time.
        running.old.run(
            "CREATE TABLE site.blobs (id INT PRIMARY KEY, data LONGBLOB);"
            "INSERT INTO site.blobs SELECT seq, REPEAT(MD5(RAND()), 32768) FROM site.seq_1_to_100"
        )
        yield running


@pytest.fixture(scope="module")
def master(side: NewSide) -> Iterator[SaltMaster]:
    with SaltMaster(side.pillar()) as running, minions(running):
        yield running


def prepare(master: SaltMaster, *more: str) -> Ran:
    return master.run(*ORCHESTRATE, *more, timeout=240)


def changed(ran: Ran) -> dict[str, Any]:
    return ran.states["prepare"]["changes"]


def told(ran: Ran) -> str:
    return str(ran.states["prepare"]["comment"])


def record(side: NewSide, name: str) -> Path:
    """The record of a comparison of a new server with old db1."""
    subject = f"checksum.old-db1.{side.known_as(name)}.json"
    return Path(side.pillar()["state_dir"]) / "proofs" / subject


def stands(side: NewSide) -> None:
    """The chain is as declared, everybody has the same data, and nobody wrote anything of their own."""
    ours = side.old.value("SELECT @@gtid_binlog_pos")
    ids = {side.old.value("SELECT @@server_id")}
    for name in NEW:
        server = side[name]
        assert server.value("SELECT MASTER_GTID_WAIT(%s, 20)", (ours,)) == 0, name
        assert server.value("SELECT @@global.read_only") == 1
        assert server.value("SELECT @@global.event_scheduler") == "OFF"
        assert server.value("SELECT @@global.log_slave_updates") == 1
        status = server.run("SHOW SLAVE STATUS")[0]
        assert (status["Slave_IO_Running"], status["Slave_SQL_Running"]) == ("Yes", "Yes")
        assert (status["Master_SSL_Allowed"], status["Master_SSL_Verify_Server_Cert"]) == (
            "Yes",
            "Yes",
        )
        source = "old-db1" if name == "relay" else "relay"
        assert status["Master_Host"] == side[source].address
        # What anybody but old db1 ever logged would be a transaction that only one server has.
        logged = re.findall(r"\d+-(\d+)-\d+", server.value("SELECT @@gtid_binlog_state") or "")
        assert set(logged) <= {str(side.old.server_id)}, f"{name} wrote by itself"
        ids.add(server.value("SELECT @@server_id"))
    assert len(ids) == 1 + len(NEW)
    tables = ("site.writes", "site.blobs")
    for table in tables:
        sums = {
            side[name].run(f"CHECKSUM TABLE {table}")[0]["Checksum"] for name in ("old-db1", *NEW)
        }
        assert len(sums) == 1, table


def until(found: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (seen := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return seen


_WAITING = (
    "SELECT COUNT(*) FROM information_schema.PROCESSLIST"
    " WHERE state = 'Waiting for prior transaction to commit'"
)


@contextmanager
def standing_prepared(
    side: NewSide, replica: MariaDB, job: tuple[str, str], copied: Callable[[], bool]
) -> Iterator[None]:
    """Until the job has copied the replica one transaction waits there, and those behind it stand prepared."""
    side.old.run(
        "CREATE OR REPLACE TABLE site.held (id INT PRIMARY KEY, v INT);"
        "INSERT INTO site.held VALUES (1, 0), (2, 0), (3, 0)"
    )
    replica.wait_for(side.old.position(), 60)
    replica.run(
        "STOP SLAVE; SET GLOBAL slave_parallel_threads = 4; SET GLOBAL slave_parallel_mode = 'optimistic'; START SLAVE"
    )

    def stand() -> None:
        # Not before: prepare waits for a replica that does not catch up.
        worker = until(lambda: side.worker(*job))
        os.killpg(worker, signal.SIGSTOP)
        with replica.root() as holder, holder.cursor() as cursor:
            holder.begin()
            cursor.execute("SELECT v FROM site.held WHERE id = 1 FOR UPDATE")
            for number in (1, 2, 3):
                side.old.run(f"UPDATE site.held SET v = 1 WHERE id = {number}")
            until(lambda: replica.value(_WAITING) >= 2)
            os.killpg(worker, signal.SIGCONT)
            until(copied)

    with ThreadPoolExecutor(1) as thread:
        stood = thread.submit(stand)
        yield
        stood.result()
    replica.run(
        "STOP SLAVE; SET GLOBAL slave_parallel_threads = 0; SET GLOBAL slave_parallel_mode = DEFAULT; START SLAVE"
    )
    until(lambda: replica.channels()[0]["Slave_IO_Running"] == "Yes")


def prepared(job: Path) -> int:
    """How many transactions of its copy were rolled back."""
    return sum(
        map(
            int,
            re.findall(r"(\d+) transactions in prepared state", (job / "backup.log").read_text()),
        )
    )


# -- what stands in the way -----------------------------------------------------------------------


def test_a_plan_shows_everything_and_writes_nothing(side: NewSide, master: SaltMaster) -> None:
    before = side.old.value("SELECT @@gtid_binlog_pos")
    ran = prepare(master, "test=True")
    assert ran.rc == 0, ran.stdout
    steps = changed(ran)
    for name in NEW:
        assert steps[f"seed.{side.known_as(name)}"] == {"old": False, "new": True}
        assert steps[f"joined.{side.known_as(name)}"] == {"old": False, "new": True}
        assert steps[f"data.{side.known_as(name)}"] == {"old": "unproved", "new": "alike"}
        assert any(
            "90-saltext-migrate-server.cnf" in one
            for one in steps[f"configuration.{side.known_as(name)}"]["old"]
        )
    assert "way-back.old-db1" not in steps
    assert not side.seed_folder.exists()
    assert side.old.value("SELECT @@gtid_binlog_pos") == before


def test_what_makes_a_copy_unsafe_is_found_all_at_once_and_refuses_it(
    side: NewSide, master: SaltMaster
) -> None:
    pillar = side.pillar()
    particular = pillar["prepare"]["databases"]["servers"]
    particular["db2"]["server_id"] = side["old-db2"].server_id
    del particular["relay"]["options"]["ssl_cert"]
    master.set_pillar(pillar)
    side.old.run(
        "SET GLOBAL binlog_expire_logs_seconds=600; CREATE TABLE site.old (id INT) ENGINE=MyISAM"
    )
    ran = prepare(master)
    side.old.run("SET GLOBAL binlog_expire_logs_seconds=0; DROP TABLE site.old")
    master.set_pillar(side.pillar())
    assert ran.rc == 1
    for words in (
        "its binlogs are kept for 600 s",
        "1 tables of MyISAM, for example site.old",
        "also that of old-db2",
        "migrate:prepare:databases:servers:db2:server_id gives it another",
        "wants verified connections, and its options name no ssl_cert",
        "name them in migrate:prepare:databases:servers:relay:options",
    ):
        assert words in told(ran)
    assert not side.seed_folder.exists()


# -- the whole way --------------------------------------------------------------------------------


def test_the_new_side_is_copied_while_the_old_one_is_written(
    side: NewSide, master: SaltMaster
) -> None:
    process = side.old.pid
    others = set(re.findall(r"\d+-(\d+)-", side.old.value("SELECT @@gtid_binlog_state")))
    with Writer(side, threads=2, sides=("old",)) as writer:
        began = time.monotonic()
        ran = prepare(master)
        print(f"prepare of three databases: {time.monotonic() - began:.1f} s")
        assert ran.rc == 0, ran.stdout + ran.stderr
    assert writer.results.refused == []
    assert judge(side, writer.results).lost == []
    assert others == set(re.findall(r"\d+-(\d+)-", side.old.value("SELECT @@gtid_binlog_state")))
    assert side.old.pid == process
    stands(side)
    for name in NEW:
        # Each was compared with old db1, while that one was written.
        proof = json.loads(record(side, name).read_text())["evidence"]
        assert proof["differences"] == []
        assert proof["tables"]["site.blobs"]["rows"] == 100
        assert "site.writes" in proof["tables"]
    for secret in (side.admin.password, side.replication.password):
        assert secret not in ran.stdout + ran.stderr
        kept = [path for path in side.seed_folder.rglob("*") if path.is_file()]
        assert kept
        assert not [path for path in kept if secret.encode() in path.read_bytes()]


def test_a_second_run_changes_nothing(side: NewSide, master: SaltMaster) -> None:
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout
    assert changed(ran) == {}
    assert "already so" in told(ran)
    stands(side)


def test_a_channel_that_never_ran_is_told_everything_once_more(
    side: NewSide, master: SaltMaster
) -> None:
    # As a run leaves it whose pillar had the wrong password.
    user, address = side.replication.user, side.old.address
    side["relay"].run(
        "STOP SLAVE; CHANGE MASTER TO MASTER_PASSWORD='another-17';"
        f" START SLAVE; DO SLEEP(0.5) # {user} {address}"
    )
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout
    assert "joined.new-relay" in changed(ran)
    stands(side)


def test_a_backup_comes_back_as_of_a_moment_that_it_did_not_hold(
    side: NewSide, master: SaltMaster
) -> None:
    pillar = side.pillar()
    folder = side.state / "backup"
    pillar["prepare"]["backup"] = {"node": "db1", "folder": str(folder), "limit": 60_000}
    master.set_pillar(pillar)

    def finding() -> list[str]:
        findings = master.run("migrate.preflight", "flip").answer
        return [each["found"] for each in findings if each["topic"] == "backup"]

    assert finding() == ["no backup of it was ever restored"]
    folder.mkdir()
    (folder / "base").mkdir()
    ran = prepare(master)
    assert ran.rc == 1
    assert "holds what is not ours: name a folder of its own" in told(ran)
    (folder / "base").rmdir()
    # So many tables that what is asked of them goes to the host in parts.
    columns = ", ".join(f"a_column_with_a_long_name_{number} VARCHAR(9)" for number in range(20))
    many = [f"site.many_{number}" for number in range(30)]
    side.old.run(
        "".join(f"CREATE TABLE {table} (id INT PRIMARY KEY, {columns});" for table in many)
    )
    # And one so long that its own sum is made of several.
    side.old.run(
        "CREATE TABLE site.long_one (id INT PRIMARY KEY, word VARCHAR(9));"
        " USE site; INSERT INTO site.long_one SELECT seq, seq FROM seq_1_to_50000"
    )
    began = time.monotonic()
    job = ("new-db1", "backup")
    with (
        standing_prepared(side, side["new-db1"], job, (folder / "base").exists),
        Writer(side, threads=2, sides=("old",)) as writer,
    ):
        ran = prepare(master)
    print(f"backup of one database, restored: {time.monotonic() - began:.1f} s")
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert prepared(side.job("new-db1", "restore")) >= 2
    assert writer.results.refused == []
    assert "backup.new-db1" in changed(ran)
    seen = json.loads((side.state / "migrate/proofs/backup.new-db1.json").read_text())["evidence"]
    # While it was taken and after that moment people wrote: the backup alone would be another.
    taken = (folder / "base" / "xtrabackup_binlog_info").read_text().split()[2]
    assert int(taken.split("-")[2]) < int(seen["position"].split("-")[2])
    assert int(seen["position"].split("-")[2]) < int(
        side.old.value("SELECT @@gtid_binlog_pos").split("-")[2]
    )
    assert seen["rows"] > 50_000
    assert seen["tables"] > len(many)
    assert (side.seed_folder / "new-db1-restore" / "SUMS.1").exists()
    side.old.run(f"DROP TABLE site.long_one, {', '.join(many)}")
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".saltext-migrate", "base"], "nothing of the restored one is left"
    assert finding() == []
    assert changed(prepare(master)) == {}
    stands(side)
    # A site's own tool, and one that gives back nothing.
    pillar["prepare"]["backup"]["restore"] = "echo no such tape >&2; false"
    master.set_pillar(pillar)
    try:
        ran = prepare(master)
    finally:
        master.set_pillar(side.pillar())
    assert ran.rc == 1
    assert "the backup does not come back: no such tape" in told(ran)


def test_a_copy_that_differs_is_named(side: NewSide, master: SaltMaster) -> None:
    record(side, "new-db2").unlink()
    side["new-db2"].run("SET sql_log_bin=0; UPDATE site.blobs SET data='other' WHERE id=7")
    ran = prepare(master)
    assert ran.rc == 1
    assert "its data is not that of old-db1, in 1 places: site.blobs: changed at '7'" in told(ran)
    # What was found stays found, until somebody mends it.
    assert set(changed(prepare(master, "test=True"))) == {"data.new-db2"}


# -- deaths ---------------------------------------------------------------------------------------


def incoming(side: NewSide, name: str) -> Path:
    return side[name].datadir / ".saltext-migrate-seed"


def test_a_copy_that_comes_from_another_host_may_have_been_written_since(
    side: NewSide, master: SaltMaster
) -> None:
    # Its volume is here, its root disk is not; and the server does not answer yet.
    server = side["new-db2"]
    server.run("STOP SLAVE; RESET SLAVE ALL; SET sql_log_bin=0; CREATE DATABASE written_here")
    shutil.rmtree(side.job("new-db2"))
    server.kill()
    ran = prepare(master)
    assert ran.rc == 1
    assert "written_here" in told(ran)
    server.start()
    assert server.run("SHOW DATABASES LIKE 'written_here'") != []


def test_data_of_another_origin_is_never_touched(side: NewSide, master: SaltMaster) -> None:
    side.empty("new-db2")
    side["new-db2"].run("CREATE DATABASE theirs; CREATE TABLE theirs.precious (id INT)")
    ran = prepare(master)
    assert ran.rc == 1
    assert "holds databases that no seed brought: theirs" in told(ran)
    assert side["new-db2"].run("SHOW TABLES IN theirs") != []
    side["new-db2"].run("DROP DATABASE theirs")


def test_a_seed_that_dies_half_way_begins_again_by_itself(
    side: NewSide, master: SaltMaster
) -> None:
    side.empty("new-db2")
    # What an empty server wrote by itself, into binlogs outside of its data, goes with it: the copy's
    # place would be refused (error 1947), and nobody else has it.
    empty = side["new-db2"]
    (empty.conf_d / "50-logs.cnf").write_text(f"[mysqld]\nlog_bin={side.logs / 'db2.log'}\n")
    empty.restart()
    empty.run("SET SESSION gtid_seq_no=999999; FLUSH TABLES")
    assert "-999999" in empty.value("SELECT @@gtid_binlog_state")
    running = subprocess.Popen(
        master.command(*ORCHESTRATE), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: any(incoming(side, "new-db2").glob("*")))
    os.killpg(side.worker("new-db2"), signal.SIGKILL)
    said, errors = running.communicate(timeout=240)
    assert running.returncode == 0, said + errors
    stands(side)
    # What was said of the data that it had before did not count.
    assert json.loads(record(side, "new-db2").read_text())["evidence"]["differences"] == []


def test_a_copy_of_a_replica_that_commits_in_order_starts(
    side: NewSide, master: SaltMaster
) -> None:
    side.empty("new-db2")
    came = incoming(side, "new-db2") / "xtrabackup_info"
    with standing_prepared(side, side["relay"], ("new-db2", "send"), came.exists):
        ran = prepare(master)
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert prepared(side.job("new-db2")) >= 2
    stands(side)
    # What was rolled back came by replication.
    values = "SELECT GROUP_CONCAT(v ORDER BY id) FROM site.held"
    assert side["new-db2"].value(values) == side.old.value(values) == "1,1,1"


def test_a_controller_that_is_killed_finds_its_copy_again(
    side: NewSide, master: SaltMaster
) -> None:
    side.empty("new-db2")
    running = subprocess.Popen(
        master.command(*ORCHESTRATE), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: any(incoming(side, "new-db2").glob("*")))
    running.kill()
    running.wait()
    ours = until(lambda: side.worker("new-db2"))
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert int((side.job("new-db2") / "pid").read_text()) == ours, "no second copy"
    stands(side)
    assert changed(prepare(master)) == {}


def test_a_signal_ends_the_wait_for_a_copy_and_the_next_run_finds_it(
    side: NewSide, master: SaltMaster
) -> None:
    side.empty("new-db2")
    running = subprocess.Popen(
        master.command(*ORCHESTRATE), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: any(incoming(side, "new-db2").glob("*")))
    worker = side.worker("new-db2")
    os.killpg(worker, signal.SIGSTOP)
    running.send_signal(signal.SIGTERM)
    # The worker stands still, and nobody waits for it.
    said, errors = running.communicate(timeout=60)
    os.killpg(worker, signal.SIGCONT)
    assert running.returncode == 1, said + errors
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout
    stands(side)


# -- what old db1 lacks ---------------------------------------------------------------------------


def followed_again(side: NewSide) -> None:
    """Waits until the relay has what old db1 wrote since its start: a channel that is away would be joined anew."""
    side.old.run("CREATE OR REPLACE TABLE site.started (id INT PRIMARY KEY)")
    side["relay"].wait_for(side.old.position(), 60)


def test_what_the_way_back_needs_waits_for_a_restart(side: NewSide, master: SaltMaster) -> None:
    side.old.stop()
    side.old.start("--log-slave-updates=OFF")
    followed_again(side)
    looked = master.run("migrate.preflight", "prepare")
    assert looked.rc == 0, looked.stdout
    (told,) = [note for note in looked.answer if note["topic"] == "configuration"]
    # The flip will refuse for it; what it takes to mend it is known now.
    assert (told["subject"], told["blocking"]) == ("old-db1", False)
    assert told["found"] == "log_slave_updates is off"
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout
    assert set(changed(ran)) == {"way-back.old-db1"}
    written = side.old.conf_d / "97-saltext-migrate-way-back.cnf"
    assert "log_slave_updates=ON" in written.read_text()
    assert side.old.value("SELECT @@global.log_slave_updates") == 0, "nobody restarted it"
    side.old.restart()
    assert side.old.value("SELECT @@global.log_slave_updates") == 1
    followed_again(side)
    assert changed(prepare(master)) == {}
