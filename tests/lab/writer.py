"""Owns the outside judge of the database: a process that writes, and what it can prove afterwards.

Every attempt is one packet on a connection opened beforehand. What was acknowledged must be on the
primary that serves, once; what was refused is tried again; what nobody answered is only counted.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import secrets
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

import pymysql

from tests.lab.loopback import Chain
from tests.lab.mariadb import IN_CLEAR

REPOSITORY = Path(__file__).resolve().parents[2]
# Errors that prove that nothing was written: read-only, no such table, not allowed.
_REFUSED = {1036, 1044, 1045, 1142, 1146, 1290, 1836}
_COM_QUERY = 3


class Outcome(Enum):
    """What became of one attempt."""

    ACKNOWLEDGED = 1
    REFUSED = 2
    UNKNOWN = 3  # sent, and no answer that proves anything
    CLOSED = 4  # not sent: no connection at the moment


class Lane:
    """One open connection to one side."""

    def __init__(self, side: str, target: Mapping[str, Any], timeout: float) -> None:
        self.side = side
        self._target = target
        self._timeout = timeout
        self._connection: pymysql.Connection | None = None
        self._socket: Any = None

    @property
    def open(self) -> bool:
        """Whether an attempt could be sent."""
        return self._socket is not None

    def connect(self) -> None:
        """Opens the connection; raises what pymysql raises."""
        limits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), 1)
        self._connection = pymysql.connect(**self._target, autocommit=True, **limits, **IN_CLEAR)
        # The bare socket from here on: the library would spend more time than the server does.
        connected = self._connection._sock
        connected.settimeout(self._timeout)
        self._socket = connected

    def insert(self, run: int, writer: int, attempt: int) -> Outcome:
        """Sends one row and reads the answer."""
        if self._socket is None:
            return Outcome.CLOSED
        sql = (
            "INSERT INTO site.writes (run,writer,attempt,side,at)"
            f" VALUES ({run},{writer},{attempt},'{self.side}',SYSDATE(6))"
        ).encode()
        try:
            self._socket.sendall(struct.pack("<IB", len(sql) + 1, _COM_QUERY) + sql)
            answer = self._socket.recv(4096)
            while len(answer) < 7:
                more = self._socket.recv(4096)
                if not more:
                    raise ConnectionError("closed by the server")
                answer += more
        except OSError:
            self.close()
            return Outcome.UNKNOWN
        if answer[4] == 0x00:
            return Outcome.ACKNOWLEDGED
        code = struct.unpack_from("<H", answer, 5)[0]
        return Outcome.REFUSED if code in _REFUSED else Outcome.UNKNOWN

    def close(self) -> None:
        """Drops the connection."""
        self._socket = None
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection._force_close()


class _Workers:
    """The threads inside the writer process."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.run = config["run"]
        self.period = config["period"]
        self.retry = config["retry"]
        self.lanes = [
            [Lane(side, target, config["timeout"]) for side, target in config["sides"].items()]
            for _ in range(config["threads"])
        ]
        self.stopping = threading.Event()
        self.acknowledged: list[list[tuple[int, int, str, int]]] = []
        self.refused: list[list[tuple[str, int]]] = []
        self.unknown: list[list[tuple[int, int]]] = []

    def work(self, writer: int, lanes: list[Lane]) -> None:
        acknowledged: list[tuple[int, int, str, int]] = []
        refused: list[tuple[str, int]] = []
        unknown: list[tuple[int, int]] = []
        self.acknowledged.append(acknowledged)
        self.refused.append(refused)
        self.unknown.append(unknown)
        sides = itertools.cycle(lanes)
        lane = next(sides)
        attempt = 1
        # Staggered, so that several writers together look more often than any of them.
        due = time.monotonic() + self.period * writer / len(self.lanes)
        while not self.stopping.is_set():
            delay = due - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            sent = time.monotonic()
            outcome = lane.insert(self.run, writer, attempt)
            now = time.monotonic_ns()
            if outcome is Outcome.ACKNOWLEDGED:
                acknowledged.append((writer, attempt, lane.side, now))
                attempt += 1
                due = max(due, sent - self.period) + self.period
                continue
            due = max(due, sent - self.retry) + self.retry
            if outcome is Outcome.REFUSED:
                refused.append((lane.side, now))
            elif outcome is Outcome.UNKNOWN:
                unknown.append((writer, attempt))
                attempt += 1
            lane = next(sides)

    def mend(self) -> None:
        """Opens lost connections again, so that no writer ever waits for one."""
        while not self.stopping.wait(0.02):
            for lane in itertools.chain.from_iterable(self.lanes):
                if not lane.open:
                    with contextlib.suppress(pymysql.err.MySQLError, OSError):
                        lane.connect()


def main() -> None:
    """Reads the configuration, writes until standard input ends, prints the result."""
    # Ctrl-C is the parent's: it ends this by closing standard input, and not a thread of it alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = _Workers(json.loads(sys.stdin.readline()))
    for lane in itertools.chain.from_iterable(workers.lanes):
        lane.connect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(0.0002)
    threads = [
        threading.Thread(target=workers.work, args=(number, lanes))
        for number, lanes in enumerate(workers.lanes)
    ]
    threads.append(threading.Thread(target=workers.mend))
    started = time.monotonic_ns()
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    # Also the end of the parent, however it ended.
    sys.stdin.read()
    workers.stopping.set()
    for thread in threads:
        thread.join()
    result = {
        "run": workers.run,
        "started": started,
        "stopped": time.monotonic_ns(),
        "acknowledged": list(itertools.chain.from_iterable(workers.acknowledged)),
        "refused": list(itertools.chain.from_iterable(workers.refused)),
        "unknown": list(itertools.chain.from_iterable(workers.unknown)),
    }
    print(json.dumps(result), flush=True)


