"""Owns the product without Salt: one command of the engine in a process of its own.

The process asks no minion: the files of every host are files here, changed by the few functions the
product calls. What it costs to start Salt would be most of the time of a test that dies often.

    echo '{"command": "plan", "pillar": {...}, "arguments": {}}' | python -m tests.lab.direct
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
DRILL = "SALTEXT_MIGRATE_DRILL"
# In the environment of a run whose guard did not start.
NO_GUARD = "LAB_NO_GUARD"
KEYS = "SALTEXT_MIGRATE_LAB_KEYS"
# The free and the whole kilobytes of every host's disk, where they are not to be this machine's.
DISK = "LAB_DISK"
# Hosts that do not answer any more.
GONE = "LAB_GONE"
# A file: while it is there no minion answers.
GONE_WHILE = "LAB_GONE_WHILE"


@dataclass(frozen=True)
class Done:
    """How a command ended; `error` is kind and message where it did not come to a report."""

    rc: int
    answer: Any
    error: dict[str, str] | None
    events: list[dict[str, Any]] = field(repr=False)

    @property
    def verdict(self) -> str | None:
        """Returns `done`, `unchanged`, `aborted` or `stopped`; None where there is no report."""
        return self.answer.get("verdict") if isinstance(self.answer, dict) else None

    @property
    def problem(self) -> dict[str, str]:
        """Returns the error, of the command or in its report; empty where there is none."""
        inside = self.answer.get("error") if isinstance(self.answer, dict) else None
        return self.error or inside or {}

    def happened(self, happening: str) -> list[str | None]:
        """Returns the steps to which something happened, in order."""
        return [event["step"] for event in self.events if event["happening"] == happening]


class Command:
    """A command that was started and not yet waited for."""

    def __init__(
        self,
        pillar: Mapping[str, Any],
        command: str,
        drill: str | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        waits: bool = False,
        **arguments: Any,
    ) -> None:
        """`drill` is a failure on order, as `crash-after:7`; `variables` are further environment.

        One that `waits` does nothing before `begin`: so its guard can be there first.
        """
        environment = {name: value for name, value in os.environ.items() if name != DRILL}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.direct"],
            cwd=REPOSITORY,
            env=environment | ({DRILL: drill} if drill else {}) | dict(variables or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Through the pipe, not the command line: it holds passwords.
        order = {"command": command, "pillar": pillar, "arguments": arguments}
        self.process.stdin.write(json.dumps(order))
        self._seen: list[dict[str, Any]] = []
        if not waits:
            self.begin()

    def begin(self) -> None:
        """Lets it go ahead."""
        self.process.stdin.close()
        self.process.stdin = None

    def until(self, happening: str, step: str | None = None) -> dict[str, Any]:
        """Reads progress until something happens to a step, and returns that event.

        Each has the time at which it was `shown`, beside the one `at` which it happened.
        """
        for line in self.process.stderr:
            event = _event(line)
            if event is None:
                continue
            event["shown"] = time.time()
            self._seen.append(event)
            if event["happening"] == happening and step in (None, event["step"]):
                return event
        raise AssertionError(f"{happening} {step} never came; seen: {self._seen[-5:]}")

    def wait(self, timeout: float = 60.0) -> Done:
        """Waits for the end."""
        try:
            output, errors = self.process.communicate(timeout=timeout)
        except BaseException:
            # Also at Ctrl-C: it would go on by itself, in a folder that is being removed.
            self.process.kill()
            self.process.communicate()
            raise
        lines = errors.splitlines()
        events = self._seen + [event for event in map(_event, lines) if event is not None]
        said = json.loads(output) if output.strip() else {}
        if self.process.returncode not in (0, 1, -9):
            raise AssertionError(f"rc {self.process.returncode}: {output}\n{errors[-3000:]}")
        return Done(self.process.returncode, said.get("answer"), said.get("error"), events)


def run(
    pillar: Mapping[str, Any],
    command: str,
    drill: str | None = None,
    timeout: float = 60.0,
    **arguments: Any,
) -> Done:
    """Runs one command to its end."""
    return Command(pillar, command, drill, **arguments).wait(timeout)


def _event(line: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        return event if isinstance(event, dict) else None
    return None


# -- in the process ---------------------------------------------------------------------------


def _act(function: str, keywords: Mapping[str, Any]) -> Any:
    """Does what the minion's function of that name does."""
    path = Path(keywords.get("path", "/nowhere"))
    match function:
        case "test.ping":
            return True
        case "disk.usage":
            told = shutil.disk_usage("/")
            size = os.environ.get(DISK, f"{told.free >> 10} {told.total >> 10}").split()
            return {"/": {"available": size[0], "1K-blocks": size[1]}}
        case "grains.items":
            raise NotImplementedError("a host that does not tell of itself")
        case "file.read":
            return path.read_text()
        case "file.file_exists":
            return path.exists()
        case "file.makedirs":
            path.parent.mkdir(parents=True, exist_ok=True)
        case "file.write":
            path.write_text("".join(f"{line}\n" for line in keywords["args"]))
        case "file.set_mode":
            path.chmod(int(keywords["mode"], 8))
        case "file.rename":
            Path(keywords["src"]).rename(keywords["dst"])
        case "file.remove":
            path.unlink(missing_ok=True)
        case _:
            raise NotImplementedError(function)
    return None


