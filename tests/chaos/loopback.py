"""The bench that carries most cases: five real servers, wires that can be cut, a CDN, an application and its people.

Everything of it is started once; `fresh` brings it to where the next case begins. A case that left everything as a
transfer leaves it is a beginning as well, for one in the other direction: as on a real site, which has a history.
"""

from __future__ import annotations

import contextlib
import copy
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pymysql

from saltext.migrate.bridge import UNSETTLED
from tests.chaos.case import FLIP, REVERT
from tests.chaos.faults import Faults
from tests.chaos.people import NODES, TABLE, Application, People
from tests.lab import direct, world
from tests.lab.cut import Cut
from tests.lab.direct import Command, Done
from tests.lab.edge.standin import Edge
from tests.lab.loopback import Chain
from tests.lab.mariadb import MariaDB, ServerFailed
from tests.lab.writer import Writer

SERVICES = ("docs", "blog")
WIRED = ("old-db1", "relay", "new-db1")
# Short, so that a case that waits for one is over soon; each is longer than what it bounds ever takes here.
DEADLINES = {
    "connect": 1500,
    "fence": 1000,
    "catch_up": 1500,
    "replication": 6000,
    "abort": 6000,
    "window": 3000,
}
# Bytes that must be free there for a bench to live in memory, with others beside it.
MEMORY = 8 << 30
# After so many cases everything is new again, or what judges read becomes long.
HISTORY = 10
# What the guard and the way back may take once the window's deadline is over, on two busy processors.
SLACK_MS = 3000
STATEMENTS = {
    "fence": ("source", b"SET GLOBAL read_only=1"),
    "promotion": ("target", b"SET state='promote'"),
    "decision to go back": ("target", b"SET state='unfence', decided=NOW(6) WHERE run="),
    "first marker": ("source", b"REPLACE INTO saltext_migrate.marker"),
    "unfence": ("source", b"ON DUPLICATE KEY UPDATE state='lifted'"),
}


