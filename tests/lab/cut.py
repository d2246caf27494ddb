"""Owns the wire to one server of the chain: it can be cut, or held, at a statement that passes.

with Cut(chain, "new-db1") as cut:
    pillar = cut.pillar(chain.pillar())    # the controller, and whoever follows, comes this way
    cut.at(b"SET state='promote'", reply=True)
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from copy import deepcopy
from types import TracebackType
from typing import Any

from tests.lab.loopback import SOURCES, Chain


class Cut:
    """A forwarder on an address of its own, at the port of the chain."""

    def __init__(self, chain: Chain, name: str) -> None:
        self._chain, self._name = chain, name
        self._server = chain[name]
        self.address = "127.0.1." + self._server.address.rpartition(".")[2]
        self._order: tuple[bytes, bool, bool] | None = None
        self._held = False
        self._released = threading.Event()
        self._sockets: list[socket.socket] = []
        self.passed = threading.Event()  # the statement was seen
        self.cuts = 0

    def __enter__(self) -> Cut:
        self._listener = socket.create_server((self.address, self._chain.port))
        threading.Thread(target=self._accept, daemon=True).start()
        for replica, source in SOURCES.items():
            if source == self._name:
                self._chain[replica].run(
                    f"STOP SLAVE; CHANGE MASTER TO MASTER_HOST='{self.address}'; START SLAVE"
                )
        self._chain.wait_replicating()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        # A thread that accepts is not woken by a close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            _end(end)

    def pillar(self, pillar: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a pillar in which the server has this address."""
        found = deepcopy(dict(pillar))
        side, _, node = self._name.partition("-")
        found["nodes"][side][node]["private"] = self.address
        return found

    def at(self, statement: bytes, *, reply: bool) -> None:
        """Ends the connection when a statement passes: before the server has it, or behind it."""
        self._order = (statement, reply, False)

    def hold(self, statement: bytes, *, reply: bool = False) -> None:
        """Keeps a statement, or the answer to it, until `release`; other connections go on."""
        self._order = (statement, reply, True)

    def release(self) -> None:
        """Lets go what is held."""
        self._released.set()

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
                self._sockets.append(end)
            mute = threading.Event()
            threading.Thread(target=self._up, args=(client, server, mute), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, mute), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, mute: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                order = self._order
                if order is None or order[0] not in data:
                    server.sendall(data)
                    continue
                self._order = None
                _, reply, self._held = order
                if reply:
                    mute.set()
                    server.sendall(data)
                self.passed.set()
                self.cuts += 1
                if not reply and self._held:
                    self._released.wait()
                    server.sendall(data)
                elif not reply:
                    break
        _end(client)
        _end(server)

    def _down(self, client: socket.socket, server: socket.socket, mute: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if mute.is_set():
                    # A cut wants the connection gone, a hold wants it silent.
                    if not self._held:
                        break
                    self._released.wait()
                client.sendall(data)
        _end(client)
        _end(server)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
