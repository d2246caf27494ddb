"""Owns the wire to one server of the chain: cut or held at a statement that passes, cut off, silent, or slow.

with Cut(chain, "new-db1") as cut:
    pillar = cut.pillar(chain.pillar())    # the controller, and whoever follows, comes this way
    cut.at(b"SET state='promote'", reply=True)
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from copy import deepcopy
from types import TracebackType
from typing import Any

from tests.lab.loopback import SOURCES, Chain

CONTROL, REPLICATION = "control", "replication"
BOTH = (CONTROL, REPLICATION)


class _Line:
    """One connection through a wire, and whose it is once it said so."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.kind: str | None = None
        self.mute = threading.Event()
        self.answered = False
        # What lets go the answer that is held on it.
        self.held: threading.Event | None = None

    def end(self) -> None:
        _end(self.client)
        _end(self.server)


class Cut:
    """A forwarder on an address of its own, at the port of the chain."""

    def __init__(self, chain: Chain, name: str) -> None:
        self._chain, self._name = chain, name
        self._server = chain[name]
        self.address = "127.0.1." + self._server.address.rpartition(".")[2]
        self._order: tuple[bytes, bool, threading.Event | None] | None = None
        self._holds: list[threading.Event] = []
        self._lines: list[_Line] = []
        self._down_for: set[str] = set()
        self._silent: set[str] = set()
        self._spoken = threading.Condition()
        self._delays: dict[str, float] = {}
        self._replication = chain.replication.user.encode()
        self.passed = threading.Event()  # the statement was seen, or the answer to it
        self.cuts = 0

    def __enter__(self) -> Cut:
        self._listener = socket.create_server((self.address, self._chain.port))
        threading.Thread(target=self._accept, daemon=True).start()
        for replica, source in SOURCES.items():
            if source == self._name:
                self._chain[replica].find_source_at(self.address)
        self._chain.wait_replicating()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        self.mend()
        # A thread that accepts is not woken by a close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            line.end()

    def pillar(self, pillar: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a pillar in which the server has this address."""
        found = deepcopy(dict(pillar))
        side, _, node = self._name.partition("-") if "-" in self._name else ("new", "", self._name)
        found["nodes"][side][node]["private"] = self.address
        return found

    def at(self, statement: bytes, *, reply: bool) -> None:
        """Ends the connection when a statement passes: before the server has it, or behind it."""
        self._order = (statement, reply, None)

    def hold(self, statement: bytes, *, reply: bool = False) -> None:
        """Keeps a statement, or the answer to it, until `release`; other connections go on."""
        self.passed.clear()
        self._holds.append(threading.Event())
        self._order = (statement, reply, self._holds[-1])

    def release(self) -> None:
        """Lets go whatever is held."""
        for held in self._holds:
            held.set()
        self._holds.clear()

    def sever(self, whose: Iterable[str] = BOTH) -> None:
        """Ends the controller's connections, or replication's, and every new one, until `mend`."""
        self._down_for |= set(whose)
        for line in self._lines:
            if line.kind in self._down_for:
                line.end()

    def silence(self, whose: Iterable[str] = BOTH) -> None:
        """Lets nothing through and tells nobody, as a network that lost its way, until `mend`."""
        self._silent |= set(whose)

    def slow(self, seconds: float, whose: Iterable[str] = BOTH) -> None:
        """Makes every answer late, until `mend`."""
        self._delays.update(dict.fromkeys(whose, seconds))

    def mend(self) -> None:
        """Makes the wire whole and quick again; connections that were ended stay so."""
        self._delays.clear()
        self._down_for.clear()
        with self._spoken:
            self._silent.clear()
            self._spoken.notify_all()

    def renew(self) -> None:
        """Makes the wire as it was when it was entered: nothing is ordered, held or cut."""
        self.release()
        self.mend()
        self._order = None
        self.passed.clear()
        self.cuts = 0

    # -- inside -------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((self._server.address, self._chain.port))
            except OSError:
                # As the server itself would, while it is down.
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(client, server)
            self._lines.append(line)
            threading.Thread(target=self._up, args=(line,), daemon=True).start()
            threading.Thread(target=self._down, args=(line,), daemon=True).start()

    def _passes(self, line: _Line) -> bool:
        """Waits while the line is silent; false where it is cut off."""
        with self._spoken:
            while line.kind in self._silent:
                self._spoken.wait()
        return line.kind not in self._down_for

    def _up(self, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while data := line.client.recv(1 << 16):
                # The first that a client says is its account's name.
                line.kind = line.kind or (REPLICATION if self._replication in data else CONTROL)
                if not self._passes(line):
                    break
                order = self._order
                if order is None or order[0] not in data:
                    line.server.sendall(data)
                    continue
                self._order = None
                _, reply, line.held = order
                if reply:
                    line.mute.set()
                    line.server.sendall(data)
                    continue
                self._seen()
                if line.held is None:
                    break
                line.held.wait()
                line.server.sendall(data)
        line.end()

    def _seen(self) -> None:
        self.passed.set()
        self.cuts += 1

    def _down(self, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while data := line.server.recv(1 << 16):
                if line.mute.is_set():
                    # Only now it is certain that the server has acted on it.
                    if not line.answered:
                        line.answered = True
                        self._seen()
                    # A cut wants the connection gone, a hold wants it silent.
                    if line.held is None:
                        break
                    line.held.wait()
                if not self._passes(line):
                    break
                time.sleep(self._delays.get(line.kind or "", 0.0))
                line.client.sendall(data)
        line.end()


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
