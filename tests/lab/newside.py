"""Owns an old side that runs and a new side that is empty, on loopback: what prepare finds.

Every database host has a real minion of its own; a server of the new side is a fresh one, as a package leaves it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.authority import Authority
from tests.lab.kinds import MySQL
from tests.lab.loopback import _SEED, ADDRESSES, Chain
from tests.lab.mariadb import MariaDB, ServerFailed
from tests.lab.salt import SaltMaster

OLD = ("old-db1", "old-db2")
NEW = ("relay", "new-db1", "new-db2")
HOSTS = ("old-db1", *NEW)


def _shown(authority: Authority, name: str) -> dict[str, str]:
    """Returns the settings by which a server shows a certificate."""
    certificate, key = authority.sign(name, ADDRESSES[name])
    return {
        "ssl_ca": str(authority.certificate),
        "ssl_cert": str(certificate),
        "ssl_key": str(key),
    }


class Detached(MariaDB):
    """A server that whoever starts it leaves behind: it is known by its pid file."""

    def _process_id(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.home / "mysqld.pid").read_text())
            if str(self.home / "my.cnf") in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        return None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return super().running or self._process_id() is not None

    def _end(self, number: signal.Signals, timeout: float) -> None:
        pid = self._process_id()
        if self._process is not None:
            if self._process.poll() is None:
                super()._end(number, timeout)
            self._process = None
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + timeout
        while self._process_id() == pid:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} did not stop in {timeout} s")
            time.sleep(0.02)


class DetachedMySQL(Detached, MySQL):
    """The same of MySQL, without what the chain needs of it."""

    def configuration(self) -> dict[str, Any]:
        """Returns what stands in the server's own file."""
        chain = ("log_bin", "relay_log", "gtid_mode", "enforce_gtid_consistency", "report_host")
        return {key: value for key, value in super().configuration().items() if key not in chain}


class NewSide(Chain):
    """Old db1 with its replica; relay, new db1 and new db2 run, and hold nothing."""

    def __init__(
        self,
        state: Path,
        options: dict[str, dict[str, str]] | None = None,
        kind: type[MariaDB] = MariaDB,
        authority: Authority | None = None,
    ) -> None:
        """Takes what a chain takes; with an authority, accounts want TLS that is verified by it."""
        self._tls = {name: _shown(authority, name) for name in ADDRESSES if authority}
        options = {name: self._tls.get(name, {}) for name in OLD} | (options or {})
        super().__init__(state, options=options, kinds=kind)
        self.kind = kind
        self.ca = authority.certificate if authority else None
        fresh_kind = DetachedMySQL if kind is MySQL else Detached
        for name in NEW:
            old = self.servers[name]
            # As a package leaves it: what the chain needs is for prepare to say.
            fresh = fresh_kind(name, old.address, old.port, old.home, 1)
            self.servers[name] = fresh

    @property
    def seed_folder(self) -> Path:
        """Where every host keeps its worker."""
        return self.state / "seed"

    @property
    def clones(self) -> Path:
        """Where a server of MySQL that is copied puts its copy first."""
        return self.state / "clones"

    @property
    def logs(self) -> Path:
        """Where new db2 keeps its binlogs, outside of its data: they outlive an `empty`."""
        return self.state / "logs"

    def pillar(self) -> dict[str, Any]:
        """Returns the chain as pillar, with the part of prepare that is about databases."""
        pillar = super().pillar()
        for side in ("old", "new"):
            for node, found in pillar["nodes"][side].items():
                name = "relay" if node == "relay" else f"{side}-{node}"
                if name in self.servers:
                    found["minion"] = name
                    found["defaults_file"] = str(self.servers[name].home / "my.cnf")
                if name == "old-db2":
                    del found["minion"]
        # One machine: each server has its own address, which a real host need not name.
        particular: dict[str, dict[str, Any]] = {
            name.removeprefix("new-"): {
                "options": {"bind_address": self.servers[name].address} | self._tls.get(name, {})
            }
            for name in NEW
        }
        if self.kind is not MySQL:
            self.logs.mkdir(exist_ok=True)
            particular["db2"]["options"]["log_bin"] = str(self.logs / "db2.log")
        pillar["prepare"] = {
            "databases": {
                "port": self.port + 200,
                "folder": str(self.seed_folder),
                "start": _START.format(self["relay"].program),
                "stop": _STOP,
                "servers": particular,
                "deadlines": {"seed": 120_000, "catch_up": 60_000},
            },
            "deadlines": {"host": 300_000},
        }
        if self.kind is MySQL:
            self.clones.mkdir(exist_ok=True)
            # Its own packages are no packages of this Debian.
            own = {
                "family": "mysql",
                "packages": ["socat", "openssl"],
                "clone_folder": str(self.clones),
            }
            pillar["prepare"]["databases"] |= own
        return pillar

    def close(self) -> None:
        """Ends workers and servers."""
        for path in self.seed_folder.glob("*/pid"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(path.read_text())
                if "carry.sh" in Path(f"/proc/{pid}/cmdline").read_text():
                    os.killpg(pid, signal.SIGKILL)
        super().close()

    @staticmethod
    def known_as(name: str) -> str:
        """Returns the product's own name of a server: side and node."""
        return "new-relay" if name == "relay" else name

    def job(self, name: str, word: str = "receive") -> Path:
        """Returns the folder of the worker that receives a server's copy, or sends it."""
        return self.seed_folder / f"{self.known_as(name)}-{word}"

    def worker(self, name: str, word: str = "receive") -> int | None:
        """Returns the process of that worker, while it lives."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.job(name, word) / "pid").read_text())
            os.kill(pid, 0)
            return pid
        return None

    def empty(self, name: str) -> None:
        """Makes a new server what it was: fresh, running, without data and configuration of ours."""
        server = self.servers[name]
        server.kill()
        shutil.rmtree(server.home)
        server.create()
        server.start()

    def _build(self) -> None:
        for server in self.servers.values():
            server.create()
            server.launch()
        for server in self.servers.values():
            server.wait_ready()
        self.old.run(_SEED)
        self._accounts()
        if self.ca:
            for account in (self.admin, self.marker, self.replication):
                self.old.run(f"ALTER USER '{account.user}'@'%' REQUIRE SSL")
        self.replicate(self["old-db2"], self.old)


# What `systemctl start` does, and `stop`, for a server that no unit knows.
_START = 'setsid --fork {} --defaults-file="$DEFAULTS_FILE" </dev/null >/dev/null 2>&1'
_STOP = (
    'file=$(my_print_defaults --defaults-file="$DEFAULTS_FILE" mysqld | sed -n "s/^--pid[-_]file=//p");'
    ' kill "$(cat "$file" 2>/dev/null)" 2>/dev/null || exit 0;'
    ' while [ -e "$file" ]; do sleep 0.05; done'
)


@contextmanager
def minions(master: SaltMaster) -> Iterator[None]:
    """A real minion for each database host, accepted by the master."""
    with contextlib.ExitStack() as running:
        for host in HOSTS:
            running.enter_context(master.accepted_minion(host))
        deadline = time.monotonic() + 60
        while set(HOSTS) - set(master.ping(*HOSTS)):
            assert time.monotonic() < deadline
        yield
