"""``Edge``: the stand-in as a test sees it, started, fed and judged."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.lab.edge.varnish import die_with_parent

_ROOT = Path(__file__).resolve().parents[3]


class EdgeError(Exception):
    """The stand-in refused what a test needs, or did not start."""


class _Local(http.client.HTTPConnection):
    """HTTP over the stand-in's unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class Edge:
    """A running stand-in. Start it from a thread that outlives it: it ends with that thread.

    ``pops`` are addresses, port 0 for any. ``netns`` names the namespaces of the API and then of
    each POP, None for the present one.
    """

    def __init__(
        self,
        pops: Sequence[str] = ("127.0.1.1:0", "127.0.1.2:0"),
        *,
        listen: str = "127.0.0.1:0",
        delay: str = "recorded",
        spread: Sequence[float] = (0, 150),
        quota: int = 1000,
        state: Path | None = None,
        token: str | None = None,
        netns: Sequence[str | None] = (),
        domain_conflict: str = "creation",
        unrunnable: str = "refuse",
        staging: str | None = None,
    ) -> None:
        spaces = [*netns, *[None] * (1 + len(pops) - len(netns))]
        self._command = ["ip", "netns", "exec", spaces[0]] if spaces[0] else []
        self._command += [sys.executable, "-m", "tests.lab.edge", "--listen", listen]
        for address, space in zip(pops, spaces[1:], strict=True):
            self._command += ["--pop", f"{address}@{space}" if space else address]
        self._command += ["--delay", delay, "--spread", ",".join(str(ms) for ms in spread)]
        self._command += ["--quota", str(quota), "--domain-conflict", domain_conflict]
        self._command += ["--unrunnable", unrunnable]
        self._command += ["--staging", staging] if staging else []
        self._given = state
        self._token = token

    def __enter__(self) -> Edge:
        self._temporary = None
        if self._given is None:
            # Short: a unix socket's path has 108 bytes.
            self._temporary = tempfile.TemporaryDirectory(prefix="edge-")
        self.state = self._given or Path(self._temporary.name)  # type: ignore[union-attr]
        environment = os.environ | {"PYTHONPATH": str(_ROOT)}
        if self._token:
            environment["FASTLY_STANDIN_TOKEN"] = self._token
        self.process = subprocess.Popen(
            [*self._command, "--state", str(self.state)],
            cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], 60)
        line = self.process.stdout.readline() if readable else b""
        if not line:
            self._stop()
            raise EdgeError("the stand-in did not start")
        ready = json.loads(line)
        self.api: str = ready["api"]
        self.token: str = ready["token"]
        self.pops: list[str] = list(ready["pops"].values())
        self.staging: str | None = ready["staging"]
        self._socket: str = ready["socket"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request to the API, with the token; the status and the JSON answered."""
        connection = _Local(self._socket)
        try:
            headers = {"Fastly-Key": self.token, "Content-Type": "application/json"}
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def must(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise EdgeError(f"{method} {path}: {status} {answer}")
        return answer

    def create_service(
        self,
        name: str,
        domains: Sequence[str],
        backends: Sequence[dict[str, Any]] = (),
        *,
        activate: bool = True,
    ) -> str:
        """A service whose version 1 has these domains and backends, and is active."""
        ident: str = self.must("POST", "/service", {"name": name})["id"]
        version = f"/service/{ident}/version/1"
        for domain in domains:
            self.must("POST", f"{version}/domain", {"name": domain})
        for backend in backends:
            self.must("POST", f"{version}/backend", backend)
        if activate:
            self.must("PUT", f"{version}/activate")
        return ident

    def point_backend(self, service: str, name: str, **changes: Any) -> int:
        """A new draft of the active version with one backend changed; answers its number."""
        number: int = self.must("PUT", f"/service/{service}/version/active/clone")["number"]
        path = f"/service/{service}/version/{number}/backend/{quote(name, safe='')}"
        self.must("PUT", path, changes)
        return number

    def activate(self, service: str, version: int) -> None:
        self.must("PUT", f"/service/{service}/version/{version}/activate")

    def log(self) -> list[dict[str, Any]]:
        """Requests to the API in order, those of this object included."""
        return list(self.must("GET", "/standin/log"))

    def clear_log(self) -> None:
        self.must("POST", "/standin/log/clear")

    def fault(self, effect: str, **what: Any) -> None:
        """Adds a fault; see ``tests.lab.edge.faults.Fault`` for what it may say."""
        self.must("POST", "/standin/faults", {"effect": effect} | what)

    def release(self) -> None:
        """Lets go what a fault holds."""
        self.must("POST", "/standin/faults/release")

    def clear_faults(self) -> None:
        self.must("DELETE", "/standin/faults")

    def settings(self, **what: Any) -> None:
        """Changes spread (ms per POP), delay, remaining and resets (of the quota), unrunnable or
        domain_conflict. The quota's hour `ends` so many seconds after the first refusal, or after the write
        that leaves as few as `left`."""
        self.must("PUT", "/standin/settings", what)

    def activations(self) -> list[dict[str, Any]]:
        """Service, version, ``accepted``, and per POP the moment it followed: monotonic seconds."""
        return list(self.must("GET", "/standin/activations"))
