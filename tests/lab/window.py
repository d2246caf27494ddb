"""Owns the tight judge: how long no primary accepted a write, as two writers beside them saw it."""

from __future__ import annotations

from types import TracebackType

from tests.lab.loopback import Chain
from tests.lab.writer import Results, Writer, launching


class Window:
    """Two writer processes, each hammering at one primary only, on one monotonic clock."""

    def __init__(
        self, chain: Chain, threads: int = 2, period: float = 0.0016, retry: float = 0.0016
    ) -> None:
        """At least 1,000 attempts a second on each side with the defaults.

        Each thread writes once a `period` seconds, and once a `retry` while it is refused.
        """
        self._writers = {
            side: Writer(
                chain,
                threads=threads,
                sides=(side,),
                period=period,
                retry=retry,
                launch=launching(primary.netns),
            )
            for side, primary in (("old", chain.old), ("new", chain.new))
        }
        self.results: dict[str, Results] = {}

    def __enter__(self) -> Window:
        started: list[Writer] = []
        try:
            for writer in self._writers.values():
                writer.__enter__()
                started.append(writer)
        except BaseException:
            for writer in started:
                writer.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> dict[str, Results]:
        """Ends both writers; returns what each saw."""
        self.results = {side: writer.stop() for side, writer in self._writers.items()}
        return self.results

    def blocked_ms(self, source: str = "old", target: str = "new") -> float:
        """Returns the time from the last write on `source` to the first on `target`."""
        here = self.results[source].times(source)
        there = self.results[target].times(target)
        if not here or not there:
            raise AssertionError(f"{source} accepted {len(here)} writes, {target} {len(there)}")
        return (there[0] - here[-1]) / 1e6

    def attempts_per_second(self) -> dict[str, float]:
        """Returns how often each side was tried."""
        return {
            side: (len(seen.acknowledged) + len(seen.refused) + len(seen.unknown))
            * 1e9
            / (seen.stopped - seen.started)
            for side, seen in self.results.items()
        }
