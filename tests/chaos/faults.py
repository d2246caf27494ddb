"""What can be broken on the loopback bench: one function each, which breaks it and returns what mends it."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql

from tests.chaos.mending import seed_anew
from tests.lab.cut import BOTH, REPLICATION
from tests.lab.direct import Command

if TYPE_CHECKING:
    from tests.chaos.loopback import Loopback

Mend = Callable[[], None]


def nothing() -> None:
    """Mends what needs no mending."""


class Faults:
    """The faults of one case on one bench; `run` is the transfer, once it was started."""

    def __init__(self, bench: Loopback) -> None:
        self.bench = bench
        self.run: Command | None = None
        self.notes: dict[str, Any] = {}
        # What lasts beyond the mending, to the end of the case.
        self.lasting = contextlib.ExitStack()

    def strike(self, kind: str, told: dict[str, Any]) -> Mend:
        """Breaks what `kind` names."""
        strike: Callable[..., Mend] = getattr(self, kind)
        return strike(**told)

    # -- servers ----------------------------------------------------------------------------------

    def kill(self, server: str) -> Mend:
        """A power cut; mended by a start."""
        victim = self.bench.server(server)
        victim.kill()
        return lambda: None if victim.running else victim.start()

    def restart(self, server: str) -> Mend:
        """A reboot in the middle."""
        self.bench.server(server).restart()
        return nothing

    def freeze(self, server: str) -> Mend:
        """A machine that stands still: connections stay open and nothing answers."""
        victim = self.bench.server(server)
        victim.pause()
        return victim.resume

    # -- wires ------------------------------------------------------------------------------------

    def cut(self, server: str, whose: tuple[str, ...] = (REPLICATION,)) -> Mend:
        """Ends connections to a server and lets none be made."""
        self.bench.wire(server).sever(whose)
        return self.bench.wire(server).mend

    def silence(self, server: str, whose: tuple[str, ...] = BOTH) -> Mend:
        """A partition: nothing passes, and nobody is told."""
        self.bench.wire(server).silence(whose)
        return self.bench.wire(server).mend

    def slow(self, server: str, seconds: float, whose: tuple[str, ...] = (REPLICATION,)) -> Mend:
        """A link on which every answer is late."""
        self.bench.wire(server).slow(seconds, whose)
        return self.bench.wire(server).mend

    def cut_at(self, server: str, statement: str, reply: bool) -> Mend:
        """Ends the connection when a statement passes, or the answer to it."""
        self.bench.wire(server).at(statement.encode(), reply=reply)
        return nothing

    # -- replication ------------------------------------------------------------------------------

    def applier_error(self, server: str) -> Mend:
        """A row that is in the way of the next one from the source."""
        victim = self.bench.server(server)
        following = "SELECT COALESCE(MAX(id), 0) + 40 FROM site.writes"
        row = int(victim.value(following))
        victim.run(
            "SET sql_log_bin=0; INSERT INTO site.writes VALUES (%s, 0, 0, 0, 'x', SYSDATE(6))",
            (row,),
        )
        until(lambda: victim.run("SHOW SLAVE STATUS")[0]["Slave_SQL_Running"] == "No")

        def mend() -> None:
            victim.run(
                "SET sql_log_bin=0; DELETE FROM site.writes WHERE id=%s AND run=0; START SLAVE",
                (row,),
            )

        return mend

    def stop_applier(self, server: str) -> Mend:
        """The applier ends, as at an error, at a moment at which no row of ours can be in its way."""
        victim = self.bench.server(server)
        victim.run("STOP SLAVE SQL_THREAD")

        def mend() -> None:
            # One that had everything was promoted all the same, and follows nobody any more.
            if victim.run("SHOW SLAVE STATUS"):
                victim.run("START SLAVE")

        return mend

    def behind(self, server: str, seconds: float = 0.0) -> Mend:
        """A reader's table lock: the channel looks healthy, and its applier stands."""
        victim = self.bench.server(server)
        session = victim.root()
        session.cursor().execute("LOCK TABLES site.writes READ, saltext_migrate.marker READ")
        time.sleep(seconds)
        rows = victim.run("SHOW SLAVE STATUS")
        self.notes["behind_s"] = rows[0]["Seconds_Behind_Master"] if rows else None
        return session.close

    def errant(self, server: str, sql: str = "FLUSH TABLES") -> Mend:
        """A statement that writes a transaction of its own where nobody should write."""
        victim = self.bench.server(server)
        victim.run(sql)

        # As the documents say: find out what it was (nothing of worth here), and seed the server anew.
        return lambda: seed_anew(self.bench.chain, victim)

    # -- work on the source -----------------------------------------------------------------------

    def session(self, sql: str, server: str = "source", seconds: float = 0.3) -> Mend:
        """Somebody's statement that is still at work, or somebody's session that holds something."""
        connection = self.bench.server(server).root()

        def work() -> None:
            with contextlib.suppress(pymysql.err.MySQLError, OSError, ValueError):
                connection.cursor().execute(sql)

        threading.Thread(target=work, daemon=True).start()
        time.sleep(seconds)

        def mend() -> None:
            with contextlib.suppress(Exception):
                connection._force_close()

        return mend

    def sql(self, sql: str, mend: str = "", server: str = "source") -> Mend:
        """Statements as root, and those that take them back."""
        victim = self.bench.server(server)
        victim.run(sql)
        return lambda: victim.run(mend) and None if mend else None

    def prepared(self, server: str = "source") -> Mend:
        """A transaction of an XA transaction manager, between its two phases."""
        victim = self.bench.server(server)
        victim.run(
            "XA START 'chaos'; INSERT INTO site.edits VALUES ('xa', SYSDATE(6)); XA END 'chaos'; XA PREPARE 'chaos'"
        )

        def mend() -> None:
            for name in ("old-db1", "new-db1"):
                one = self.bench.chain[name]
                if one.running and not one.value("SELECT @@global.read_only"):
                    with contextlib.suppress(pymysql.err.MySQLError):
                        one.run("XA ROLLBACK 'chaos'")

        return mend

    def beside(self, sql: str, grants: str, period: float = 0.2, server: str = "source") -> Mend:
        """Somebody who keeps writing at the source on an account of his own, `grants` and all."""
        victim = self.bench.server(server)
        victim.run(
            "CREATE DATABASE IF NOT EXISTS beside; CREATE TABLE IF NOT EXISTS beside.beats (server INT PRIMARY KEY,"
            " at DATETIME(6)); CREATE OR REPLACE USER beside IDENTIFIED BY 'beside';"
            f" GRANT ALL ON beside.* TO beside; {grants}"
        )
        ending, count = threading.Event(), itertools.count()

        def work() -> None:
            connection: pymysql.Connection | None = None
            while not ending.wait(period):
                try:
                    connection = connection or victim.connect("beside", "beside")
                    connection.cursor().execute(sql)
                    self.notes["beats"] = next(count) + 1
                except (pymysql.err.MySQLError, OSError) as error:
                    self.notes["beats_refused"] = str(error)[:90]
                    # Refused is one thing, and gone another.
                    if (
                        connection is None
                        or not connection.open
                        or error.args[:1] in ((2006,), (2013,))
                    ):
                        connection = None

        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        def mend() -> None:
            ending.set()
            thread.join()
            for name in ("old-db1", "new-db1"):
                one = self.bench.chain[name]
                if one.running and not one.value("SELECT @@global.read_only"):
                    one.run("REVOKE ALL, GRANT OPTION FROM beside")
            if not victim.value("SELECT @@global.read_only") or not self.notes.get("beats"):
                return
            # What it wrote behind the fence is there alone: saved, and the server seeded anew.
            self.notes["saved_from_behind_the_fence"] = len(
                victim.run("SELECT * FROM beside.beats")
            )
            seed_anew(self.bench.chain, victim)

        return mend

    # -- the edge ---------------------------------------------------------------------------------

    def fastly(self, service: str | None = None, what: str = ".*", **fault: Any) -> Mend:
        """The CDN's API answers otherwise: for one service, or for all."""
        ident = self.bench.services[service] if service else ".*"
        fault = {"method": "PUT"} | fault
        self.bench.edge.fault(path=f"/service/{ident}/version/{what}", **fault)

        def mend() -> None:
            self.bench.edge.clear_faults()
            # What was given up is carried out all the same, only late; what comes behind it is to be judged.
            if fault.get("effect") == "hang":
                time.sleep(fault["seconds"])

        return mend

    def spread(self, milliseconds: int) -> Mend:
        """Points of presence follow each when it can."""
        self.bench.edge.settings(spread=[0, milliseconds])
        return nothing

    def drift(self, service: str = "blog") -> Mend:
        """A colleague activates a version of his own."""
        edge, ident = self.bench.edge, self.bench.services[service]
        draft = edge.point_backend(ident, "app1", weight=33)
        edge.activate(ident, draft)
        return nothing

    # -- the controller ---------------------------------------------------------------------------

    def signal(self, name: str) -> Mend:
        """A signal to the process that carries the run."""
        assert self.run is not None
        self.run.process.send_signal(signal.Signals[name])
        return nothing

    def guard_dies(self) -> Mend:
        """The second process ends, and nobody watches the first any more."""
        self.bench.guard.process.kill()
        return nothing

    def hang(self) -> Mend:
        """The run stands still, for what it waits for does not come until the guard took it back."""
        with contextlib.suppress(AssertionError):
            self.bench.guard.until("finished")
        return nothing

    def another(self, phase: str | None = None) -> Mend:
        """A second command while the first is at work."""
        done = self.bench.run("apply", phase=phase or self.bench.direction)
        self.notes["second"] = done.problem.get("kind", done.verdict)
        return nothing

    def full_disk(self) -> Mend:
        """No room is left on the file system of the journal."""
        folder = Path(self.bench.pillar["state_dir"])
        filler = folder / "filler"
        file = os.open(filler, os.O_WRONLY | os.O_CREAT)
        for block in (1 << 20, 512):
            with contextlib.suppress(OSError):
                while True:
                    os.write(file, b"0" * block)
        os.close(file)
        if self.run is not None:
            # The last page of the journal has room all the same: that, too, is full.
            journal = max(
                (folder / "runs").glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns
            )
            size = journal.stat().st_size
            resource.prlimit(self.run.process.pid, resource.RLIMIT_FSIZE, (size, size))
        return lambda: filler.unlink(missing_ok=True)

    def small_disk(self, megabytes: int = 72) -> Mend:
        """A file system of its own for the journal."""
        folder = Path(self.bench.pillar["state_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        kept = {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        options = f"size={megabytes}m,mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "chaos", str(folder)], check=True)
        for path, content in kept.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
        self.lasting.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return nothing

    def clock(self, seconds: float) -> Mend:
        """The controller's wall clock jumps."""
        self.bench.clock.write_text(f"{seconds}\n")
        return lambda: self.bench.clock.write_text("0\n") and None


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for what a server has no wait for."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("it does not happen")
        time.sleep(0.02)
