"""Minions that obey two masters: the new one is started with the old one's keys, and neither strands anybody."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.loopback import MINION
from tests.lab.salt import COMMANDS, RESTART, Ran, SaltMaster, called

NEW = "new-deployment"
OLD_ADDRESS, NEW_ADDRESS = "127.0.0.1", "127.0.0.52"


class SecondMaster:
    """The new deployment node's own master: configured, without keys, and not started by us."""

    def __init__(self, first: SaltMaster, home: Path) -> None:
        self.home, self.pki = home, home / "pki"
        (home / "run").mkdir(parents=True)
        told = json.loads((first.config / "master").read_text())
        paths = {key: value.replace(str(first.config), str(home))
                 for key, value in told.items() if isinstance(value, str)}  # fmt: skip
        own = {"interface": NEW_ADDRESS, "pki_dir": str(self.pki)}
        (home / "master").write_text(json.dumps(told | paths | own))

    @property
    def pid(self) -> int | None:
        """Its process, which leads a group; none where it does not run."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.home / "run" / "pid").read_text())
            if "salt-master" in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        return None

    def commands(self) -> dict[str, str]:
        """What the pillar says of it."""
        run, home = f"{COMMANDS}/salt-master -c {self.home}", self.home
        return {
            "start": f"setsid --fork {run} </dev/null >/dev/null 2>{home}/err",
            "stands": f'kill -0 "$(cat {home}/run/pid)"',
            "ask": f"{COMMANDS}/salt -c {home}",
            "restart": RESTART,
        }

    def ping(self, *minions: str) -> set[str]:
        """Names those that answer it."""
        asked = [f"{COMMANDS}/salt", "-c", str(self.home), "-L", ",".join(minions)]
        answers = called([*asked, "test.ping", "-t", "2", "--out=json", "--static"], 60).data
        return {name for name, answer in (answers or {}).items() if answer is True}

    def end(self) -> None:
        """Ends it, at once."""
        if pid := self.pid:
            os.killpg(pid, signal.SIGKILL)


def pillar(home: Path, master: SaltMaster, second: SecondMaster) -> dict[str, Any]:
    account = {"user": "nobody", "password": "never-used-17"}
    return {
        "state_dir": str(home / "state"),
        "nodes": {
            "old": {
                "db1": {"private": "127.0.0.41"},
                "deployment": {"private": "127.0.0.42", "minion": MINION},
                # It would not answer: whoever stays is not asked.
                "kept": {"private": "127.0.0.43", "minion": "old-kept"},
            },
            "new": {"db1": {"private": "127.0.0.51"}, "deployment": {"private": NEW_ADDRESS, "minion": NEW}},
        },
        "databases": {
            "old": {"primary": "db1"},
            "new": {"primary": "db1"},
            "accounts": {
                name: account | {"user": name} for name in ("admin", "marker", "replication")
            },
        },
        "notice": {"text": "Migration in progress", "nodes": {"old": [], "new": []}},
        "prepare": {
            "masters": [NEW_ADDRESS, OLD_ADDRESS],
            "leave": ["kept"],
            "deployment": {
                "old": "deployment",
                "new": "deployment",
                "port": 14446,
                "folder": str(home / "carry"),
                "paths": [{"old": str(master.config / "pki" / "master"), "new": str(second.pki)}],
                "exclude": [],
                "master": second.commands(),
            },
            "deadlines": {"host": 300_000},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SaltMaster, SecondMaster]]:
    home = tmp_path_factory.mktemp("two")
    with SaltMaster({}, minions_restart=True) as master:
        second = SecondMaster(master, master.home / "second")
        master.set_pillar(pillar(home, master, second))
        with master.accepted_minion(NEW):
            assert master.answers(NEW)
            try:
                yield master, second
            finally:
                second.end()


def prepare(master: SaltMaster, *more: str) -> Ran:
    return master.run("state.orchestrate", "migrate.prepare", *more, timeout=180)


def restart(master: SaltMaster) -> None:
    """Restarts the minion of the old deployment node."""
    told = os.environ | {"MINION_HOME": str(master.minion_config)}
    subprocess.run(RESTART, shell=True, env=told, check=True)


def until_heard(ping: Any, minions: set[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while (heard := set(ping(*sorted(minions)))) != minions:
        assert time.monotonic() < deadline, f"only {heard} of {minions} answer"


def test_minions_obey_both_masters_and_are_stranded_by_neither(
    both: tuple[SaltMaster, SecondMaster],
) -> None:
    master, second = both
    minions = {MINION, NEW}
    planned = prepare(master, "test=True")
    assert planned.rc == 0, planned.stdout
    steps = ("deployment.master", "obeys.old-deployment", "obeys.new-deployment")
    assert {*steps, "deployment.obeyed"} <= planned.states["prepare"]["changes"].keys()
    assert "obeys.old-kept" not in planned.states["prepare"]["changes"]
    assert second.pid is None

    ran = prepare(master)
    assert ran.rc == 0, ran.stdout + ran.stderr
    # Both ask, each by itself.
    assert second.ping(*minions) == minions
    assert set(master.ping(*minions)) == minions
    again = prepare(master)
    assert (again.rc, again.states["prepare"]["changes"]) == (0, {}), again.stdout

    # The old master hangs: it takes connections, and says nothing. Whoever starts now still comes up.
    master.freeze()
    try:
        restart(master)
        until_heard(second.ping, minions)
    finally:
        master.thaw()
    # The new one is gone, and it starts again.
    second.end()
    restart(master)
    until_heard(master.ping, minions)
