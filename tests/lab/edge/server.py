"""The HTTP side: reads a request, applies faults, token, quota and latency, and answers.

The same API answers on a unix socket too, which is reached from any network namespace.
"""

from __future__ import annotations

import io
import json
import socket
import socketserver
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.lab.edge import domains, endpoints, objects, versionless
from tests.lab.edge.control import control
from tests.lab.edge.faults import Fault
from tests.lab.edge.quota import EXCEEDED
from tests.lab.edge.records import Refused
from tests.lab.edge.routes import Answer, Call, Platform, find

# Imported for the endpoints they declare.
_DECLARED = (domains, endpoints, objects, versionless)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    platform: ClassVar[Platform]

    def setup(self) -> None:
        super().setup()
        if self.request.family != socket.AF_UNIX:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keeps quiet: ``/standin/log`` is the log."""

    def _call(self) -> Call:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        parts = urlsplit(self.path)
        kind = (self.headers.get("Content-Type") or "").partition(";")[0]
        body: Any = {}
        if raw and kind.endswith("json"):
            body = json.loads(raw)
        elif raw:
            body = dict(parse_qsl(raw.decode(), keep_blank_values=True))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): text for name, text in self.headers.items()}
        url = f"http://{headers.get('host', '')}{parts.path}"
        sent = body if isinstance(body, dict) else {"items": body}
        return Call(self.command, parts.path, query, headers, sent, url)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        if body is None:
            data = b""
        if status >= 400:
            # The real one writes it so: a client that looks for '=>' in the raw text finds none.
            data = data.replace(b"=>", b"=\\u003e")
        self.send_response(status)
        said = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        for name, text in (said | (headers or {})).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        # One write, one segment.
        wire, self.wfile = self.wfile, io.BytesIO()
        self.end_headers()
        whole, self.wfile = self.wfile.getvalue() + data, wire
        self.wfile.write(whole)

    def _local(self) -> bool:
        return self.request.family == socket.AF_UNIX or self.client_address[0].startswith("127.")

    def _answer(self) -> None:
        p = self.platform
        try:
            call = self._call()
        except ValueError:
            self._send(400, {"msg": "Bad request", "detail": "Cannot read the body"})
            return
        known = call.headers.get("fastly-key") == p.token
        if call.path.startswith("/standin/") and (self._local() or known):
            self._send(*control(p, call))
            return
        if call.path.endswith("/.well-known/openid-configuration"):
            # The CLI asks for it before anything else, and goes on with any JSON.
            self._send(200, {})
            return
        entry = p.log.open(call.method, self.path)
        fault = p.faults.take(call.method, unquote(call.path))
        if fault and self._failed(fault, entry):
            return
        answer = self._ask(p, call, known, fault)
        entry["status"] = answer.status
        if fault and fault.effect == "hold-reply":
            if answer.after:
                answer.after()
                answer.after = None
            fault.released.wait()
        try:
            if fault and fault.effect == "lose-reply":
                time.sleep(fault.seconds)
                self.close_connection = True
                return
            self._send(answer.status, answer.body, answer.headers)
        finally:
            # An activation that was accepted goes on, whether or not anybody heard so.
            if answer.after:
                answer.after()

    def _failed(self, fault: Fault, entry: dict[str, Any]) -> bool:
        if fault.effect == "hang":
            time.sleep(fault.seconds)
        elif fault.effect == "drop":
            self.close_connection = True
            return True
        elif fault.effect in ("answer", "hold"):
            if fault.effect == "hold":
                fault.released.wait()
            entry["status"] = fault.status
            self._send(fault.status, fault.body, fault.headers)
            return True
        return False

    def _ask(self, p: Platform, call: Call, known: bool, fault: Fault | None) -> Answer:
        began = time.monotonic()
        if not known:
            return Answer({"msg": "Provided credentials are missing or invalid"}, 401)
        if fault and fault.effect == "not-served":
            call.missed = fault.pops or ["*"]
        counted = False
        try:
            route, where = find(call.method, call.path)
            if route.counts:
                counted = True
                if not p.quota.spend():
                    return Answer({"msg": EXCEEDED}, 429, p.quota.headers())
            if route.ahead:
                route.ahead(p, call, **where)
            takes = p.latency.get(route.takes, 0.0)
            time.sleep(max(began + takes - time.monotonic(), 0))
            with p.store.lock:
                found = route.endpoint(p, call, **where)
                answer = found if isinstance(found, Answer) else Answer(found)
                # Written down inside the lock: the objects answered go on living.
                answer.body = json.dumps(answer.body)
        except Refused as refused:
            answer = Answer(refused.body, refused.status)
        if counted:
            # As it stands by now: others wrote meanwhile.
            answer.headers |= p.quota.headers()
        return answer

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer


class Server(ThreadingHTTPServer):
    """The API on its address."""

    daemon_threads = True
    request_queue_size = 128


class LocalServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The API on a unix socket."""

    daemon_threads = True
    request_queue_size = 128
