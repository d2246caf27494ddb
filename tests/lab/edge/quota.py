"""The hourly quota of writes of one token."""

from __future__ import annotations

import threading
import time

EXCEEDED = (
    "You have exceeded your hourly rate limit. "
    "Please contact support@fastly.com if you think this is a mistake."
)


def _an_hour_on() -> float:
    return time.time() + 3600


class Quota:
    """Counts writes of the running hour, which is its own and not the clock's: none ends amid a test by itself.

    A test may make it as short as it likes. It may also have the hour end some seconds after the first refusal, or
    after the last write that it `left` then: however long it takes whoever writes to come to that.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self.resets = _an_hour_on()
        self._lock = threading.Lock()
        self._ends: tuple[float, int | None] | None = None

    def _turn(self) -> None:
        if time.time() >= self.resets:
            self.resets, self._used = _an_hour_on(), 0
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
        """Begins an hour, with so many writes left in it."""
        with self._lock:
            self.resets, self._used, self._ends = _an_hour_on(), self.limit - remaining, None

    def end(self, seconds: float, left: int | None = None) -> None:
        """Ends the hour some seconds after the first refusal, or after the write that leaves so few."""
        with self._lock:
            # Not by itself before that.
            self.resets, self._ends = _an_hour_on(), (seconds, left)

    def headers(self) -> dict[str, str]:
        return {
            "Fastly-RateLimit-Remaining": str(max(self.limit - self._used, 0)),
            "Fastly-RateLimit-Reset": str(int(self.resets)),
        }
