"""Owns the generic tests of a phase: it fails anywhere, dies anywhere, and does everything twice.

They know nothing of the phase but how to begin anew, and what the judge sees of each of its facts.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from tests.lab import direct
from tests.lab.direct import Done

KILLED = -9
# These records are on disk before anything rests on them; a power cut may take those behind.
DURABLE = {"begun", "started", "aborting", "finished"}

Facts = dict[str, Any]


class Place(ABC):
    """Where a phase is carried out again and again; a phase has one of its own."""

    phase: str
    pillar: dict[str, Any]

    @abstractmethod
    def begin(self) -> None:
        """Brings everything to where the phase has all its work before it."""

    @abstractmethod
    def facts(self) -> Facts:
        """Returns, by step, each fact as it is seen from outside of the product."""

    def apply(self, drill: str | None = None) -> Done:
        """Carries the phase out, with a failure on order."""
        return direct.run(self.pillar, "apply", drill, phase=self.phase)

    def ends(self, done: Done, facts: Facts, where: str) -> None:
        """Asserts that a run came to its end, and that the phase has nothing more to do."""
        assert done.verdict in ("done", "unchanged"), (where, done.problem)
        assert self.facts() == facts, where
        planned = direct.run(self.pillar, "plan", phase=self.phase)
        assert planned.answer["changes"] == [], (where, planned.problem)


def fails_anywhere(place: Place, but: set[str] | None = None) -> list[str]:
    """Has each step fail before and after its effect; what is not kept on purpose is taken back.

    The same command then ends the phase. Returns the steps; those of `but` cannot fail so.
    """
    place.begin()
    start = place.facts()
    whole = place.apply()
    end = place.facts()
    place.ends(whole, end, "whole")
    steps = [str(step) for step in whole.happened("started")]
    for step in steps:
        for moment in ("before", "after"):
            where = f"fail-{moment}:{step}"
            if where in (but or set()):
                continue
            place.begin()
            assert place.facts() == start, where
            failed = place.apply(where)
            verdict = "stopped" if failed.answer["left"] else "aborted"
            assert (failed.verdict, failed.rc) == (verdict, 1), (where, failed.problem)
            kept = failed.happened("kept")
            left = {fact: (end if fact in kept else start)[fact] for fact in start}
            assert place.facts() == left, (where, kept)
            place.ends(place.apply(), end, where)
    return steps


def dies_anywhere(place: Place, cut: bool) -> int:
    """Kills the process after each record; the same command ends what it began. Returns the deaths.

    Where power is `cut`, what was not synced is lost too: steps that were done are done once more.
    """
    place.begin()
    whole = place.apply()
    place.ends(whole, end := place.facts(), "whole")
    for number in range(1, 1000):
        place.begin()
        died = place.apply(f"crash-after:{number}")
        if died.rc != KILLED:
            # It had fewer records.
            place.ends(died, end, f"whole, {number}")
            return number - 1
        if cut:
            lose_what_was_not_synced(journal(place.pillar))
        place.ends(place.apply(), end, f"crash-after:{number}")
    raise AssertionError("it never comes to its end")


def journal(pillar: dict[str, Any]) -> Path:
    """Returns the journal of the latest run."""
    runs = Path(pillar["state_dir"], "runs").glob("*.jsonl")
    return max(runs, key=lambda path: path.stat().st_mtime_ns)


def lose_what_was_not_synced(path: Path) -> None:
    """Cuts a journal behind its last durable record, as a power cut may."""
    lines = path.read_text().splitlines(keepends=True)
    while json.loads(lines[-1])["record"] not in DURABLE:
        lines.pop()
    path.write_text("".join(lines))
