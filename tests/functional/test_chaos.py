"""The most telling rows of the fault matrix; `make chaos` runs all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.chaos import runner
from tests.chaos.case import FLIP, REVERT, Case
from tests.chaos.cases import ON_LOOPBACK, STEPS
from tests.chaos.loopback import Loopback
from tests.chaos.matrix import in_turns

# Each begins where the one before it ended, where that can be.
FAST = [case for case, _ in in_turns((case, case.fast) for case in ON_LOOPBACK if case.fast)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed")
    with Loopback(tmp_path_factory.mktemp("bench")) as running:
        yield running


@pytest.mark.parametrize("direction", [FLIP, REVERT])
def test_every_step_that_is_shown_as_it_starts_is_among_those_with_signals(
    bench: Loopback, direction: str
) -> None:
    bench.fresh(direction, {})
    planned = bench.run("plan", phase=direction).answer["changes"]
    source, target = bench.sides
    named = {step.format(source=source, target=target) for step in STEPS}
    # Told behind the commit, and struck on the wire; or left by an earlier run. One service stands for the other.
    apart = {
        "fence",
        "promotion",
        f"domain.{target}-db1",
        *(f"tables.{side}-db1" for side in bench.sides),
    }
    steps = {change["step"] for change in planned}
    assert {step for step in steps if not step.startswith("edge.blog")} - apart <= named
    bench.left(source)


@pytest.mark.parametrize("case", FAST, ids=lambda case: f"{case.fast}: {case.name}")
def test_whatever_fails_nothing_is_lost_and_nobody_stays_fenced_in_silence(
    bench: Loopback, case: Case
) -> None:
    if any(one.kind == "small_disk" for one in case.breaks) and os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    row = runner.carry(bench, case, case.fast)
    assert row["problems"] == [], row
