"""One POP: a varnishd of its own, driven over one persistent management connection.

varnishd calls back to a socket opened for it: so readiness needs no polling, and the socket lives
in the POP's network namespace wherever this process is.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tests.lab.edge.vcl import root

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEPT = 8


class VarnishError(Exception):
    """varnishd refused a command; the text is its own."""


def die_with_parent() -> None:
    """For a child before its exec: ends when the thread that started it ends."""
    _LIBC.prctl(1, signal.SIGTERM)


def _listen(netns: str | None) -> socket.socket:
    made: list[socket.socket] = []

    def inside() -> None:
        if netns:
            with Path(f"/run/netns/{netns}").open() as space:
                if _LIBC.setns(space.fileno(), 0x40000000) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter network namespace {netns}")
        made.append(socket.create_server(("127.0.0.1", 0)))

    # A namespace is left by ending the thread that entered it.
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if not made:
        raise VarnishError(f"no management socket in network namespace {netns}")
    return made[0]


@dataclass
class Pop:
    """A varnishd that serves one version of each service."""

    name: str
    address: str
    directory: Path
    netns: str | None = None
    process: subprocess.Popen[bytes] | None = None
    domains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loaded: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    roots: int = 0

    def launch(self) -> None:
        """Starts varnishd; from the main thread only, whose end ends it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # A secret given as text would end in the process list.
        self._secret = secrets.token_hex(16).encode() + b"\n"
        keyfile = self.directory / "secret"
        keyfile.touch(mode=0o600)
        keyfile.write_bytes(self._secret)
        self._listener = _listen(self.netns)
        port = self._listener.getsockname()[1]
        command = ["ip", "netns", "exec", self.netns] if self.netns else []
        command += ["varnishd", "-F", "-j", "none", "-n", str(self.directory / "work")]
        command += ["-i", self.name, "-a", self.address, "-f", "", "-s", "malloc,64m"]
        command += ["-M", f"127.0.0.1:{port}", "-S", str(keyfile), "-t", "60"]
        for setting in (
            # 11 ms a version instead of 250 with the default compiler.
            "cc_command=exec tcc -w -shared -fPIC -o %o %s",
            "vcc_err_unref=off",
            "default_grace=0",
            "thread_pool_min=50",
        ):
            command += ["-p", setting]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent,
            )  # fmt: skip

    def connect(self) -> None:
        """Waits for varnishd to call, and lets it serve."""
        self._listener.settimeout(60)
        try:
            self._socket, _ = self._listener.accept()
        except TimeoutError:
            said = (self.directory / "log").read_text(errors="replace")
            raise VarnishError(f"{self.name}: varnishd did not start: {said}") from None
        finally:
            self._listener.close()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream: BinaryIO = self._socket.makefile("rb")
        challenge = self._read()[1][:32].encode()
        answer = hashlib.sha256(challenge + b"\n" + self._secret + challenge + b"\n").hexdigest()
        self.ask(f"auth {answer}")
        self._use_root()
        self.ask("start")
        # Port 0 asks for any: what it became is known only now.
        host, port_text = self.ask("debug.listen_address").split()[1:3]
        self.address = f"{host}:{port_text}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _read(self) -> tuple[int, str]:
        head = self._stream.read(13)
        if len(head) < 13:
            raise VarnishError(f"{self.name}: varnishd is gone")
        status, length = head.split()
        return int(status), self._stream.read(int(length) + 1).decode(errors="replace").rstrip()

    def ask(self, command: str) -> str:
        with self.lock:
            self._socket.sendall(command.encode() + b"\n")
            status, text = self._read()
        if status != 200:
            raise VarnishError(text)
        return text

    def load(self, service: str, name: str, text: str) -> None:
        """Compiles a version, unless it is there; it serves nobody yet."""
        with self.lock:
            known = self.loaded.setdefault(service, [])
            if name not in known:
                self._compile(name, text)
                known.append(name)
            spare = [item for item in known if item not in (name, self.labels.get(service))]
            while len(known) > _KEPT and spare:
                self.ask(f"vcl.discard {spare[0]}")
                known.remove(spare.pop(0))

    def _compile(self, name: str, text: str) -> None:
        file = self.directory / f"{name}.vcl"
        file.write_text(text)
        self.ask(f"vcl.load {name} {file}")

    def serve(self, service: str, name: str, domains: tuple[str, ...]) -> float:
        """Turns new requests of a service to a loaded version; answers when that was done."""
        with self.lock:
            self.ask(f"vcl.label svc_{service} {name}")
            self.labels[service] = name
            if self.domains.get(service) != domains:
                self.domains[service] = domains
                self._use_root()
            return time.monotonic()

    def withdraw(self, service: str) -> float:
        with self.lock:
            if self.domains.pop(service, None) is not None:
                self._use_root()
            return time.monotonic()

    def _use_root(self) -> None:
        old, self.roots = self.roots, self.roots + 1
        self._compile(f"root_{self.roots}", root(self.domains))
        self.ask(f"vcl.use root_{self.roots}")
        if old:
            self.ask(f"vcl.discard root_{old}")

    def purge(self, service: str, key: str | None = None) -> None:
        expression = f'obj.http.x-standin-service == "{service}"'
        if key is not None:
            # A blank would end the argument, quoted or not.
            edge = ("(^|[[:space:]])", "([[:space:]]|$)")
            pattern = re.escape(key).replace("\\", "\\\\").replace('"', '\\"')
            expression += f' && obj.http.Surrogate-Key ~ "{edge[0]}{pattern}{edge[1]}"'
        self.ask(f"ban {expression}")

    def purge_url(self, host: str, url: str) -> None:
        self.ask(f'ban req.http.host == "{host}" && req.url == "{url}"')
