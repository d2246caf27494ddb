"""The hourly quota of writes of one token."""

from __future__ import annotations

import threading
import time

EXCEEDED = (
    "You have exceeded your hourly rate limit. "
    "Please contact support@fastly.com if you think this is a mistake."
)


class Quota:
    """Counts writes of the running hour; a test may make the hour as short as it likes.

    It may also have the hour end some seconds after the first refusal, or after the last write that it `left` then:
    however long it takes whoever writes to come to that.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self.resets = self._next()
        self._lock = threading.Lock()
        self._ends: tuple[float, int | None] | None = None

    @staticmethod
    def _next() -> float:
        return (int(time.time()) // 3600 + 1) * 3600

    def _turn(self) -> None:
        if time.time() >= self.resets:
            self.resets, self._used = self._next(), 0
            self._ends = None

    def spend(self) -> bool:
        with self._lock:
            self._turn()
            allowed = self._used < self.limit
            self._used += allowed
            if self._ends is not None:
                seconds, left = self._ends
                if left is not None and self.limit - self._used <= left or not allowed:
                    self.resets, self._ends = time.time() + seconds, None
            return allowed

    def set_remaining(self, remaining: int) -> None:
        with self._lock:
            self._turn()
            self._used = self.limit - remaining

    def end(self, seconds: float, left: int | None = None) -> None:
        """Ends the hour some seconds after the first refusal, or after the write that leaves so few."""
        with self._lock:
            # Not by itself before that.
            self.resets, self._ends = time.time() + 3600, (seconds, left)

    def headers(self) -> dict[str, str]:
        return {
            "Fastly-RateLimit-Remaining": str(max(self.limit - self._used, 0)),
            "Fastly-RateLimit-Reset": str(int(self.resets)),
        }
