"""The bench for what needs whole hosts: two clouds, a network between them, real Salt, a real wiki and edge."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pymysql

from tests.chaos.case import FLIP
from tests.chaos.faults import Faults, Mend, nothing
from tests.lab import cdn, database, minions
from tests.lab.beside import prepare
from tests.lab.direct import Done
from tests.lab.hosts import LAB, Host
from tests.lab.loopback import Chain
from tests.lab.mariadb import IN_CLEAR, MariaDB
from tests.lab.people import People
from tests.lab.site import Site
from tests.lab.verdict import judge
from tests.lab.writer import Writer

DEADLINES = {
    "connect": 2000,
    "fence": 1000,
    "catch_up": 3000,
    "replication": 15000,
    "abort": 15000,
    "window": 5000,
}
OTHER = {FLIP: "revert", "revert": FLIP}


class Server(MariaDB):
    """A database host of the lab, as the judges and the faults of the other bench know one."""

    def __init__(self, host: Host, password: str) -> None:
        super().__init__(host.name, host.address, 3306, host.folder, database.SERVER_IDS[host.name])
        self.host, self._password = host, password
        self.datadir = next(
            Path(path) for path, (to, _) in host.binds.items() if to == "/var/lib/mysql"
        )

    def root(self, **options: Any) -> pymysql.Connection:
        """The administrator, over the network: root's own door is inside the host."""
        from pymysql.constants import CLIENT

        told = {"autocommit": True, "connect_timeout": 3, "client_flag": CLIENT.MULTI_STATEMENTS}
        return pymysql.connect(
            host=self.address, port=3306, user="migrate", password=self._password,
            cursorclass=pymysql.cursors.DictCursor, **(IN_CLEAR | told | options),
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it answers."""
        try:
            self.root().close()
        except (pymysql.err.MySQLError, OSError):
            return False
        return True

    def kill(self) -> None:
        """Its host loses its power."""
        self.host.kill()

    def start(self, *_: str, timeout: float = 60.0) -> None:
        """Its host is switched on."""
        self.host.start()
        self.host.wait(seconds=timeout)

    def restart(self, *_: str) -> None:
        """Its host reboots."""
        self.host.reboot()


class Databases(Chain):
    """The chain of the lab, in the words of the loopback one."""

    def __init__(self, site: Site) -> None:
        self.servers = {
            name: Server(site[name], site.secrets["admin"]) for name in database.SERVER_IDS
        }
        self.port = 3306

    def settle(self, timeout: float = 30.0) -> None:
        """Waits until every server has what the serving primary wrote."""
        super().settle(timeout)


class Crowd(People):
    """Readers and editors of the wiki."""

    def __init__(self, site: Site) -> None:
        super().__init__(cdn.load(site), LAB / "run" / f"people-{time.monotonic_ns()}.jsonl")
        self._site = site
        self.seen: dict[str, Any] = {}

    def __enter__(self) -> Crowd:
        super().__enter__()
        self.wait_saves(4)
        return self

    def lost(self, chain: Chain) -> dict[str, int]:
        """What the serving wiki says of the edits that were acknowledged."""
        side = chain.serving().name.partition("-")[0]
        verdict = judge(self.lines(), self._site[f"{side}-app1"].address)
        self.seen = {
            "read": verdict.reader_requests,
            "reader_errors": verdict.reader_errors,
            "saved": verdict.saved,
            "notice": verdict.saw_notice,
            "editor_errors": verdict.editor_errors_other_than_notice,
            "examples": verdict.reader_error_examples[:2] + verdict.editor_error_examples[:2],
            "write_unavailable_ms": verdict.write_unavailable_ms,
        }
        return {
            "acknowledged": verdict.saved,
            "lost": len(verdict.lost)
            + len(verdict.missing_from_text)
            + len(verdict.uploads_without_file),
            "duplicated": len(verdict.duplicated),
        }


class SaltRun:
    """One `salt-run state.orchestrate` on the deployment host, with the progress that it shows."""

    def __init__(self, site: Site, phase: str) -> None:
        argv = site[minions.MASTER].argv(
            ["salt-run", "--out=json", "state.orchestrate", f"migrate.{phase}"]
        )
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for line in self.process.stderr or ():
            with self._news:
                self._lines.append(line)
                self._news.notify_all()

    def until(self, happening: str, step: str | None = None, seconds: float = 90) -> None:
        """Waits for a line of progress."""

        def came() -> bool:
            parts = (line.split() for line in self._lines)
            return any(
                part[1:2] == [happening] and (step is None or part[2:3] == [step]) for part in parts
            )

        deadline = time.monotonic() + seconds
        with self._news:
            while not came():
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{happening} {step} never came: {self._lines[-3:]}")
                self._news.wait(0.5)

    def wait(self, seconds: float = 240) -> Done:
        """Waits for the end, and reads what Salt said."""
        output = self.process.stdout.read() if self.process.stdout else ""
        rc = self.process.wait(seconds)
        return _done(rc, output)


def _done(rc: int, output: str) -> Done:
    try:
        answer = json.loads(output)
    except ValueError:
        return Done(rc, None, {"kind": "salt", "message": output.strip()[:400], "hint": ""}, [])
    answer = answer.get("data", answer)
    (states,) = answer.values() if len(answer) == 1 else ({},)
    (state,) = states.values() if isinstance(states, dict) and len(states) == 1 else ({},)
    comment = str(state.get("comment", answer))
    if state.get("result") is True:
        return Done(rc, {"verdict": "done"}, None, [])
    words, _, hint = comment.partition("\nhint: ")
    verdict = words.partition(":")[0]
    known = verdict if verdict in ("aborted", "stopped") else None
    kind = "refused" if words.startswith("refused") else "other"
    return Done(rc, {"verdict": known}, {"kind": kind, "message": words, "hint": hint}, [])


class Clouds:
    """The bench; enter to bring the lab up, leave to take it down. There is one on a machine."""

    DEADLINES = DEADLINES
    SLACK_MS = 6000

    def __init__(self) -> None:
        self._all = contextlib.ExitStack()
        self.direction = FLIP
        self.stands: str | None = None

    def __enter__(self) -> Clouds:
        try:
            self.site = self._all.enter_context(Site.running())
            self.edge = self._all.enter_context(cdn.serving(self.site, delay="none"))
            self._account = prepare(self.site)
            self.chain = Databases(self.site)
            self.chain.settle()
        except BaseException:
            self._all.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._all.close()

    def fresh(self, direction: str, pillar: dict[str, Any]) -> None:
        """Moves the site to where a case begins."""
        self.direction = direction
        databases = {**self.site.pillar()["databases"], "deadlines": DEADLINES, "max_lag": 2000}
        self.site.write_pillar({"databases": databases} | pillar)
        minions.wait_all(self.site[minions.MASTER], list(self.site.hosts))
        for _ in range(3):
            back = SaltRun(self.site, OTHER[direction]).wait()
            if back.verdict == "done":
                # The judges read logs of earlier cases no more.
                for name in self.chain.servers:
                    self.site.sql(name, "FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
                return
        raise RuntimeError(
            f"the site does not come back to the {self.sides[0]} side: {back.problem}"
        )

    def left(self, side: str | None) -> None:
        """Is told where a case ended; from anywhere else the site is brought back before the next."""
        self.stands = side

    @property
    def sides(self) -> tuple[str, str]:
        """The side that is left, and the one that takes over."""
        return ("old", "new") if self.direction == FLIP else ("new", "old")

    def server(self, place: str) -> MariaDB:
        """Finds a server by its part in the transfer, or by its name."""
        source, target = self.sides
        parts = {"source": f"{source}-db1", "target": f"{target}-db1"}
        parts |= {"source's replica": f"{source}-db2", "target's replica": f"{target}-db2"}
        return self.chain[parts.get(place, place)]

    def writer(self) -> Writer:
        """Who writes at both primaries, each over its own network."""
        targets = {
            side: {"host": self.site[f"{side}-db1"].address, "port": 3306, **self._account}
            for side in ("old", "new")
        }
        return Writer(targets, threads=1, period=0.02, retry=0.005)

    def people(self) -> Crowd:
        """Readers and editors of the wiki."""
        return Crowd(self.site)

    def faults(self) -> LabFaults:
        """What can be broken here."""
        return LabFaults(self)

    def start(self, drill: str | None = None) -> tuple[SaltRun, None]:
        """Starts the transfer; Salt starts its guard."""
        return SaltRun(self.site, self.direction), None

    def ended(self, run: SaltRun, guard: None) -> Done:
        """Waits for the transfer; where Salt died, for what the guard made of it."""
        done = run.wait()
        if done.verdict or done.problem.get("hint"):
            return done
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = self.run("status").answer
            last = status.get("last_run") if isinstance(status, dict) else None
            if last and last["finished"] and not status["running"]:
                return Done(done.rc, {"verdict": last["finished"]}, done.error, [])
            time.sleep(1)
        return done

    def run(self, command: str, **arguments: Any) -> Done:
        """Runs one further command to its end."""
        if command == "apply":
            return SaltRun(self.site, arguments["phase"]).wait()
        said = self.site.salt_run(f"migrate.{command}")
        data = said.data.get("data", said.data) if isinstance(said.data, dict) else said.data
        return Done(said.rc, data, None, [])

    def writable(self) -> list[str]:
        """Names the primaries that accept writes."""
        return [
            one.name
            for one in (self.chain.old, self.chain.new)
            if one.running and not one.value("SELECT @@global.read_only")
        ]


class LabFaults(Faults):
    """What only whole hosts can show."""

    def __init__(self, bench: Any) -> None:
        super().__init__(bench)
        self.site: Site = bench.site

    def line(self, a: str = "old", b: str = "new", **line: float | bool) -> Mend:
        """The line between two clouds is slow, loses packets, or is cut without a word."""
        before = self.site.network.wan.get(a, b)
        self.site.network.wan.set(a, b, **line)
        return lambda: self.site.network.wan.set(a, b, **before) and None

    def power(self, part: str, node: str) -> Mend:
        """A node of the side that is left (`source`), or of the one that takes over, loses its power."""
        side = self.bench.sides[("source", "target").index(part)]
        victim = self.site[f"{side}-{node}"]
        victim.kill()

        def mend() -> None:
            victim.start()
            victim.wait()
            minions.wait_all(self.site[minions.MASTER], [victim.name])

        return mend

    def hosts_apart(self, a: str, b: str) -> Mend:
        """Two hosts do not hear each other."""
        self.site.partition(a, b)
        return lambda: self.site.heal(a, b)

    def minion(self, host: str) -> Mend:
        """A minion stands still, and answers nobody."""
        victim = self.site[host]
        victim.run("systemctl kill --signal=SIGSTOP salt-minion")
        return lambda: victim.run("systemctl kill --signal=SIGCONT salt-minion") and None

    def salt_master(self) -> Mend:
        """The Salt master is restarted."""
        self.site[minions.MASTER].run("systemctl restart salt-master")
        return nothing

    def highstate(self, hosts: tuple[str, ...]) -> Mend:
        """Somebody applies the site's own states in the middle of it, and whatever they restart restarts."""
        argv = self.site[minions.MASTER].argv(["salt", "-L", ",".join(hosts), "state.apply"])
        running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return _ended(running)

    def reboot(self, host: str) -> Mend:
        """A whole host reboots."""
        self.site[host].reboot()
        return nothing


def _ended(process: subprocess.Popen[bytes]) -> Callable[[], None]:
    return lambda: process.wait(120) and None
