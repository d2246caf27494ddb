"""Owns what a person does with a server that has what nobody else has: it is seeded anew, and those below it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.lab.loopback import QUARANTINE, SOURCES, Chain
from tests.lab.mariadb import MariaDB

# Of each server alone, so they are no part of a seed.
_LOCAL = "DELETE FROM saltext_migrate.decision; DELETE FROM saltext_migrate.fence"


def seed_anew(chain: Chain, victim: MariaDB) -> None:
    """Seeds from the serving primary whoever has a transaction that only the victim wrote, by the binlogs.

    A relay's binlog begins anew with that, so that those below it are seeded with it.
    """
    source = chain.serving()
    if victim is source:
        # What it has is what everybody shall have.
        return
    victims = [one for one in chain.servers.values() if one.running and _apart(one, source, victim)]
    if victim is chain["relay"] and victim in victims:
        below = [chain[name] for name, above in SOURCES.items() if above == "relay"]
        victims += [one for one in below if one.running and one not in (source, *victims)]
    with tempfile.TemporaryDirectory(prefix="seed-") as folder:
        for step in (
            ["--backup", f"--socket={source.socket}", "--user=root", f"--datadir={source.datadir}"],
            ["--prepare"],
        ):
            command = ["mariadb-backup", "--no-defaults", *step, f"--target-dir={folder}"]
            subprocess.run(command, check=True, capture_output=True)
        for one in victims:
            _seed(chain, one, Path(folder))


def _seed(chain: Chain, server: MariaDB, backup: Path) -> None:
    channel = server.run("SHOW SLAVE STATUS")
    server.stop()
    shutil.rmtree(server.datadir)
    shutil.copytree(backup, server.datadir)
    server.start("--skip-slave-start")
    position = (backup / "xtrabackup_binlog_info").read_text().split()[2]
    # Its own binlog begins here as well, so that whoever is below it can be told from where.
    server.run(
        "SET GLOBAL gtid_slave_pos=%s; RESET MASTER; SET GLOBAL gtid_binlog_state=%s",
        (position, position),
    )
    if server.value("SHOW TABLES FROM saltext_migrate LIKE 'decision'"):
        server.run(f"SET sql_log_bin=0; {_LOCAL}")
    if channel:
        account = chain.replication
        server.run(
            "CHANGE MASTER TO MASTER_HOST=%s, MASTER_PORT=%s, MASTER_USER=%s, MASTER_PASSWORD=%s,"
            " MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; START SLAVE",
            (channel[0]["Master_Host"], channel[0]["Master_Port"], account.user, account.password),
        )


def _apart(server: MariaDB, source: MariaDB, victim: MariaDB) -> bool:
    """Tells whether a server has a transaction of the victim that the serving primary never had."""
    known = _of(source, victim)
    return any(sequence > known.get(domain, 0) for domain, sequence in _of(server, victim).items())


def _of(server: MariaDB, victim: MariaDB) -> dict[int, int]:
    parts = [
        part.split("-")
        for part in server.value("SELECT @@global.gtid_binlog_state").split(",")
        if part
    ]
    # What stands in the quarantine harms nobody, and nobody is seeded anew for it.
    return {
        int(domain): int(last)
        for domain, ident, last in parts
        if int(ident) == victim.server_id and int(domain) != QUARANTINE
    }
