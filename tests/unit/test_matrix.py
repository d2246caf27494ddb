"""The fault matrix runs every row once, in an order that saves beginnings, and says which it did not run."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from tests.chaos.case import FLIP
from tests.chaos.cases import ON_CLOUDS, ON_LOOPBACK
from tests.chaos.matrix import Spread, in_turns, ordered

JOBS = [(case, way) for case in (*ON_LOOPBACK, *ON_CLOUDS) for way in case.directions]


def names(jobs: list[Any]) -> list[tuple[str, str]]:
    return [(case.name, way) for case, way in jobs]


def test_no_row_is_left_out_and_none_has_the_name_of_another() -> None:
    assert len(set(names(JOBS))) == len(JOBS)
    assert sorted(names(in_turns(ordered(JOBS)))) == sorted(names(JOBS))


def test_a_row_begins_where_the_one_before_it_ended_as_long_as_there_is_such_a_row() -> None:
    jobs = in_turns(ordered(JOBS))
    last = max(index for index, (_, way) in enumerate(jobs) if way == FLIP)
    for (case, way), (_, following) in pairwise(jobs[:last]):
        stands_new = way == FLIP and not case.soils
        assert (following == FLIP) != stands_new


def test_rows_of_a_bench_that_does_not_come_up_stay_and_no_process_does() -> None:
    rows: list[Any] = []
    waiting = {"nowhere": JOBS[:5]}
    spread = Spread(waiting, {"nowhere": 2}, time.monotonic() + 60)
    lanes = list(spread.lanes)
    spread.run(rows.append)
    assert rows == []
    assert sorted(names(waiting["nowhere"])) == sorted(names(JOBS[:5]))
    assert all(lane.process.returncode is not None for lane in lanes)
