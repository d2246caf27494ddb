"""Owns the small lab: five database servers on loopback, in the declared chain.

old-db1 -> old-db2 and relay; relay -> new-db1 and new-db2. Everyone but old-db1 is read-only.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pymysql

from tests.lab.mariadb import MariaDB, ServerFailed

ADDRESSES = {
    "old-db1": "127.0.0.11",
    "old-db2": "127.0.0.12",
    "relay": "127.0.0.20",
    "new-db1": "127.0.0.21",
    "new-db2": "127.0.0.22",
}
SOURCES = {
    "old-db2": "old-db1",
    "relay": "old-db1",
    "new-db1": "relay",
    "new-db2": "relay",
}
MINION = "loop"
# The GTID domain of what administrators do on a fenced server; that of the pillar that says nothing of it.
QUARANTINE = 99

_SEED = """
CREATE DATABASE site;
CREATE TABLE site.writes (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  run BIGINT UNSIGNED NOT NULL, writer INT UNSIGNED NOT NULL, attempt BIGINT UNSIGNED NOT NULL,
  side VARCHAR(8) NOT NULL, at DATETIME(6) NOT NULL,
  KEY seen (run, writer, attempt));
CREATE DATABASE saltext_migrate;
CREATE TABLE saltext_migrate.marker (
  name VARCHAR(64) PRIMARY KEY, run VARCHAR(64) NOT NULL, seq BIGINT UNSIGNED NOT NULL,
  at DATETIME(6) NOT NULL);
