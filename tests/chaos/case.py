"""Owns the form of a case: what is broken, when, how it is healed, and where it may end.

A place is named by its part in the transfer: `source` is the primary that is left, `target` the one that takes
over, so that one case tells of a flip and of a revert alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FLIP, REVERT = "flip", "revert"
# How a transfer that reached its end is called.
ENDS = {FLIP: "flipped", REVERT: "reverted"}
# The words of an expectation: `over` is flipped or reverted, whichever was asked for.
OVER, ABORTED, STOPPED = "over", "aborted", "stopped"

# Kinds of breaks that leave more behind than a transfer does: transactions, tables, accounts, settings, a lost journal.
SOILING = frozenset({"errant", "beside", "sql", "prepared", "session", "small_disk", "clock"})


@dataclass(frozen=True)
class Break:
    """One thing that is broken; `kind` names a function of the bench's faults, `at` a moment.

    Moments: `before` the run; `held:fence`, `held:fenced`, `held:promotion`, `held:promoted` (the statement, or the
    answer to it, waits on the wire while it breaks); `started:STEP`, `done:STEP` (the run goes on meanwhile);
    `undoing` (the run goes back); `after` it.
    """

    kind: str
    at: str = "before"
    heal: float | None = None  # seconds after which it is mended; None: once the run has ended
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One row of the matrix."""

    name: str
    breaks: tuple[Break, ...]
    ends: frozenset[str]
    directions: tuple[str, ...] = (FLIP, REVERT)
    pillar: dict[str, Any] = field(default_factory=dict)  # merged into the pillar
    drill: str | None = None
    # What the fault itself does to people, whatever the tool does: `readers`, `editors`.
    harms: frozenset[str] = frozenset()
    # The target cannot be reached while it lasts, so the fence may outlive its deadline.
    unreachable: bool = False
    # Whoever may pass a fence wrote past it: detected and said, for it cannot be prevented.
    leaks: bool = False
    # The direction in which it is part of `make test`.
    fast: str = ""
    bench: str = "loopback"

    @property
    def soils(self) -> bool:
        """Whether the next case cannot begin where this one ends."""
        return self.leaks or any(one.kind in SOILING for one in self.breaks)


def ends(*words: str) -> frozenset[str]:
    """Names where a case may end."""
    return frozenset(words)
