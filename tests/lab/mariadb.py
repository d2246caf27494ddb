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
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT

ROLE_FILE = "99-saltext-migrate.cnf"
READ_ONLY_ROLE = "[mysqld]\nread_only=1\n"
# Kept between runs: building it costs more than copying it five times.
TEMPLATE = Path(__file__).resolve().parents[2] / "target" / "lab" / "mariadb-template"

_SMALL = {
    "innodb_buffer_pool_size": "32M",
    "innodb_log_file_size": "10M",
    "innodb_temp_data_file_path": "ibtmp1:2M:autoextend",
    "performance_schema": "OFF",
    "key_buffer_size": "1M",
    "aria_pagecache_buffer_size": "4M",
    "table_open_cache": "200",
    "max_connections": "200",
}


class ServerFailed(Exception):
    """A server did not start, or did not stop, in the time it was given."""


def template() -> Path:
    """Returns an empty datadir to copy, building it on the first call ever."""
    TEMPLATE.parent.mkdir(parents=True, exist_ok=True)
    with (TEMPLATE.parent / "mariadb-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not TEMPLATE.exists():
            user = _os_user()
            with tempfile.TemporaryDirectory(dir=TEMPLATE.parent) as building:
                subprocess.run(
                    [
                        "mariadb-install-db",
                        "--no-defaults",
                        f"--datadir={building}/data",
                        f"--user={user}",
                        "--skip-test-db",
                        "--auth-root-authentication-method=socket",
                        f"--auth-root-socket-user={user}",
                        *(f"--{key.replace('_', '-')}={value}" for key, value in _SMALL.items()),
                    ],
                    check=True,
                    capture_output=True,
                )
                # By rename: a killed build leaves no half template behind.
                Path(building, "data").rename(TEMPLATE)
    return TEMPLATE


class MariaDB:
    """One server in a directory of its own; everything below `home` belongs to it."""

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
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<MariaDB {self.name} {self.address}:{self.port}>"

    # -- life and death -----------------------------------------------------------------------

    def create(self) -> None:
        """Lays out an empty server from the template."""
        self.conf_d.mkdir(parents=True)
        # Its own: a server that starts removes what looks like temporary tables of its own, whoever's they are.
        (self.home / "tmp").mkdir()
        shutil.copytree(template(), self.datadir)
        settings = {
            "user": _os_user(),
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
            **_SMALL,
            **self.options,
        }
        lines = ["[mysqld]", *(f"{key}={value}" for key, value in settings.items())]
        # conf.d comes last, so a role file wins over everything above it.
        lines.append(f"!includedir {self.conf_d}")
        (self.home / "my.cnf").write_text("\n".join(lines) + "\n")

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
                *("mariadbd", f"--defaults-file={self.home / 'my.cnf'}", *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C at the test run is for the tests; they stop the servers in order.
            start_new_session=True,
        )

    def wait_ready(self, timeout: float = 20.0) -> None:
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

    def start(self, *arguments: str, timeout: float = 20.0) -> None:
        """Starts the server and waits until root can log in."""
        self.launch(*arguments)
        self.wait_ready(timeout)

    def stop(self, timeout: float = 20.0) -> None:
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

    def root(self) -> pymysql.Connection:
        """Opens a connection as root through the socket, autocommit."""
        return pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
            cursorclass=pymysql.cursors.DictCursor,
            connect_timeout=5,
        )

    def connect(self, user: str, password: str, **options: Any) -> pymysql.Connection:
        """Opens a connection over TCP, as the site and the product do."""
        defaults = {"autocommit": True, "connect_timeout": 5}
        return pymysql.connect(
            host=self.address,
            port=self.port,
            user=user,
            password=password,
            **(defaults | options),
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


def _os_user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
