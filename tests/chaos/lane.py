"""One lane of the matrix: a process with a bench of its own, which runs the rows that it is told, one after another.

    python -m tests.chaos.lane loopback      # a row on standard input, what came of it on standard output

Most of a row is waiting, so several lanes are at work at once. A lane ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.chaos.case import Case

REPOSITORY = Path(__file__).resolve().parents[2]
Job = tuple[Case, str]
Row = dict[str, Any]


class Lane:
    """The handle of one lane; to be made by the main thread, for it ends with the thread that made it."""

    def __init__(self, bench: str) -> None:
        self.bench = bench
        self.job: Job | None = None
        # The side from which a case can begin at once.
        self.stands: str | None = None
        self.done = 0
        self.process = subprocess.Popen(
            # However we end, it takes down what it started.
            ["setpriv", "--pdeathsig", "INT", sys.executable, "-m", "tests.chaos.lane", bench],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Ctrl-C is for us; we end the lanes, once.
            start_new_session=True,
        )  # fmt: skip

    def fileno(self) -> int:
        """The descriptor on which an answer comes."""
        return self.process.stdout.fileno()

    def begin(self, job: Job) -> None:
        """Hands it a row; one that died says so where its answer is read."""
        self.job = job
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps([job[0].name, job[1]]) + "\n")
            self.process.stdin.flush()

    def answer(self) -> Row | None:
        """Reads what came of the row; None where the lane died of it."""
        line = self.process.stdout.readline()
        self.job = None
        if not line:
            self.process.wait()
            return None
        said = json.loads(line)
        self.done += 1
        self.stands = said["stands"]
        return dict(said["row"])

    def close(self) -> None:
        """Has it end: now, where it is at work, else as it has nothing to do any more."""
        if self.process.poll() is None and self.job is not None:
            self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def wait(self) -> None:
        """Waits until everything that it started is down."""
        try:
            self.process.wait(50)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def _bench(name: str) -> AbstractContextManager[Any]:
    from tests.chaos import clouds, loopback

    return {"clouds": clouds.Clouds, "loopback": loopback.bench}[name]()


def once(number: int, frame: Any) -> None:
    """Ends by unwinding, and is not disturbed in that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Runs rows until standard input ends."""
    from tests.chaos import runner
    from tests.chaos.cases import ON_CLOUDS, ON_LOOPBACK

    # Whoever started us may have had it ignored.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, once)
    # What anybody prints is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cases = {case.name: case for case in (*ON_LOOPBACK, *ON_CLOUDS)}
    with _bench(sys.argv[1]) as bench:
        # By lines: an iteration over the file would read ahead.
        while line := sys.stdin.readline():
            name, direction = json.loads(line)
            row = runner.carry(bench, cases[name], direction)
            row["ended"] = round(time.time(), 1)
            print(json.dumps({"row": row, "stands": bench.stands}), file=answers, flush=True)


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
