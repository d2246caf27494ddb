"""Clean-up as Salt carries it: a last backup by a real dump, what stood still goes on, minions lose their keys."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from saltext.migrate import newcomer
from tests.lab import direct
from tests.lab.kinds import MySQL
from tests.lab.loopback import MINION, Chain
from tests.lab.mariadb import MariaDB
from tests.lab.salt import COMMANDS, REPOSITORY, RESTART, SaltMaster
from tests.lab.unpacked import Unavailable, unpacked

NEW_MASTER = "127.0.0.52"


def test_the_last_backup_is_taken_and_whole_and_the_freeze_ends(
    fresh_chain: Chain, salt_master: SaltMaster, tmp_path: Path
) -> None:
    fresh_chain.old.run("INSERT INTO site.writes VALUES (NULL, 1, 1, 7, 'old', SYSDATE(6))")
    replica = fresh_chain["old-db2"]
    options = tmp_path / "client.cnf"
    account = fresh_chain.admin
    options.write_text(f"[client]\nhost={replica.address}\nport={replica.port}\nuser={account.user}\n"
                       f"password={account.password}\n")  # fmt: skip
    lock, dump = tmp_path / "deploy.lock", tmp_path / "backup" / "last.sql.gz"
    settings = fresh_chain.pillar() | {
        "freeze": {"lock": str(lock), "nodes": ["app1"]},
        "cleanup": {
            "soak_hours": 0,
            "give_up_revert": "there is no way back",
            "backup": {"node": "db2", "path": str(dump), "options": f"--defaults-file={options}"},
        },
    }
    salt_master.set_pillar(settings)
    try:
        assert salt_master.run("migrate.flip").rc == 0
        assert lock.exists()
        tried = salt_master.run("state.orchestrate", "migrate.cleanup", "test=True")
        planned = tried.states["cleanup"]
        done = salt_master.run("state.orchestrate", "migrate.cleanup")
        assert done.rc == 0, done.stdout
        changes = done.states["cleanup"]["changes"]
        # The list and the count before are those after.
        assert planned["changes"].keys() == changes.keys()
        assert planned["comment"].startswith(f"{len(changes)} steps would change something")
        assert {"last-backup", "freeze.deploy", "reverse-replication.old-db1"} <= changes.keys()
        text = gzip.decompress(dump.read_bytes()).decode()
        assert "CREATE TABLE `writes`" in text
        assert text.rstrip().splitlines()[-1].startswith("-- Dump completed")
        assert account.password not in done.stdout + done.stderr
        proof = (Path(settings["state_dir"]) / "proofs" / "last-backup.json").read_text()
        assert hashlib.sha256(dump.read_bytes()).hexdigest() in proof
        assert not lock.exists()
        assert fresh_chain.old.run("SHOW SLAVE STATUS") == []
        assert salt_master.run("migrate.plan", "cleanup").answer["changes"] == []
        restores(fresh_chain, text, tmp_path)
    finally:
        salt_master.set_pillar(fresh_chain.pillar())


def test_minions_obey_the_new_master_alone_in_the_end(fresh_chain: Chain, tmp_path: Path) -> None:
    settings = fresh_chain.pillar()
    settings["nodes"]["new"]["deployment"] = {"private": NEW_MASTER, "minion": MINION}
    settings["prepare"] = {
        "masters": [NEW_MASTER, "127.0.0.1"],
        "deployment": {
            "old": "app1",
            "new": "deployment",
            "paths": [str(tmp_path)],
            "exclude": [],
            "master": {"restart": RESTART},
        },
    }
    settings["cleanup"] = {"soak_hours": 0, "give_up_revert": "there is no way back"}
    everywhere = {"interface": "0.0.0.0"}
    with SaltMaster(settings, settings=everywhere, minions_restart=True) as master:
        assert master.call_minion("config.get", "master").data == "127.0.0.1"
        assert master.run("migrate.flip").rc == 0
        planned = master.run("migrate.plan", "cleanup").answer["changes"]
        (change,) = [change for change in planned if change["step"].startswith("obeys.")]
        assert (change["step"], change["new"]) == ("obeys.new-deployment", [NEW_MASTER])
        done = master.run("state.orchestrate", "migrate.cleanup")
        assert done.rc == 0, done.stdout
        assert master.call_minion("config.get", "master").data == NEW_MASTER
        assert master.run("migrate.plan", "cleanup").answer["changes"] == []


def test_mysql_is_backed_up_by_its_own_programs(mysql: Chain, tmp_path: Path) -> None:
    try:
        programs = unpacked("sid", "mysql-client-core", ("usr/bin/mysql", "usr/bin/mysqldump"))
    except Unavailable as why:
        pytest.skip(str(why))
    mysql.old.run(
        "CREATE ROLE IF NOT EXISTS readers; GRANT SELECT ON site.writes TO readers;"
        "CREATE USER IF NOT EXISTS reader@'10.%' IDENTIFIED BY 'pw'; GRANT readers TO reader@'10.%';"
        "INSERT INTO site.writes VALUES (NULL, 1, 1, 7, 'old', SYSDATE(6))"
    )
    mysql.settle()
    replica, dump = mysql["old-db2"], tmp_path / "last.sql.gz"
    options = tmp_path / "client.cnf"
    options.write_text(f"[client]\nsocket={replica.socket}\nuser=root\n")
    told = {"path": str(dump), "options": f"--defaults-file={options}", "seconds": 60}
    path = f"{programs}/usr/bin:{os.environ['PATH']}"
    ran = subprocess.run(
        [COMMANDS / "salt-call", "--local", "-c", tmp_path, "--out=json", "--retcode-passthrough"]
        + [f"--file-root={REPOSITORY / 'salt'}", "state.apply", "migrate.host.backup"]
        + ["pillar=" + json.dumps({"saltext_migrate": told})],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = gzip.decompress(dump.read_bytes()).decode()
    assert "CREATE TABLE `writes`" in text
    assert "SET @@GLOBAL.GTID_PURGED" in text
    restores(mysql, text, tmp_path, MySQL, f"{programs}/usr/bin/mysql")


def restores(
    chain: Chain,
    dump: str,
    folder: Path,
    kind: type[MariaDB] = MariaDB,
    client: str = "mariadb",
) -> None:
    """Loads a dump into a server that holds nothing: every table, every row and every account come back."""
    server = kind("restored", "127.0.0.46", chain.port, folder / "restored", server_id=46)
    server.create()
    try:
        server.start()
        done = subprocess.run([client, "--no-defaults", "-S", server.socket, "-u", "root"],
                              input=dump, capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        tables = (
            "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) t FROM information_schema.TABLES WHERE"
            " TABLE_TYPE='BASE TABLE' AND TABLE_SCHEMA NOT IN"
            " ('mysql','information_schema','performance_schema','sys') ORDER BY 1"
        )
        names = [row["t"] for row in chain["old-db2"].run(tables)]
        assert names == [row["t"] for row in server.run(tables)]
        assert "site.writes" in names
        sums = f"CHECKSUM TABLE {', '.join(names)}"
        assert server.run(sums) == chain["old-db2"].run(sums)
        accounts = "SELECT CONCAT(User, '@', Host) a FROM mysql.user"
        there = {row["a"] for row in chain["old-db2"].run(accounts)}
        assert there <= {row["a"] for row in server.run(accounts)}
        server.connect(chain.app.user, chain.app.password).close()
    finally:
        server.kill()


def test_a_backup_that_cannot_be_taken_stops_everything_after_it(
    fresh_chain: Chain, salt_master: SaltMaster, tmp_path: Path
) -> None:
    settings = fresh_chain.pillar() | {
        "cleanup": {
            "soak_hours": 0,
            "give_up_revert": "there is no way back",
            "backup": {"node": "db2", "path": str(tmp_path / "x.gz"), "options": "--port=1 --host=127.0.0.1"},
        }
    }  # fmt: skip
    assert direct.run(fresh_chain.pillar(), "apply", phase="flip").verdict == "done"
    salt_master.set_pillar(settings)
    try:
        refused = salt_master.run("migrate.cleanup")
        assert refused.rc == 1
        assert "saltext-migrate-backup" in refused.stdout
        assert not (tmp_path / "x.gz").exists()
        # The way back stands.
        assert fresh_chain.old.run("SHOW SLAVE STATUS")[0]["Slave_SQL_Running"] == "Yes"
    finally:
        salt_master.set_pillar(fresh_chain.pillar())


def test_a_key_is_taken_away_by_its_whole_name_alone(tmp_path: Path) -> None:
    keys = tmp_path / "pki" / "minions"
    keys.mkdir(parents=True)
    for host in ("old-web1", "old-web11", "new-web1"):
        (keys / host).write_text("key")
    opts = {"pki_dir": str(tmp_path / "pki"), "cachedir": str(tmp_path), "user": "root"}
    asked = {"ask": "accepted", "hosts": ["old-web1", "old-web2"]}
    assert newcomer.answer(opts, tmp_path, asked) == ["old-web1"]
    newcomer.answer(opts, tmp_path, {"ask": "revoke", "hosts": ["old-web1", "old-web2"]})
    assert sorted(path.name for path in keys.iterdir()) == ["new-web1", "old-web11"]
    # The master makes a new session key: who has the old one hears nothing any more.
    assert (tmp_path / ".dfn").exists() or list(tmp_path.glob("**/.dfn"))
    with pytest.raises(CommandExecutionError, match="no minion id"):
        newcomer.answer(opts, tmp_path, {"ask": "revoke", "hosts": ["old-*"]})
