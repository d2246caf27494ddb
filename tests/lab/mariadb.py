"""Owns one real mariadbd process: its directory, its configuration, its life and its death."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT

ROLE_FILE = "99-saltext-migrate.cnf"
READ_ONLY_ROLE = "[mysqld]\nread_only=1\n"
# Kept between runs: building them costs more than copying them five times.
TEMPLATES = Path(__file__).resolve().parents[2] / "target" / "lab"

SMALL = {
    "innodb_buffer_pool_size": "32M",
    "innodb_log_file_size": "10M",
    "innodb_temp_data_file_path": "ibtmp1:2M:autoextend",
    "performance_schema": "OFF",
    "key_buffer_size": "1M",
    "aria_pagecache_buffer_size": "4M",
    "table_open_cache": "200",
    "max_connections": "200",
}

# Else pymysql reads every certificate of the system for each connection: 15 ms of a processor.
IN_CLEAR: dict[str, Any] = {"ssl_disabled": True}


class ServerFailed(Exception):
    """A server did not start, or did not stop, in the time it was given."""


def template(name: str, build: Callable[[Path], None]) -> Path:
    """Returns an empty datadir to copy, building it on the first call ever."""
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    kept = TEMPLATES / f"{name}-template"
    with (TEMPLATES / f"{name}-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=TEMPLATES) as building:
                build(Path(building, "data"))
                # By rename: a killed build leaves no half template behind.
                Path(building, "data").rename(kept)
    return kept


class MariaDB:
    """One server in a directory of its own; everything below `home` belongs to it.

    The words are those of its family; another family's servers derive from it and say their own.
    """

    SOFTWARE = "mariadb"
    STOP = "STOP SLAVE"
    START = "START SLAVE"
    FORGET = "STOP SLAVE; RESET SLAVE ALL"
    AT = "CHANGE MASTER TO MASTER_HOST='{}'"
    CLOSE = "SET GLOBAL read_only=1"
    OPEN = "SET GLOBAL read_only=0"
    ASLEEP = "--skip-slave-start"
    CHANNELS = "SHOW ALL SLAVES STATUS"
    POSITION = "SELECT @@gtid_current_pos"
    WAIT = "SELECT MASTER_GTID_WAIT(%s, %s)"
    SETTINGS = (
        "SELECT @@global.read_only AS read_only, @@global.gtid_domain_id AS domain,"
        " @@global.event_scheduler AS scheduler, @@global.general_log AS general_log"
    )
    READ_ONLY_ROLE = READ_ONLY_ROLE
    # Statements of the product by which a test finds them on the wire.
    FENCE = b"SET GLOBAL read_only=1"
    PROMOTE = b"SET state='promote'"
    DECIDE = b"SET state='unfence', decided=NOW(6) WHERE run="
    LIFT = b"ON DUPLICATE KEY UPDATE state='lifted'"

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        home: Path,
        server_id: int,
        options: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.home = home
        self.server_id = server_id
        self.options = options or {}
        self.datadir = home / "data"
        self.conf_d = home / "conf.d"
        self.role_file = self.conf_d / ROLE_FILE
        self.socket = self.datadir / "mysqld.sock"
        self.error_log = home / "error.log"
        self.general_log = home / "general.log"
        # The namespace of its network, where that is not this machine's.
        self.netns: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<MariaDB {self.name} {self.address}:{self.port}>"

    # -- life and death -----------------------------------------------------------------------

    def create(self) -> None:
        """Lays out an empty server from the template."""
        self.conf_d.mkdir(parents=True)
        # Its own: a server that starts removes what looks like temporary tables of its own, whoever's they are.
        (self.home / "tmp").mkdir()
        shutil.copytree(template(self.SOFTWARE, self.install), self.datadir)
        settings = self.configuration() | self.options
        lines = ["[mysqld]", *(f"{key}={value}" for key, value in settings.items())]
        # conf.d comes last, so a role file wins over everything above it.
        lines.append(f"!includedir {self.conf_d}")
        (self.home / "my.cnf").write_text("\n".join(lines) + "\n")

    def configuration(self) -> dict[str, Any]:
        """Returns what stands in the server's own file."""
        return {
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
            "log_slave_updates": "ON",
            "gtid_strict_mode": "ON",
            "binlog_format": "ROW",
            "sync_binlog": 1,
            "innodb_flush_log_at_trx_commit": 1,
            "slave_net_timeout": 4,
            # One applier thread cannot keep up with a writer that never pauses: its backlog, not
            # the flip, would be what the tests measure.
            "slave_parallel_threads": 4,
            "general_log_file": self.general_log,
            **SMALL,
        }

    def install(self, datadir: Path) -> None:
        """Makes an empty datadir."""
        user = os_user()
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={datadir}",
                f"--user={user}",
                "--skip-test-db",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={user}",
                *(f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()),
            ],
            check=True,
            capture_output=True,
        )

    @property
    def program(self) -> str:
        """The server's program."""
        return "mariadbd"

    def launch(self, *arguments: str) -> None:
        """Starts the process and returns at once; `wait_ready` waits for it."""
        # The kernel ends the child with the *thread* that made it: a short-lived one will not do.
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("servers are started from the main thread only")
        if self.running:
            raise ServerFailed(f"{self.name} runs already")
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *(("ip", "netns", "exec", self.netns) if self.netns else ()),
                *(self.program, f"--defaults-file={self.home / 'my.cnf'}", *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C at the test run is for the tests; they stop the servers in order.
            start_new_session=True,
        )

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Returns as soon as root can log in."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.root().close()
                return
            except pymysql.err.OperationalError as error:
                if not self.running or time.monotonic() > deadline:
                    raise ServerFailed(f"{self.name}: {error}\n{self.last_words()}") from error
                time.sleep(0.02)

    def start(self, *arguments: str, timeout: float = 60.0) -> None:
        """Starts the server and waits until root can log in."""
        self.launch(*arguments)
        self.wait_ready(timeout)

    def stop(self, timeout: float = 60.0) -> None:
        """Shuts the server down in order."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """Ends the server as a power cut would, minus the disk cache."""
        self._end(signal.SIGKILL, 10.0)

    def restart(self, *arguments: str) -> None:
        """Stops and starts the server, as a reboot would: role file and all."""
        self.stop()
        self.start(*arguments)

    def pause(self) -> None:
        """Freezes the server: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a `pause`."""
        self._signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self.running and self._process else None

    # -- talking to it ------------------------------------------------------------------------

    def root(self, **options: Any) -> pymysql.Connection:
        """Opens a connection as root through the socket, autocommit."""
        return pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
            cursorclass=pymysql.cursors.DictCursor,
            **(IN_CLEAR | {"connect_timeout": 30} | options),
        )

    def connect(self, user: str, password: str, **options: Any) -> pymysql.Connection:
        """Opens a connection over TCP, as the site and the product do."""
        defaults = {"autocommit": True, "connect_timeout": 30}
        return pymysql.connect(
            host=self.address,
            port=self.port,
            user=user,
            password=password,
            **(IN_CLEAR | defaults | options),
        )

    def run(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """Runs statements as root; returns the rows of the last result set."""
        rows: list[dict[str, Any]] = []
        with self.root() as connection, connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            while True:
                if cursor.description:
                    rows = list(cursor.fetchall())
                if not cursor.nextset():
                    return rows

    def value(self, sql: str, arguments: tuple[Any, ...] = ()) -> Any:
        """Returns the first column of the first row, or None."""
        rows = self.run(sql, arguments)
        return next(iter(rows[0].values())) if rows else None

    # -- replication --------------------------------------------------------------------------

    def follow(self, source: MariaDB, user: str, password: str, ca: Path | None = None) -> None:
        """Attaches the server to a source by GTID, over verified TLS where there is an authority."""
        self.run(f"{self.follow_words(source, user, password, ca)}; {self.START}")

    def follow_words(self, source: MariaDB, user: str, password: str, ca: Path | None) -> str:
        """Says whom to follow."""
        tls = (
            f"MASTER_SSL=1, MASTER_SSL_CA='{ca}', MASTER_SSL_VERIFY_SERVER_CERT=1"
            if ca
            else "MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0"
        )
        return (
            f"CHANGE MASTER TO MASTER_HOST='{source.address}', MASTER_PORT={source.port},"
            f" MASTER_USER='{user}', MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos,"
            f" MASTER_CONNECT_RETRY=1, {tls}"
        )

    def find_source_at(self, address: str) -> None:
        """Has the server reach the source that it follows at another address."""
        self.run(f"{self.STOP}; {self.AT.format(address)}; {self.START}")

    def channels(self) -> list[dict[str, Any]]:
        """Returns the replication channels, each word in MariaDB's spelling."""
        rows = self.run(self.CHANNELS)
        pairs = (
            ("Source_", "Master_"),
            ("Replica_", "Slave_"),
            ("Channel_Name", "Connection_name"),
        )
        for row in rows:
            for key in list(row):
                spelt = key
                for theirs, ours in pairs:
                    spelt = spelt.replace(theirs, ours)
                row[spelt] = row.pop(key)
        return rows

    def position(self) -> str:
        """Returns everything that the server has."""
        return str(self.value(self.POSITION))

    def wait_for(self, position: str, timeout: float) -> None:
        """Waits until the server has what stands at a position."""
        if self.value(self.WAIT, (position, timeout)) != 0:
            raise ServerFailed(f"{self.name} has not {position} after {timeout} s")

    def role_at_boot(self) -> Any:
        """Returns what decides over the role at the next start."""
        return self.role_file.read_text() if self.role_file.exists() else None

    def log_queries(self, on: bool = True) -> None:
        """Switches the general log, a file, on or off."""
        self.run(f"SET GLOBAL log_output='FILE', GLOBAL general_log={int(on)}")

    def last_words(self, lines: int = 15) -> str:
        """Returns the end of the error log."""
        if not self.error_log.exists():
            return ""
        return "\n".join(self.error_log.read_text(errors="replace").splitlines()[-lines:])

    # -- inside -------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        if self.running and self._process:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals, timeout: float) -> None:
        if self._process is None:
            return
        # A frozen process would never see SIGTERM.
        self._signal(signal.SIGCONT)
        self._signal(number)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait(10)
            raise ServerFailed(f"{self.name} did not stop in {timeout} s") from error
        finally:
            self._process = None


def os_user() -> str:
    """Returns who runs the tests, and so the servers."""
    return pwd.getpwuid(os.getuid()).pw_name
