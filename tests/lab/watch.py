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

    def __init__(self, chain: Chain) -> None:
        self._old, self._new = _Look(chain.old), _Look(chain.new)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks = 0
        self.both_open = 0

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
        if error is None:
            assert self.both_open == 0, f"{self.both_open} of {self.looks} looks saw both open"
            assert self.looks > 0

    def _watch(self) -> None:
        while not self._ending.wait(0.002):
            # One look takes time: only what was open before and after is known to be so within.
            before, between, after = self._old.open(), self._new.open(), self._old.open()
            self.looks += 1
            self.both_open += before and between and after


class _Look:
    def __init__(self, server: MariaDB) -> None:
        self._server = server
        self._connection: pymysql.Connection | None = None

    def open(self) -> bool:
        """Returns whether the server accepts writes; one that does not answer accepts none."""
        try:
            if self._connection is None:
                self._connection = self._server.root()
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT @@global.read_only AS closed")
                return not cursor.fetchone()["closed"]
        except (pymysql.err.Error, OSError):
            # The product ends sessions on purpose.
            self.close()
            time.sleep(0.01)
            return False

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = None
