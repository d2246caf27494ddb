"""The hourly quota of writes of one token."""

from __future__ import annotations

import threading
import time

EXCEEDED = (
    "You have exceeded your hourly rate limit. "
    "Please contact support@fastly.com if you think this is a mistake."
)


class Quota:
    """Counts writes of the running hour."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._hour = self._now()
        self._lock = threading.Lock()

    @staticmethod
    def _now() -> int:
        return int(time.time()) // 3600

    def spend(self) -> bool:
        with self._lock:
            if self._hour != self._now():
                self._hour, self._used = self._now(), 0
            if self._used >= self.limit:
                return False
            self._used += 1
            return True

    def set_remaining(self, remaining: int) -> None:
        with self._lock:
            self._hour, self._used = self._now(), self.limit - remaining

    def headers(self) -> dict[str, str]:
        return {
            "Fastly-RateLimit-Remaining": str(max(self.limit - self._used, 0)),
            "Fastly-RateLimit-Reset": str((self._hour + 1) * 3600),
        }
