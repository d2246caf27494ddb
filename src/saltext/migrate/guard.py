"""
The guard's process: started before a phase, told its settings through a pipe, ended with the phase.

``python -m saltext.migrate.guard`` is what it runs; what it does when the phase's process dies or hangs is the
engine's. It has a session of its own, so that a Ctrl-C meant for the phase does not end it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

SECONDS_TO_START = 60


class Guard:
    """A second process that takes the run back, should this one die."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self._ready = threading.Event()
        # Whether it outlives the phase: what that could not see, it looks for again.
        self.stays = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            if line == "ready\n":
                self._ready.set()

    def wait(self) -> bool:
        """Wait until it watches; raises where it does not start."""
        for _ in range(SECONDS_TO_START * 10):
            if self._ready.wait(0.1):
                return True
            if self._process.poll() is not None:
                break
        raise CommandExecutionError(f"the guard did not start; see {self._log}")


@contextlib.contextmanager
def watching(phase: str, settings: str, opts: dict[str, Any]) -> Iterator[Guard]:
    """
    Start a guard over this process, and end it with what it guards.

    Where that ends with an exception, or undecided, the guard stays: should something be left open, it takes it
    back once this process is gone, and else ends by itself.
    """
    folder = Path(json.loads(settings).get("state_dir", "/var/lib/saltext-migrate"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "guard.log"
    told = {
        "phase": phase,
        "process": os.getpid(),
        "settings": settings,
        "conf_file": opts["conf_file"],
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "saltext.migrate.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    # Through the pipe: a command line is seen by everybody, and the settings hold passwords.
    if process.stdin:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(told) + "\n")
    guard = Guard(process, path)
    yield guard
    if not guard.stays:
        process.terminate()
        process.wait()


def main() -> int:
    """Watch the process that standard input names, until it is over or has to be taken back."""
    import salt.config  # noqa: PLC0415  (a run that only starts the guard needs none of it)

    from saltext.migrate import bridge  # noqa: PLC0415  (the bridge starts guards)

    told = json.loads(sys.stdin.readline())
    opts = salt.config.master_config(told["conf_file"])
    arguments = {"phase": told["phase"], "process": told["process"]}
    done = bridge.run("guard", arguments, told["settings"], opts, announce=_announce)
    print(json.dumps(done), file=sys.stderr)
    return 0 if done["verdict"] in ("unchanged", "aborted", "done") else 1


def _announce(event: dict[str, Any]) -> None:
    if event["happening"] == "guarding":
        # Whoever reads it may be gone already: that is what the guard is for.
        with contextlib.suppress(OSError):
            # The pipe to it; what is printed while the engine is at work goes to stderr.
            print("ready", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    sys.exit(main())
