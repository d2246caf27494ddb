"""The door of a service: it remembers every request, and fails on order.

    PUT    /_door/faults     a list of faults: {method, path (a pattern), effect, ...}
    GET    /_door/requests   what came since the last DELETE
    DELETE /_door            forgets both

Effects: `answer` with `status` (and `headers`) instead of the service; `lose-reply` lets the service
act, and answers 502; `slow` waits `seconds` first; `revoke` takes the request's token for dead, from then on.
`times` says how often; without it, until it is taken away. `skip` lets some pass first.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

Application = Callable[..., Iterable[bytes]]


class Door:
    """A WSGI application in front of a service's own."""

    def __init__(self, service: Application) -> None:
        self._service = service
        self._faults: list[dict[str, Any]] = []
        self._requests: list[dict[str, Any]] = []
        self._dead: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/_door"):
            return self._control(method, path, environ, start_response)
        token = environ.get("HTTP_X_AUTH_TOKEN", "")
        entry = {"method": method, "path": path, "query": environ.get("QUERY_STRING", "")}
        with self._lock:
            self._requests.append(entry)
            fault = self._fault(method, path)
            if fault and fault["effect"] == "revoke":
                self._dead.add(token)
            dead = token in self._dead
        if dead:
            entry["status"] = 401
            return _answer(start_response, 401, {"error": {"message": "ordered"}}, {})
        if fault and fault["effect"] == "answer":
            entry["status"] = fault["status"]
            return _answer(start_response, fault["status"], {"error": {"message": "ordered"}},
                           fault.get("headers", {}))  # fmt: skip
        if fault and fault["effect"] == "slow":
            time.sleep(fault["seconds"])

        def started(status: str, headers: Any, *rest: Any) -> Any:
            entry["status"] = int(status.split()[0])
            return start_response(status, headers, *rest)

        if fault and fault["effect"] == "lose-reply":
            body = self._service(environ, lambda status, headers, *rest: io.BytesIO().write)
            list(body)
            entry["status"] = 502
            return _answer(start_response, 502, {"error": {"message": "the reply was lost"}}, {})
        return self._service(environ, started)

    def _fault(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self._faults:
            if fault.get("method", method) != method or not re.fullmatch(fault["path"], path):
                continue
            if fault.get("skip", 0) > 0:
                fault["skip"] -= 1
                continue
            if fault.get("times", 1) <= 0:
                continue
            if "times" in fault:
                fault["times"] -= 1
            return fault
        return None

    def _control(self, method: str, path: str, environ: dict[str, Any], start_response: Any) -> Any:
        with self._lock:
            if method == "PUT":
                length = int(environ.get("CONTENT_LENGTH") or 0)
                self._faults = json.loads(environ["wsgi.input"].read(length))
            elif method == "DELETE":
                self._faults, self._requests, self._dead = [], [], set()
            return _answer(start_response, 200, self._requests, {})


def _answer(start_response: Any, status: int, body: Any, headers: dict[str, str]) -> list[bytes]:
    said = json.dumps(body).encode()
    fixed = {"Content-Type": "application/json", "Content-Length": str(len(said))}
    start_response(f"{status} Ordered", list((fixed | headers).items()))
    return [said]
