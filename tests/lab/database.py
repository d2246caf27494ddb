"""The database hosts of the lab: MariaDB's own unit, the site's configuration, and the chain.

All servers begin with the same data (the template's) and the same GTID position, as after a seed;
from there the old primary writes and the rest follow: old-db2 and relay under it, new under relay.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pymysql.cursors

from tests.lab.hosts import Host
from tests.lab.mariadb import IN_CLEAR

SERVER_IDS = {"old-db1": 11, "old-db2": 12, "relay": 30, "new-db1": 21, "new-db2": 22}
# Replica -> its source, as declared.
CHAIN = {"old-db2": "old-db1", "relay": "old-db1", "new-db1": "relay", "new-db2": "relay"}
ROLE_FILE = "/etc/mysql/mariadb.conf.d/99-saltext-migrate.cnf"
# As if the site had lived before: nobody's binlog reaches back to the beginning.
SEED_POSITION = "0-11-1000"

_CONFIGURATION = """\
[mysqld]
bind-address = 0.0.0.0
server_id = {server_id}
report_host = {name}
log_bin = binlog
relay_log = relaylog
binlog_format = ROW
log_slave_updates = ON
gtid_strict_mode = ON
sync_binlog = 1
innodb_flush_log_at_trx_commit = 1
skip_name_resolve = ON
performance_schema = OFF
innodb_buffer_pool_size = 96M
innodb_log_file_size = 16M
max_connections = 120
# A source that a partition took away is noticed soon, not after a minute.
slave_net_timeout = 6
# Two hops of one applier each cannot keep up with a thousand commits a second.
slave_parallel_threads = 4
"""

_MARKER = """\
CREATE DATABASE IF NOT EXISTS saltext_migrate;
CREATE TABLE IF NOT EXISTS saltext_migrate.marker (name VARCHAR(64) PRIMARY KEY,
  run VARCHAR(64) NOT NULL, seq BIGINT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL) ENGINE=InnoDB;
"""


def configuration(name: str, server_id: int) -> str:
    return _CONFIGURATION.format(name=name, server_id=server_id)


def accounts_sql(secrets: dict[str, str]) -> str:
    """The accounts of the site; the application's has rights on its own database only."""
    return (
        _MARKER
        + f"""\
CREATE USER migrate@'%' IDENTIFIED BY '{secrets["admin"]}';
GRANT ALL PRIVILEGES ON *.* TO migrate@'%' WITH GRANT OPTION;
CREATE USER migrate_marker@'%' IDENTIFIED BY '{secrets["marker"]}';
GRANT SELECT, INSERT, UPDATE, DELETE ON saltext_migrate.marker TO migrate_marker@'%';
CREATE USER replication@'%' IDENTIFIED BY '{secrets["replication"]}';
GRANT REPLICATION SLAVE ON *.* TO replication@'%';
CREATE DATABASE wiki CHARACTER SET binary;
CREATE USER wiki@'%' IDENTIFIED BY '{secrets["wiki"]}';
GRANT ALL PRIVILEGES ON wiki.* TO wiki@'%';
"""
    )


def seed(host: Host, template: Path, *, in_memory: bool = False) -> None:
    """Give a host that is off the template's data, its configuration and its role at boot.

    `in_memory`: the data is on no disk, and gone with the lab.
    """
    data = next(Path(source) for source, (to, _) in host.binds.items() if to == "/var/lib/mysql")
    primary = host.name not in CHAIN
    data.mkdir(exist_ok=True)
    if in_memory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2G", "tmpfs", str(data)], check=True)
    copy = ["cp", "-a", "--sparse=always", f"{template}/mysql/.", str(data)]
    subprocess.run(copy, check=True)
    if not primary:
        # What the primary wrote before is in a replica's data, not in its binlog.
        for log in data.glob("binlog.*"):
            log.unlink()
    host.write(
        "/etc/mysql/mariadb.conf.d/70-site.cnf", configuration(host.name, SERVER_IDS[host.name])
    )
    if not primary:
        host.write(ROLE_FILE, "[mysqld]\nread_only=1\n")


@contextmanager
def session(
    host: Host, user: str, password: str, seconds: float = 5
) -> Iterator[pymysql.connections.Connection[Any]]:
    connection = pymysql.connect(
        host=host.address,
        user=user,
        password=password,
        autocommit=True,
        connect_timeout=max(1, round(seconds)),
        cursorclass=pymysql.cursors.DictCursor,
        **IN_CLEAR,
    )
    try:
        yield connection
    finally:
        connection.close()


def query(host: Host, password: str, statement: str, user: str = "migrate") -> list[dict[str, Any]]:
    """Run one statement over the network and return its rows."""
    with session(host, user, password) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def follow(host: Host, source: Host, secrets: dict[str, str]) -> None:
    """Put a freshly seeded replica under its declared source."""
    with session(host, "migrate", secrets["admin"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET GLOBAL gtid_slave_pos = '{SEED_POSITION}'")
        cursor.execute(
            f"CHANGE MASTER TO MASTER_HOST='{source.address}', MASTER_USER='replication',"
            f" MASTER_PASSWORD='{secrets['replication']}', MASTER_USE_GTID=slave_pos,"
            " MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1"
        )
        cursor.execute("START SLAVE")


def wait_following(hosts: list[Host], password: str, seconds: float = 30) -> None:
    """Until every replica's two threads run."""
    deadline = time.monotonic() + seconds
    left = list(hosts)
    while left:
        rows = query(left[0], password, "SHOW SLAVE STATUS")
        if rows and rows[0]["Slave_IO_Running"] == rows[0]["Slave_SQL_Running"] == "Yes":
            left.pop(0)
        elif time.monotonic() > deadline:
            said = {k: v for k, v in rows[0].items() if "Running" in k or "Error" in k}
            raise RuntimeError(f"{left[0].name} does not replicate: {said}")
        else:
            time.sleep(0.05)
