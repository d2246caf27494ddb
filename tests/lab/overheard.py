"""Owns what everybody on the machine comes to see of a run: for the search for what nobody should."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tests.lab.salt import SaltMaster


class Overheard:
    """What everybody on the machine sees of a run: every process's command line, and Salt's bus."""

    def __init__(self, master: SaltMaster) -> None:
        self._master = master
        self._over = threading.Event()
        self._lines: set[bytes] = set()
        self._exit = contextlib.ExitStack()
        self.processes = self.events = ""

    def __enter__(self) -> Overheard:
        self._heard = self._exit.enter_context(tempfile.NamedTemporaryFile("ab"))
        # Into a file and unbuffered: what was heard is there, whenever and however it ends.
        self._bus = subprocess.Popen(
            self._master.command("state.event"),
            stdout=self._heard,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._hears("the first that it shows")
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()
        try:
            # Whatever was said before has come when this has.
            self._hears("the last that it shows")
            self.events = self._shown().decode(errors="replace")
        finally:
            self._bus.kill()
            self._bus.wait()
            self._exit.close()
        self.processes = b"\n".join(self._lines).decode(errors="replace")

    def _shown(self) -> bytes:
        return Path(self._heard.name).read_bytes()

    def _hears(self, words: str) -> None:
        """Says something on the bus until it is heard: nobody listens from the first moment on."""
        deadline = time.monotonic() + 60
        while words.encode() not in self._shown():
            if time.monotonic() > deadline:
                raise TimeoutError(f"state.event does not show {words!r}")
            self._master.run("test.arg", words)

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
    return "".join(_read(path) for path in files)


def _read(path: Path) -> str:
    # Salt goes on with its caches: what is gone by now is kept nowhere.
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes().decode(errors="replace")
    return ""
