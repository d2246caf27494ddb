"""The hourly quota of writes of one token."""

from __future__ import annotations

import threading
import time

EXCEEDED = (
    "You have exceeded your hourly rate limit. "
    "Please contact support@fastly.com if you think this is a mistake."
)


class Quota:
    """Counts writes of the running hour; a test may make the hour as short as it likes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self.resets = self._next()
        self._lock = threading.Lock()

    @staticmethod
    def _next() -> float:
        return (int(time.time()) // 3600 + 1) * 3600

    def _turn(self) -> None:
        if time.time() >= self.resets:
            self.resets, self._used = self._next(), 0

    def spend(self) -> bool:
        with self._lock:
            self._turn()
            if self._used >= self.limit:
                return False
            self._used += 1
            return True

    def set_remaining(self, remaining: int) -> None:
        with self._lock:
            self._turn()
            self._used = self.limit - remaining

    def headers(self) -> dict[str, str]:
        return {
            "Fastly-RateLimit-Remaining": str(max(self.limit - self._used, 0)),
            "Fastly-RateLimit-Reset": str(int(self.resets)),
        }