"""


@dataclass(frozen=True)
class Account:
    """A user name and its password, which no repr shows."""

    user: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


class Chain:
    """The five servers, from nothing to a replicating chain and back to nothing."""

    def __init__(
        self,
        state: Path,
        port: int | None = None,
        options: dict[str, dict[str, str]] | None = None,
        kinds: Mapping[str, type[MariaDB]] | type[MariaDB] = MariaDB,
        addresses: Mapping[str, str] = ADDRESSES,
    ) -> None:
        """Takes a directory of its own.

        `options` are extra server settings by server name, `kinds` what each server is.
        """
        self.ca: Path | None = None
        self.state = state
        self._claim: socket.socket | None = None
        if port is None:
            port, self._claim = _claim_port()
        self.port = port
        self.admin = Account("migrate")
        self.marker = Account("migrate_marker")
        self.replication = Account("replication")
        self.app = Account("app")
        self.servers = {
            name: (kinds if isinstance(kinds, type) else kinds[name])(
                name,
                address,
                self.port,
                state / "servers" / name,
                server_id=int(address.rpartition(".")[2]),
                options=(options or {}).get(name),
            )
            for name, address in addresses.items()
        }
        self._snapshot = state / "snapshot"

    def __getitem__(self, name: str) -> MariaDB:
        return self.servers[name]

    def __enter__(self) -> Chain:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def old(self) -> MariaDB:
        """The primary of the old side."""
        return self.servers["old-db1"]

    @property
    def new(self) -> MariaDB:
        """The primary-to-be of the new side."""
        return self.servers["new-db1"]

    def close(self) -> None:
        """Ends every server; nothing in the directory is worth a clean shutdown."""
        self._kill()
        if self._claim is not None:
            self._claim.close()

    def reset(self) -> None:
        """Brings back the freshly seeded chain, whatever was done to it, by its saved files."""
        self._kill()
        for name, server in self.servers.items():
            shutil.rmtree(server.home)
            shutil.copytree(self._snapshot / name, server.home)
        self._forget_runs()
        self._start()

    def home(self) -> None:
        """Brings MySQL's chain back to the declared one with all its data: cheaper than `reset`."""
        for server in self.servers.values():
            if not server.running:
                server.start()
        if not self._read_only(self.new):
            self.new.run(self.new.CLOSE)
            self.old.wait_for(self.new.position(), 10)
        self.old.run(f"{self.old.FORGET}; {self.old.OPEN}")
        for server in self.servers.values():
            server.run("RESET PERSIST; SET GLOBAL event_scheduler=ON")
        self._forget_runs()
        self.attach(anew=False)
        for server in self.servers.values():
            self.old.wait_for(server.position(), 2)

    def attach(self, anew: bool = True) -> None:
        """Puts every replica under its declared source; where it is already only if `anew`."""
        for name, above in SOURCES.items():
            replica, source = self[name], self[above]
            found = [(row["Master_Host"], row["Slave_IO_Running"]) for row in replica.channels()]
            if anew or found != [(source.address, "Yes")]:
                replica.run(replica.FORGET)
                self.replicate(replica, source)
        self.wait_replicating()
        self.settle()

    def secure(self, ca: Path | None) -> None:
        """Has everybody speak TLS, verified by an authority, or nobody."""
        self.ca = ca
        for account in (self.admin, self.marker, self.replication):
            how = "SSL" if ca else "NONE"
            self.old.run(f"ALTER USER '{account.user}'@'%' REQUIRE {how}")
        self.settle()
        self.attach()

    def notice_path(self, side: str) -> Path:
        """Returns the file that makes the application of one side read-only."""
        path = self.state / "notices" / side / "readonly"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def serving(self) -> MariaDB:
        """Returns the one primary that accepts writes; raises if there is none, or two."""
        open_ = [s for s in (self.old, self.new) if s.running and not self._read_only(s)]
        if len(open_) != 1:
            raise AssertionError(f"{len(open_)} writable primaries: {open_}")
        return open_[0]

    def settle(self, timeout: float = 60.0) -> None:
        """Waits until every server has what the serving primary wrote; but what is in the quarantine stays there."""
        primary = self.serving()
        parts = primary.position().split(",")
        position = ",".join(part for part in parts if not part.startswith(f"{QUARANTINE}-"))
        for server in self.servers.values():
            if server is primary:
                continue
            server.wait_for(position, timeout)

    def checksums(self, table: str = "site.writes") -> dict[str, int | None]:
        """Returns CHECKSUM TABLE of each server."""
        found = {n: s.run(f"CHECKSUM TABLE {table}") for n, s in self.servers.items()}
        return {name: rows[0]["Checksum"] for name, rows in found.items()}

    def replicate(self, replica: MariaDB, source: MariaDB) -> None:
        """Attaches `replica` to `source` by GTID."""
        replica.follow(source, self.replication.user, self.replication.password, self.ca)

    def wait_replicating(
        self, timeout: float = 60.0, replicas: Iterable[str] = tuple(SOURCES)
    ) -> None:
        """Returns once both threads of every replica run: those of the declared chain, or these."""
        deadline = time.monotonic() + timeout
        for name in replicas:
            while True:
                status = self.servers[name].channels()[0]
                if status["Slave_IO_Running"] == status["Slave_SQL_Running"] == "Yes":
                    break
                error = status["Last_IO_Error"] or status["Last_SQL_Error"]
                if time.monotonic() > deadline:
                    raise ServerFailed(f"{name} does not replicate: {error or 'no error given'}")
                time.sleep(0.02)

    def pillar(self) -> dict[str, Any]:
        """Returns this chain as the value of the pillar key `migrate`."""

        def node(name: str) -> dict[str, str]:
            server = self.servers[name]
            return {
                "private": server.address,
                "minion": MINION,
                "role_file": str(server.role_file),
            }

        def app(side: str, address: str) -> dict[str, str]:
            return {
                "private": address,
                "minion": MINION,
                "notice_path": str(self.notice_path(side)),
            }

        def login(account: Account) -> dict[str, str]:
            return {"user": account.user, "password": account.password}

        return {
            "state_dir": str(self.state / "migrate"),
            "nodes": {
                "old": {
                    "db1": node("old-db1"),
                    "db2": node("old-db2"),
                    "app1": app("old", "127.0.0.13"),
                },
                "new": {
                    "relay": node("relay"),
                    "db1": node("new-db1"),
                    "db2": node("new-db2"),
                    "app1": app("new", "127.0.0.23"),
                },
            },
            "databases": {
                **({"tls": {"ca": str(self.ca)}} if self.ca else {}),
                "old": {"primary": "db1", "replicas": ["db2"]},
                "new": {"primary": "db1", "replicas": ["db2"], "relay": "relay"},
                "port": self.port,
                "break_glass_file": str(self.state / "break-glass.txt"),
                # Not what is tested, but for tests that say their own: many servers share few processors here.
                "max_lag": 10_000,
                "deadlines": {"fence": 10_000, "catch_up": 10_000},
                "accounts": {
                    "admin": login(self.admin),
                    "marker": login(self.marker),
                    "replication": login(self.replication),
                },
            },
            "notice": {
                "text": "Migration in progress.",
                "nodes": {"old": ["app1"], "new": ["app1"]},
                "drain": 0,
            },
        }

    # -- inside -------------------------------------------------------------------------------

    def _forget_runs(self) -> None:
        for path in (self.notice_path("old"), self.notice_path("new")):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.state / "migrate", ignore_errors=True)

    def _kill(self) -> None:
        for server in self.servers.values():
            server.kill()

    def _build(self) -> None:
        for server in self.servers.values():
            server.create()
            if server is not self.old:
                server.role_file.write_text(server.READ_ONLY_ROLE)
            server.launch()
        for server in self.servers.values():
            server.wait_ready()
        # Before any replica attaches, with the binary log on: so all have it by replication.
        self.old.run(_SEED)
        self._accounts()
        for replica, source in SOURCES.items():
            self.replicate(self.servers[replica], self.servers[source])
        self.wait_replicating()
        self.settle()
        for server in reversed(self.servers.values()):
            server.stop()
        for name, server in self.servers.items():
            shutil.copytree(server.home, self._snapshot / name)
        self._start()

    def _accounts(self) -> None:
        for account, privileges in (
            (self.admin, "ALL PRIVILEGES ON *.* TO {} WITH GRANT OPTION"),
            (self.marker, "SELECT, INSERT, UPDATE, DELETE ON saltext_migrate.marker TO {}"),
            (self.replication, "REPLICATION SLAVE ON *.* TO {}"),
            (self.app, "ALL PRIVILEGES ON site.* TO {}"),
        ):
            name = f"'{account.user}'@'%%'"
            self.old.run(f"CREATE USER {name} IDENTIFIED BY %s", (account.password,))
            self.old.run(f"GRANT {privileges.format(name)}".replace("%%", "%"))

    def _start(self) -> None:
        # Replication is started by hand: a replica up before its source would lose a whole second.
        for server in self.servers.values():
            server.launch(server.ASLEEP)
        for server in self.servers.values():
            server.wait_ready()
        for name in SOURCES:
            self.servers[name].run(self.servers[name].START)
        self.wait_replicating()

    @staticmethod
    def _read_only(server: MariaDB) -> bool:
        try:
            return bool(server.value("SELECT @@global.read_only"))
        except pymysql.err.OperationalError:
            return True


def _claim_port(first: int = 13306) -> tuple[int, socket.socket]:
    """Finds a port free on every address, and keeps other chains from finding it as well."""
    for port in range(first, first + 100):
        # The UDP port of the same number: servers do not use it, and it goes with the process.
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind((ADDRESSES["old-db1"], port))
            for address in ADDRESSES.values():
                with socket.socket() as probe:
                    # As the server does, or ports of closed connections would count as taken.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
            return port, claim
        except OSError:
            claim.close()
    raise ServerFailed(f"no free port from {first} on")
