"""Faults that a test injects, and the log of what was asked of the API."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

EFFECTS = ("answer", "hang", "hold", "hold-reply", "drop", "lose-reply", "not-served")


@dataclass
class Fault:
    """What happens to the next requests that match.

    answer      answers ``status`` and ``body``; nothing is done
    hang        waits ``seconds``, then does the request
    hold        waits until it is released or cleared, then answers as ``answer``; nothing is done
    hold-reply  does the request, and answers once it is released or cleared
    drop        closes the connection; nothing is done
    lose-reply  does the request, waits ``seconds``, then closes the connection without an answer
    not-served  does the request and answers success, but ``pops`` (default all) never follow
    """

    effect: str
    method: str = ".*"
    path: str = ".*"
    status: int = 503
    body: Any = None
    headers: dict[str, str] | None = None
    seconds: float = 0.0
    pops: list[str] | None = None
    # None: until cleared.
    times: int | None = 1
    released: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS:
            raise ValueError(f"effect {self.effect!r} is none of {', '.join(EFFECTS)}")

    def matches(self, method: str, path: str) -> bool:
        return bool(re.fullmatch(self.method, method) and re.search(self.path, path))


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._holding: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)
            if fault.effect.startswith("hold"):
                self._holding.append(fault)

    def release(self) -> None:
        """Lets go whatever is held, and holds nothing more."""
        with self._lock:
            for fault in self._holding:
                fault.released.set()
            self._holding.clear()

    def clear(self) -> None:
        self.release()
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The first fault that matches, counted down."""
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, path):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault
        return None


class Log:
    """Requests in the order of their arrival; status is null while one is answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[dict[str, Any]] = []

    def open(self, method: str, path: str) -> dict[str, Any]:
        service = re.match(r"/service/([A-Za-z0-9]{22})", path)
        entry = {
            "t_monotonic": time.monotonic(),
            "method": method,
            "path": path,
            "status": None,
            "service": service[1] if service else None,
        }
        with self._lock:
            self._entries.append(entry)
        return entry

    def entries(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
