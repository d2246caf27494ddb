"""Owns the watch over the first promise: never two writable primaries."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType

import pymysql

from tests.lab.loopback import Chain
from tests.lab.mariadb import MariaDB


class Watch:
    """Looks at both primaries as often as it can, as long as it is entered."""

    def __init__(self, chain: Chain, period: float = 0.002, strict: bool = True) -> None:
        """One that is not `strict` only counts, for others to judge."""
        self._old, self._new = _Look(chain.old), _Look(chain.new)
        self._period, self._strict = period, strict
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks = 0
        self.both_open = 0
        # Monotonic seconds, and how old and new stood from then on: True open, False closed, None silent.
        self.changes: list[tuple[float, bool | None, bool | None]] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._old.close()
        self._new.close()
        if error is None and self._strict:
            assert self.both_open == 0, f"{self.both_open} of {self.looks} looks saw both open"
            assert self.looks > 0

    def _watch(self) -> None:
        while not self._ending.wait(self._period):
            # One look takes time: only what was open before and after is known to be so within.
            before, between, after = self._old.open(), self._new.open(), self._old.open()
            self.looks += 1
            self.both_open += bool(before and between and after)
            if not self.changes or self.changes[-1][1:] != (after, between):
                self.changes.append((time.monotonic(), after, between))


class _Look:
    def __init__(self, server: MariaDB) -> None:
        self._server = server
        self._connection: pymysql.Connection | None = None

    def open(self) -> bool | None:
        """Returns whether the server accepts writes, or None where it does not answer."""
        try:
            if self._connection is None:
                self._connection = self._server.root(connect_timeout=5, read_timeout=1)
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT @@global.read_only AS closed")
                return not cursor.fetchone()["closed"]
        except (pymysql.err.Error, OSError):
            # The product ends sessions on purpose.
            self.close()
            time.sleep(0.01)
            return None

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = None