def _keys(ask: str, hosts: list[str]) -> list[str]:
    """Plays the controller's accepted keys: files in the folder that the environment names."""
    folder = Path(os.environ.get(KEYS, "/nowhere"))
    there = [host for host in hosts if (folder / host).exists()]
    if ask == "revoke":
        for host in there:
            (folder / host).unlink()
    return there


def _answer(question: str) -> str:
    asked = json.loads(question)
    if asked["ask"] == "guard":
        # Whoever says that there is one started it before.
        if os.environ.get(NO_GUARD):
            raise RuntimeError("the guard did not start")
        return "true"
    if asked["ask"] == "known":
        return "[]"
    if asked["ask"] in ("accepted", "revoke"):
        return json.dumps(_keys(asked["ask"], asked["hosts"]))
    if asked["ask"] == "user-data":
        return json.dumps(base64.b64encode(b"#cloud-config\n{}").decode())
    said: list[dict[str, Any]] = []
    functions = [call["function"] for call in asked["calls"]]
    if len(set(functions)) < len(functions):
        raise RuntimeError(f"a minion answers by name, and one stands twice: {functions}")
    # All hosts are this machine, so once is enough.
    for call in asked["calls"]:
        try:
            said.append({"return": _act(call["function"], call["keywords"]), "retcode": 0})
        except Exception as error:
            said.append({"return": f"{type(error).__name__}: {error}", "retcode": 1})
    silent = os.environ.get(GONE, "").split()
    if (gone := os.environ.get(GONE_WHILE)) and Path(gone).exists():
        silent = asked["hosts"]
    return json.dumps({host: said for host in asked["hosts"] if host not in silent})


def main() -> int:
    """Runs the command that stands on stdin; progress goes to stderr, the answer to stdout."""
    from saltext.migrate import _native

    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: signals.append(number))
    order = json.load(sys.stdin)
    try:
        answer = _native.run(
            order["command"],
            json.dumps(order["pillar"]),
            json.dumps(order["arguments"]),
            _answer,
            lambda event: print(event, file=sys.stderr, flush=True),
            lambda: bool(signals),
        )
    except _native.MigrateError as error:
        message, kind, hint = error.args
        print(json.dumps({"error": {"message": message, "kind": kind, "hint": hint}}))
        return 1
    answer = json.loads(answer)
    print(json.dumps({"answer": answer}))
    return 1 if isinstance(answer, dict) and answer.get("error") else 0


if __name__ == "__main__":
    sys.exit(main())
