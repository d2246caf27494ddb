"""The relay and the new databases of MySQL: copied from an old side that runs on, by a real Salt, and after deaths."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.functional.test_seeding import changed, prepare, record, told, until
from tests.lab.kinds import MySQL
from tests.lab.newside import NEW, NewSide, minions
from tests.lab.salt import SaltMaster
from tests.lab.unpacked import Unavailable
from tests.lab.writer import Writer, judge

INSTALL = "INSTALL PLUGIN clone SONAME 'mysql_clone.so'"


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewSide]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(NewSide(tmp_path_factory.mktemp("newside"), kind=MySQL))
        except Unavailable as why:
            pytest.skip(str(why))
        # Enough that a copy takes its time.
        running.old.run(
            "CREATE TABLE site.blobs (id INT PRIMARY KEY AUTO_INCREMENT, data LONGBLOB);"
            "INSERT INTO site.blobs (data) VALUES " + ", ".join(60 * ["(REPEAT(UUID(), 30000))"])
        )
        yield running


@pytest.fixture(scope="module")
def master(side: NewSide) -> Iterator[SaltMaster]:
    # Hosts of MySQL have its programs by their names.
    programs = side.state / "programs"
    programs.mkdir()
    (programs / "mysqld").symlink_to(side.old.program)
    (programs / "mysqlbinlog").symlink_to(side.old.root_of / "usr/bin/mysqlbinlog")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        with SaltMaster(side.pillar()) as running, minions(running):
            yield running


def stands(side: NewSide) -> None:
    """The chain is as declared, everybody has the same data, and nobody wrote anything of their own."""
    uuid = side.old.value("SELECT @@server_uuid")
    ours, names = side.old.position(), {uuid}
    for name in NEW:
        server = side[name]
        server.wait_for(ours, 20)
        names.add(server.value("SELECT @@server_uuid"))
        seen = server.run(
            "SELECT @@global.super_read_only AS closed, @@global.log_replica_updates AS updates,"
            " @@global.gtid_mode AS gtids, @@global.server_id AS id"
        )[0]
        assert seen == {
            "closed": 1,
            "updates": 1,
            "gtids": "ON",
            "id": int(server.address.rpartition(".")[2]),
        }
        (channel,) = server.channels()
        assert (channel["Slave_IO_Running"], channel["Slave_SQL_Running"]) == ("Yes", "Yes")
        assert channel["Master_Host"] == side["old-db1" if name == "relay" else "relay"].address
        # What anybody but old db1 ever logged would be a transaction that only one server has.
        assert {part.split(":")[0].strip() for part in server.position().split(",")} == {uuid}
        # What a first start was told would end the channel at the next.
        assert not list(server.conf_d.glob("98-*"))
    assert len(names) == 1 + len(NEW), "each its own UUID"
    for table in ("site.writes", "site.blobs"):
        servers = [side[name] for name in ("old-db1", *NEW)]
        sums = {server.run(f"CHECKSUM TABLE {table}")[0]["Checksum"] for server in servers}
        assert len(sums) == 1, table
    assert list(side.clones.iterdir()) == [], "nothing of a copy is left where it was made"


def test_what_stands_against_a_copy_is_found_all_at_once(side: NewSide, master: SaltMaster) -> None:
    pillar = side.pillar()
    del pillar["prepare"]["databases"]["family"]
    master.set_pillar(pillar)
    ran = prepare(master)
    master.set_pillar(side.pillar())
    assert ran.rc == 1
    assert "[seeding] old-db1: it is MySQL, and the new databases would be" in told(ran)
    assert "set migrate:prepare:databases:family: mysql" in told(ran)
    side.old.run(
        "SET GLOBAL binlog_expire_logs_seconds=600; SET GLOBAL gtid_mode=ON_PERMISSIVE;"
        "CREATE TABLE site.old (id INT) ENGINE=MyISAM"
    )
    side.clones.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(side.clones)], check=True)
    try:
        ran = prepare(master)
    finally:
        subprocess.run(["umount", "-l", str(side.clones)], check=True)
        side.old.run(
            "SET GLOBAL binlog_expire_logs_seconds=0; SET GLOBAL gtid_mode=ON; DROP TABLE site.old"
        )
    assert ran.rc == 1
    for words in (
        "its binlogs are kept for 600 s",
        "gtid_mode is ON_PERMISSIVE",
        "1 tables of MyISAM, for example site.old",
        "the plugin clone, by which it copies itself, is not active",
        INSTALL,
        f"where {side.clones} is, has no room for a copy of it and 1 GiB more",
    ):
        assert words in told(ran)
    assert not side.seed_folder.exists()


def test_the_new_side_is_copied_while_the_old_one_is_written(
    side: NewSide, master: SaltMaster
) -> None:
    side.old.run(INSTALL)
    process = side.old.pid
    with Writer(side, threads=2, sides=("old",)) as writer:
        began = time.monotonic()
        ran = prepare(master)
        print(f"prepare of three databases: {time.monotonic() - began:.1f} s")
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert writer.results.refused == []
    verdict = judge(side, writer.results)
    assert (verdict.lost, verdict.duplicated) == ([], [])
    assert verdict.acknowledged > 0
    assert side.old.pid == process
    for name in NEW:
        # Each was compared with old db1, while that one was written.
        proof = json.loads(record(side, name).read_text())["evidence"]
        assert proof["differences"] == []
        assert {"site.blobs", "site.writes"} <= set(proof["tables"])
    stands(side)
    for secret in (side.admin.password, side.replication.password):
        assert secret not in ran.stdout + ran.stderr
        kept = [path for path in side.seed_folder.rglob("*") if path.is_file()]
        assert kept
        assert not [path for path in kept if secret.encode() in path.read_bytes()]
    again = prepare(master)
    assert again.rc == 0, again.stdout
    assert changed(again) == {}
    # The role is in a file, and so are the names of the chain: a reboot finds both.
    side["new-db1"].restart()
    side.wait_replicating(replicas=("new-db1",))
    stands(side)


def test_a_backup_comes_back_as_of_a_moment_that_it_did_not_hold(
    side: NewSide, master: SaltMaster
) -> None:
    pillar = side.pillar()
    folder = side.state / "backup"
    pillar["prepare"]["backup"] = {"node": "db1", "folder": str(folder), "limit": 120_000}
    master.set_pillar(pillar)
    try:
        with Writer(side, threads=2, sides=("old",)) as writer:
            began = time.monotonic()
            ran = prepare(master)
            print(f"backup of one database, restored: {time.monotonic() - began:.1f} s")
        assert ran.rc == 0, ran.stdout + ran.stderr
        assert writer.results.refused == []
        assert "backup.new-db1" in changed(ran)
        kept = side.state / "migrate/proofs/backup.new-db1.json"
        seen = json.loads(kept.read_text())["evidence"]
        assert seen["rows"] > 100
        # People wrote while it was taken, and after that moment: the backup alone would be another.
        assert seen["position"] != side.old.value("SELECT @@global.gtid_executed")
        left = sorted(path.name for path in folder.iterdir())
        assert left == [".saltext-migrate", "base"], "nothing of the restored one is left"
        assert changed(prepare(master)) == {}
        stands(side)
        # A site's own tool, and one that gives back nothing.
        kept.unlink()
        pillar["prepare"]["backup"]["restore"] = "echo no such tape >&2; false"
        master.set_pillar(pillar)
        ran = prepare(master)
        assert ran.rc == 1
        assert "the backup does not come back: no such tape" in told(ran)
    finally:
        master.set_pillar(side.pillar())


def kill(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


def test_a_copy_that_dies_on_either_side_begins_anew(side: NewSide, master: SaltMaster) -> None:
    side.empty("new-db2")
    first_start = side["new-db2"].conf_d / "98-saltext-migrate-first-start.cnf"
    running = subprocess.Popen(
        master.command("state.orchestrate", "migrate.prepare"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # The relay copies itself: it goes on though nobody waits for it any more.
    until(lambda: list(side.clones.glob("*/data")))
    kill(until(lambda: side.worker("new-db2", "send")))
    # What came is complete, and its server is about to forget whom the relay follows.
    until(first_start.exists)
    running.kill()
    running.wait()
    kill(until(lambda: side.worker("new-db2")))
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert "seed.new-db2" in changed(ran), "half a copy is none"
    stands(side)
