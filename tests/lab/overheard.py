"""Owns what everybody on the machine comes to see of a run: for the search for what nobody should."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import threading
from pathlib import Path

from tests.lab.salt import SaltMaster


class Overheard:
    """What everybody on the machine sees of a run: every process's command line, and Salt's bus."""

    def __init__(self, master: SaltMaster) -> None:
        self._master = master
        self._over = threading.Event()
        self._lines: set[bytes] = set()
        self.processes = self.events = ""

    def __enter__(self) -> Overheard:
        command = self._master.command("state.event")
        self._bus = subprocess.Popen(command, stdout=subprocess.PIPE)
        # It listens once it shows what somebody else does.
        for _ in range(20):
            self._master.run("test.arg")
            if select.select([self._bus.stdout], [], [], 0.2)[0]:
                break
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()
        self._bus.send_signal(signal.SIGINT)
        self.events = self._bus.communicate(timeout=20)[0].decode(errors="replace")
        self.processes = b"\n".join(self._lines).decode(errors="replace")

    def _look(self) -> None:
        while not self._over.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self._lines.add(path.read_bytes())

    @property
    def all(self) -> str:
        """Both of it."""
        return self.processes + self.events


def written(*folders: Path) -> str:
    """Everything that stands in files below some folders, but for the pillars that Salt itself keeps on the master."""
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files = [
        p for p in found if p.name != "data.p" and (p.suffix, p.parent.name) != (".p", "pillar")
    ]
    return "".join(path.read_bytes().decode(errors="replace") for path in files)