@dataclass(frozen=True)
class Results:
    """What the writer process saw, on its own monotonic clock (nanoseconds)."""

    run: int
    started: int
    stopped: int
    acknowledged: list[tuple[int, int, str, int]]
    refused: list[tuple[str, int]]
    unknown: list[tuple[int, int]]

    def times(self, side: str) -> list[int]:
        """Returns when `side` acknowledged, in order."""
        return sorted(at for _, _, where, at in self.acknowledged if where == side)


class Writer:
    """The writer process, from the outside: enter to write, leave to stop."""

    def __init__(
        self,
        chain: Chain | Mapping[str, Mapping[str, Any]],
        threads: int = 4,
        sides: tuple[str, ...] = ("old", "new"),
        period: float = 0.004,
        retry: float = 0.0008,
        timeout: float = 2.0,
        launch: Callable[..., subprocess.Popen[Any]] = subprocess.Popen,
    ) -> None:
        """Each of `threads` writes once a `period` and, where refused, tries once a `retry`.

        All are seconds. The defaults are what the replicas of the loopback chain just keep up with.
        Instead of a chain, a mapping from side to what opens a connection will do; `launch` starts
        the process, for example in another network namespace.
        """
        targets = _targets(chain) if isinstance(chain, Chain) else chain
        self._launch = launch
        self._config = {
            "run": secrets.randbits(48),
            "threads": threads,
            "period": period,
            "retry": retry,
            "timeout": timeout,
            "sides": {side: dict(targets[side]) for side in sides},
        }
        self._process: subprocess.Popen[str] | None = None
        self.results: Results | None = None

    def __enter__(self) -> Writer:
        self._process = self._launch(
            [sys.executable, "-m", "tests.lab.writer"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Through the pipe, not the command line: it holds a password.
        self._process.stdin.write(json.dumps(self._config) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "ready\n":
            self._process.kill()
            self._process.wait()
            raise RuntimeError("the writer did not start; its error is above")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> Results:
        """Ends the writing and returns what was seen; harmless when called again."""
        if self.results is None:
            output, _ = self._process.communicate(timeout=60)
            seen = json.loads(output)
            for key in ("acknowledged", "refused", "unknown"):
                seen[key] = [tuple(entry) for entry in seen[key]]
            self.results = Results(**seen)
        return self.results


def launching(netns: str | None) -> Callable[..., subprocess.Popen[Any]]:
    """Returns what starts a process in a network namespace, or in this machine's own network."""

    def launch(argv: list[str], **popen: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(["ip", "netns", "exec", netns, *argv] if netns else argv, **popen)

    return launch


def _targets(chain: Chain) -> dict[str, dict[str, Any]]:
    account = {"user": chain.app.user, "password": chain.app.password}
    primaries = {"old": chain.old, "new": chain.new}
    return {
        side: {"host": server.address, "port": server.port, **account}
        for side, server in primaries.items()
    }


@dataclass(frozen=True)
class Verdict:
    """What one writer proves about one run."""

    acknowledged: int
    lost: list[tuple[int, int]]
    duplicated: list[tuple[int, int]]
    unknown: int
    write_gap_ms: (
        float | None
    )  # last write here, first there, by the servers' clock; below zero both accepted
    attempts_per_second: float
    refused_per_second: dict[str, float]  # inside the gap, by side


def judge(chain: Chain, results: Results) -> Verdict:
    """Compares what was acknowledged with what the serving primary has."""
    rows = chain.serving().run(
        "SELECT writer, attempt, COUNT(*) AS times FROM site.writes WHERE run = %s GROUP BY 1, 2",
        (results.run,),
    )
    # When an answer was read says when its thread had the processor.
    spans = chain.serving().run(
        "SELECT side, MIN(at) AS first, MAX(at) AS last FROM site.writes WHERE run = %s GROUP BY side ORDER BY 2",
        (results.run,),
    )
    moved = (spans[1]["first"] - spans[0]["last"]).total_seconds() if len(spans) > 1 else None
    present = Counter({(row["writer"], row["attempt"]): row["times"] for row in rows})
    acknowledged = {(writer, attempt) for writer, attempt, _, _ in results.acknowledged}
    left, reached = gap(results)
    width = (reached - left) / 1e9 if left and reached else None
    refused = Counter(side for side, at in results.refused if left and left < at < reached)
    attempts = len(results.acknowledged) + len(results.refused) + len(results.unknown)
    return Verdict(
        acknowledged=len(acknowledged),
        lost=sorted(key for key in acknowledged if not present[key]),
        duplicated=sorted(key for key, times in present.items() if times > 1),
        unknown=len(results.unknown),
        write_gap_ms=moved * 1e3 if moved is not None else None,
        attempts_per_second=attempts * 1e9 / (results.stopped - results.started),
        refused_per_second={side: n / width for side, n in refused.items()} if width else {},
    )


def gap(results: Results) -> tuple[int, int] | tuple[None, None]:
    """Returns the last time on the side it began with and the first on the other, if it changed."""
    if not results.acknowledged:
        return None, None
    begun = min(results.acknowledged, key=lambda entry: entry[3])[2]
    here = results.times(begun)
    there = results.times("new" if begun == "old" else "old")
    return (here[-1], there[0]) if there else (None, None)


if __name__ == "__main__":
    main()
