"""Owns the order of the rows, and their spreading over lanes."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.chaos.case import FLIP
from tests.chaos.lane import Job, Lane, Row

# What a row may take once the time is over: the longest on whole hosts.
LAST_ROW = 240.0
SERVES = {FLIP: "old"}


def ordered(chosen: Iterable[Job]) -> list[Job]:
    """Puts first what is most unlike what comes before it."""
    alike: dict[Any, list[Job]] = {}
    for case, direction in chosen:
        faults = tuple((one.kind, one.at, one.told.get("server")) for one in case.breaks)
        alike.setdefault(faults, []).append((case, direction))
    turns: list[list[Job]] = []
    for number, group in enumerate(alike.values()):
        start = number % len(group)
        for turn, one in enumerate(group[start:] + group[:start]):
            turns += [[]] if turn == len(turns) else []
            turns[turn].append(one)
    return [one for turn in turns for one in turn]


def take(waiting: list[Job], stands: str | None) -> Job:
    """Takes the first row that begins where the last one ended; where none does, the first flip."""
    side = stands or "old"
    fits = (job for job in waiting if SERVES.get(job[1], "new") == side)
    job = next(fits, waiting[0])
    waiting.remove(job)
    return job


def in_turns(jobs: Iterable[Job]) -> list[Job]:
    """The order in which one lane runs them where all goes well."""
    waiting, found, stands = list(jobs), [], "old"
    while waiting:
        case, direction = take(waiting, stands)
        found.append((case, direction))
        stands = "old" if case.soils or direction != FLIP else "new"
    return found


class Spread:
    """The rows of all benches on lanes of their own, as long as there is time."""

    def __init__(
        self, waiting: dict[str, list[Job]], lanes: dict[str, int], deadline: float
    ) -> None:
        """Takes rows and lanes by the name of the bench; `deadline` is of the monotonic clock."""
        self.waiting = waiting
        self._deadline = deadline
        self.lanes = [
            Lane(bench)
            for bench, count in lanes.items()
            for _ in range(min(count, len(waiting.get(bench, []))))
        ]

    def run(self, note: Callable[[Row], None]) -> None:
        """Runs them; each row is told as it comes. However it ends, no lane is left."""
        try:
            for lane in list(self.lanes):
                self._next(lane)
            while busy := [lane for lane in self.lanes if lane.job]:
                left = self._deadline + LAST_ROW - time.monotonic()
                ready, _, _ = select.select(busy, [], [], max(0.0, left))
                if not ready:
                    return
                for lane in ready:
                    self._came(lane, note)
        finally:
            self.end()

    def end(self) -> None:
        """Ends every lane, all at once."""
        for lane in self.lanes:
            lane.close()
        for lane in self.lanes:
            lane.wait()

    def _next(self, lane: Lane) -> None:
        waiting = self.waiting[lane.bench]
        if waiting and time.monotonic() < self._deadline:
            lane.begin(take(waiting, lane.stands))
        else:
            # The others have the machine for themselves.
            lane.close()

    def _came(self, lane: Lane, note: Callable[[Row], None]) -> None:
        job = lane.job
        assert job is not None
        row = lane.answer()
        if row is not None:
            note(row)
            self._next(lane)
            return
        self.lanes.remove(lane)
        lane.wait()
        if not lane.done:
            # It never came up, and another would not either.
            self.waiting[lane.bench].insert(0, job)
            return
        case, direction = job
        note({
            "name": case.name, "direction": direction, "bench": case.bench, "seen": {}, "state": "unknown",
            "two_primaries": False, "fence_overrun": False, "survived": False, "seconds": 0.0,
            "problems": ["its lane died"],
        })  # fmt: skip
        self.lanes.append(Lane(lane.bench))
        self._next(self.lanes[-1])
