"""Owns the other kinds of server that the tests have: each is one class, fetched when first asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.lab.mariadb import SMALL, MariaDB, os_user
from tests.lab.unpacked import unpacked


class MariaDB118(MariaDB):
    """MariaDB 11.8, of Debian 13."""

    SOFTWARE = "mariadb-11.8"
    _SQL = ("system_tables", "performance_tables", "system_tables_data", "sys_schema")

    @property
    def root_of(self) -> Path:
        """Where the packages stand."""
        return unpacked("trixie", "mariadb-server-core", ("usr/sbin/mariadbd",))

    @property
    def program(self) -> str:
        return str(self.root_of / "usr/sbin/mariadbd")

    def configuration(self) -> dict[str, Any]:
        return super().configuration() | self._places()

    def install(self, datadir: Path) -> None:
        # What its own script does; the script itself looks for programs of its own Debian.
        share = self.root_of / "usr/share/mariadb"
        sql = ["CREATE DATABASE mysql;", "USE mysql;", f"SET @auth_root_socket='{os_user()}';"]
        sql += [(share / f"mariadb_{part}.sql").read_text() for part in self._SQL]
        datadir.mkdir()
        options = SMALL | self._places()
        subprocess.run(
            [
                *(self.program, "--no-defaults", "--bootstrap", f"--user={os_user()}"),
                f"--datadir={datadir}",
                *(f"--{key.replace('_', '-')}={value}" for key, value in options.items()),
            ],
            input="\n".join(sql),
            text=True,
            check=True,
            capture_output=True,
        )

    def _places(self) -> dict[str, Any]:
        usr = self.root_of / "usr"
        return {"basedir": usr, "lc_messages_dir": usr / "share/mariadb"}


class MySQL(MariaDB):
    """MySQL 9, of Debian's unstable."""

    SOFTWARE = "mysql-9"
    STOP = "STOP REPLICA"
    START = "START REPLICA"
    FORGET = "STOP REPLICA; RESET REPLICA ALL"
    AT = "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}'"
    CLOSE = "SET GLOBAL super_read_only=1"
    ASLEEP = "--skip-replica-start"
    CHANNELS = "SHOW REPLICA STATUS"
    POSITION = "SELECT @@global.gtid_executed"
    WAIT = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)"
    SETTINGS = (
        "SELECT @@global.read_only AS read_only, @@global.super_read_only AS super_read_only,"
        " @@global.event_scheduler AS scheduler, @@global.general_log AS general_log"
    )
    READ_ONLY_ROLE = "[mysqld]\nsuper_read_only=ON\n"
    FENCE = b"CALL saltext_migrate.fence("
    PROMOTE = b"CALL saltext_migrate.promote("
    DECIDE = b"CALL saltext_migrate.go_back("
    LIFT = b"CALL saltext_migrate.unfence("

    @property
    def root_of(self) -> Path:
        """Where the packages stand."""
        programs = ("usr/sbin/mysqld", "usr/bin/mysqlbinlog")
        return unpacked("sid", "mysql-server-core", programs)

    @property
    def program(self) -> str:
        return str(self.root_of / "usr/sbin/mysqld")

    def create(self) -> None:
        super().create()
        # Each its own UUID.
        (self.datadir / "auto.cnf").unlink(missing_ok=True)

    def configuration(self) -> dict[str, Any]:
        return self._places() | {
            "user": os_user(),
            "datadir": self.datadir,
            "socket": self.socket,
            "tmpdir": self.home / "tmp",
            "pid_file": self.home / "mysqld.pid",
            "log_error": self.error_log,
            "bind_address": self.address,
            "port": self.port,
            "server_id": self.server_id,
            "report_host": self.address,
            "report_port": self.port,
            "skip_name_resolve": "ON",
            "log_bin": "binlog",
            "relay_log": "relay",
            "gtid_mode": "ON",
            "enforce_gtid_consistency": "ON",
            "replica_net_timeout": 4,
            "general_log_file": self.general_log,
            # As by default, where it counts: it costs much memory.
            "performance_schema": "ON" if self.name == "old-db1" else "OFF",
        }

    def install(self, datadir: Path) -> None:
        subprocess.run(
            [
                *(self.program, "--no-defaults", "--initialize-insecure", f"--user={os_user()}"),
                f"--datadir={datadir}",
                *(f"--{key.replace('_', '-')}={value}" for key, value in self._places().items()),
            ],
            check=True,
            capture_output=True,
        )

    def follow_words(self, source: MariaDB, user: str, password: str, ca: Path | None) -> str:
        tls = (
            f"SOURCE_SSL=1, SOURCE_SSL_CA='{ca}', SOURCE_SSL_VERIFY_SERVER_CERT=1"
            if ca
            else "SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1"
        )
        return (
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='{source.address}', SOURCE_PORT={source.port},"
            f" SOURCE_USER='{user}', SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1,"
            f" SOURCE_CONNECT_RETRY=1, {tls}"
        )

    def role_at_boot(self) -> Any:
        sql = (
            "SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM performance_schema.persisted_variables"
            " WHERE VARIABLE_NAME LIKE '%read_only' ORDER BY 1"
        )
        return [(row["name"], row["value"]) for row in self.run(sql)]

    def _places(self) -> dict[str, Any]:
        usr = self.root_of / "usr"
        return {
            "basedir": usr,
            "lc_messages_dir": usr / "share/mysql",
            "plugin_dir": usr / "lib/mysql/plugin",
            "secure_file_priv": "",
            "mysqlx": "OFF",
            "innodb_buffer_pool_size": "32M",
            "innodb_redo_log_capacity": "8M",
            "performance_schema": "OFF",
            "table_open_cache": 200,
            "max_connections": 200,
        }


KINDS: dict[str, type[MariaDB] | dict[str, type[MariaDB]]] = {
    "mariadb-10.11": MariaDB,
    "mariadb-11.8": MariaDB118,
    "mysql-9": MySQL,
    "mariadb-10.11-to-11.8": {"old-db1": MariaDB, "old-db2": MariaDB}
    | dict.fromkeys(("relay", "new-db1", "new-db2"), MariaDB118),
}