class Loopback:
    """The bench; enter to start everything, leave to end it."""

    DEADLINES = DEADLINES
    SLACK_MS = SLACK_MS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all = contextlib.ExitStack()
        self._case = contextlib.ExitStack()
        self._commands: list[Command] = []
        self._number = 0
        self._cases = 0
        # The side from which the next case can begin; None: nobody knows what the last one left.
        self.stands: str | None = None
        self.direction = FLIP
        self.pillar: dict[str, Any] = {}
        # The seconds that the controller's wall clock is off.
        self.clock = folder / "clock"
        self.variables: dict[str, str] = {}

    def __enter__(self) -> Loopback:
        try:
            self.variables = _clock(self.clock)
            self.chain = self._all.enter_context(Chain(self._folder / "chain"))
            self.edge = self._all.enter_context(Edge(delay="none", spread=(0, 60)))
            self.application = self._all.enter_context(Application(self.chain))
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
        for command in self._commands:
            if command.process.poll() is None:
                command.process.kill()
                command.process.wait()
        self._case.close()
        self._all.close()

    # -- the beginning of a case ------------------------------------------------------------------

    def fresh(self, direction: str, pillar: dict[str, Any]) -> None:
        """Brings everything to where a case begins; a revert begins after a flip."""
        self.direction = direction
        self.clock.write_text("0\n")
        self._number += 1
        self._cases += 1
        kept = self.stands == self.sides[0] and self._cases <= HISTORY and self._whole()
        self.stands = None
        if not kept:
            self._anew()
        self.edge.clear_faults()
        self.edge.settings(spread=[0, 60], remaining=1000)
        if kept:
            for wire in self.wires.values():
                wire.renew()
        elif direction == REVERT:
            self.pillar = self._pillar({})
            done = direct.run(self.pillar, "apply", phase=FLIP)
            if done.verdict != "done":
                raise ServerFailed(f"the flip before the revert: {done.problem}")
        self.pillar = self._pillar(pillar)
        self._serves(self.sides[0])
        self.edge.clear_log()

    def left(self, side: str | None) -> None:
        """Is told where a case ended: with this side serving and nothing beside it, or None."""
        self.stands = side

    def _anew(self) -> None:
        self.edge.clear_faults()
        self._case.close()
        self._cases = 1
        self.chain.reset()
        self.chain.old.run(TABLE)
        self.wires = {name: self._case.enter_context(Cut(self.chain, name)) for name in WIRED}
        self.name = f"case{self._number}"
        self.services = {name: self._service(name) for name in SERVICES}

    def _whole(self) -> bool:
        """Tells whether one primary serves, and everybody else follows and has what it has."""
        try:
            self.chain.settle(5)
            world.sources(self.chain)
        except (AssertionError, ServerFailed, pymysql.err.MySQLError, OSError):
            return False
        return self.chain.serving().name == f"{self.sides[0]}-db1"

    def _service(self, name: str) -> str:
        backend = {"name": "app1", "address": NODES["old"], "port": self.application.port}
        # People come by the first service's name.
        domain = f"{self.name}.example.org" if name == SERVICES[0] else f"{name}.{self.name}.test"
        ident = self.edge.create_service(f"{name}-{self.name}", [domain], [backend])
        self._case.callback(self._remove, ident)
        return ident

    def _remove(self, ident: str) -> None:
        self.edge.must("PUT", f"/service/{ident}/version/active/deactivate")
        self.edge.must("DELETE", f"/service/{ident}")

    def _pillar(self, change: dict[str, Any]) -> dict[str, Any]:
        pillar = self.chain.pillar()
        for wire in self.wires.values():
            pillar = wire.pillar(pillar)
        pillar["databases"] |= {"deadlines": dict(DEADLINES), "max_lag": 1000}
        # Longer than an edit that passed the notice needs, on processors that several lanes share.
        pillar["notice"] |= {"drain": 300}
        probe = {"url": f"http://{self.name}.example.org/", "addresses": self.edge.pops}
        pillar["edge"] = {
            "token": self.edge.token,
            "api": self.edge.api,
            "services": {
                name: {"id": ident} | ({"probe": probe} if name == SERVICES[0] else {})
                for name, ident in self.services.items()
            },
            "deadlines": {"request": 2000, "proof": 3000, "quota": 2000},
        }
        return merged(pillar, change)

    def _serves(self, side: str) -> None:
        people, page = self.people(), (200, f"page of {side}")
        deadline = time.monotonic() + 60
        while said := {
            pop: answer for pop in self.edge.pops if (answer := people.ask(pop, "GET", "/")) != page
        }:
            if time.monotonic() > deadline:
                ident = self.services[SERVICES[0]]
                turned = [one for one in self.edge.activations() if one["service"] == ident]
                raise ServerFailed(f"the edge does not serve the {side} side: {said}, {turned}")
            time.sleep(0.02)

    def serves(self, side: str, seconds: float = 3.0) -> bool:
        """Tells whether every point of presence comes to serve one side soon."""
        people, page = self.people(), (200, f"page of {side}")
        deadline = time.monotonic() + seconds
        while any(people.ask(pop, "GET", "/") != page for pop in self.edge.pops):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def writer(self) -> Writer:
        """Who writes at both primaries, whichever takes it."""
        return Writer(self.chain, threads=1, period=0.01, retry=0.003)

    def people(self) -> People:
        """Readers and editors of the site."""
        return People(self.edge.pops, self.name, f"{self.name}-{self._number}")

    def faults(self) -> Faults:
        """What can be broken here."""
        return Faults(self)

    # -- places -----------------------------------------------------------------------------------

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

    def wire(self, place: str) -> Cut:
        """Finds the wire before a server."""
        return self.wires[self.server(place).name]

    # -- commands ---------------------------------------------------------------------------------

    def start(self, drill: str | None = None) -> tuple[Command, Command | None]:
        """Starts the transfer with its guard, as Salt would."""
        phase = self.direction
        told = {"variables": self.variables, "phase": phase}
        run = Command(self.pillar, "apply", drill, waits=True, guarded=True, **told)
        guard = Command(self.pillar, "guard", process=run.process.pid, **told)
        self._commands, self.guard = [run, guard], guard
        try:
            guard.until("guarding")
        except AssertionError:
            # It did not start, and a run that asks for it is told so.
            guard.wait()
            run.process.kill()
            run.wait()
            lonely = self.variables | {direct.NO_GUARD: "1"}
            run = Command(self.pillar, "apply", drill, variables=lonely, phase=phase, guarded=True)
            self._commands = [run]
            return run, None
        run.begin()
        return run, guard

    def ended(self, run: Command, guard: Command | None) -> Done:
        """Waits for a transfer, and for its guard where Salt would leave that one behind."""
        done = run.wait(90)
        if guard is None:
            return done
        # Salt ends the guard of a command that came to a report, but for one behind which a source may be fenced.
        if done.verdict and done.problem.get("kind") not in UNSETTLED:
            if guard.process.poll() is None:
                guard.process.send_signal(signal.SIGTERM)
            guard.process.communicate()
            return done
        if done.verdict:
            return self._watched_on(done, guard)
        guarded = guard.wait(60)
        return guarded if done.rc == -signal.SIGKILL and guarded.verdict != "unchanged" else done

    def _watched_on(self, done: Done, guard: Command) -> Done:
        """Gives the guard some time to see what the run could not; it goes on by itself behind that."""
        try:
            guarded = guard.wait(8)
        except subprocess.TimeoutExpired:
            return done
        return done if guarded.verdict == "unchanged" else guarded

    def run(self, command: str, **arguments: Any) -> Done:
        """Runs one further command to its end."""
        return direct.run(self.pillar, command, None, 90, **arguments)

    def writable(self) -> list[str]:
        """Names the servers that accept writes; one that is down or frozen accepts none."""
        return world.writable(self.chain)

    def active(self) -> dict[str, int]:
        """Returns the active version of each service."""
        details = {
            name: self.edge.must("GET", f"/service/{ident}/details")
            for name, ident in self.services.items()
        }
        return {name: found["active_version"]["number"] for name, found in details.items()}


def _clock(file: Path) -> dict[str, str]:
    """Builds the clock that jumps, and returns the environment in which a process has it."""
    library = file.with_suffix(".so")
    source = Path(__file__).resolve().parents[1] / "lab" / "clock.c"
    build = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(build, check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_FILE": str(file)}


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Returns a pillar with parts of another value, however deep."""
    result = copy.deepcopy(base)
    for key, value in change.items():
        inner = result.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        result[key] = merged(inner, value) if both else value
    return result


@contextlib.contextmanager
def bench() -> Any:
    """A bench in a directory of its own, for those who have none."""
    # In memory, where there is any: what a power cut leaves is the same, for the machine itself stays up.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > MEMORY
    place = tempfile.TemporaryDirectory(
        prefix="chaos-", dir=memory if roomy else None, ignore_cleanup_errors=True
    )
    with place as folder, Loopback(Path(folder)) as running:
        yield running
