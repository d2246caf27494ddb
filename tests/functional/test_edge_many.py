"""Forty services of forty objects each: all of them or none, in as many writes as were foretold."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.lab import direct, world
from tests.lab.cut import Cut
from tests.lab.direct import Done
from tests.lab.edge import samples
from tests.lab.edge.standin import Edge
from tests.lab.loopback import Chain

SERVICES = [f"s{number:02}" for number in range(40)]
OLD, NEW = "127.0.0.13", "127.0.0.23"
READS = {"GET", "HEAD"}


class Many:
    """The services, and the pillar that switches them."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        with ThreadPoolExecutor(8) as pool:
            made = pool.map(self._make, SERVICES)
            self.ids = dict(zip(SERVICES, made, strict=True))
        self.chain: Chain
        self.pillar: dict[str, Any] = {}

    def _make(self, name: str) -> str:
        # Nothing answers there: the version is told by the edge, not by the origin.
        return samples.of_size(self.edge, name, f"{name}.example.org", OLD, 9, 40)

    def before(self, chain: Chain) -> Many:
        self.chain = chain
        self.pillar = chain.pillar()
        services = {
            name: {
                "id": ident,
                "purge": "all",
                "probe": {"url": f"http://{name}.example.org/", "addresses": self.edge.pops},
            }
            for name, ident in self.ids.items()
        }
        self.pillar["edge"] = {"token": self.edge.token, "api": self.edge.api,
                               "services": services,
                               "deadlines": {"request": 60_000, "proof": 60_000}}  # fmt: skip
        self.edge.clear_log()
        return self

    def apply(self, phase: str) -> Done:
        return direct.run(self.pillar, "apply", phase=phase, timeout=180)

    def active(self) -> dict[str, int]:
        ask = self.edge.must
        return {
            name: ask("GET", f"/service/{ident}/version/active")["number"]
            for name, ident in self.ids.items()
        }

    def points_to(self) -> set[str]:
        found = set()
        for ident in self.ids.values():
            listed = self.edge.must("GET", f"/service/{ident}/version/active/backend")
            found |= {item["address"] for item in listed}
        return found

    def writes(self) -> list[dict[str, Any]]:
        return [entry for entry in self.edge.log() if entry["method"] not in READS]

    def foretold(self, phase: str) -> tuple[int, int]:
        """How many writes the plan foretells, and how many it keeps."""
        planned = direct.run(self.pillar, "plan", phase=phase)
        assert planned.rc == 0, planned.problem
        assert not planned.answer["refused"], planned.answer["findings"]
        assert self.writes() == []
        said = re.search(r"needs (\d+) writes, .*?, (\d+) kept", str(planned.answer["findings"]))
        assert said
        return int(said[1]), int(said[2])


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge(delay="none", spread=(0, 150), quota=10000) as running:
        yield running


@pytest.fixture(scope="module")
def services(edge: Edge) -> Many:
    return Many(edge)


@pytest.fixture
def many(services: Many, fresh_chain: Chain) -> Iterator[Many]:
    yield services.before(fresh_chain)
    services.edge.clear_faults()
    services.edge.settings(delay="none", remaining=10000)


def test_forty_services_go_over_and_back_in_the_writes_that_were_foretold(
    many: Many, record_property: pytest.FixtureRequest
) -> None:
    before = many.active()
    for phase, address in (("flip", NEW), ("revert", OLD)):
        needed, kept = many.foretold(phase)
        assert (needed, kept) == (40 * (3 + 2) + 40 * 2, 40 * 2)
        # As slow as the real one, once.
        many.edge.settings(delay="recorded" if phase == "flip" else "none")
        began = time.monotonic()
        done = many.apply(phase)
        took = time.monotonic() - began
        many.edge.settings(delay="none")
        assert done.verdict == "done", done.problem
        assert many.points_to() == {address}
        writes = many.writes()
        # The one that asks for the budget counts, too.
        assert len(writes) <= needed
        assert {entry["status"] for entry in writes} == {200}
        activations = [entry for entry in writes if entry["path"].endswith("/activate")]
        assert len(activations) == 40
        times = [entry["t_monotonic"] for entry in activations]
        calls = Counter(entry["method"] for entry in many.edge.log())
        told = (f"{phase}: {took:.1f} s in all, activations within {max(times) - min(times):.2f} s, "
                f"{len(writes)} writes of {needed} foretold, calls {dict(calls)}")  # fmt: skip
        print(told)
        record_property(phase, told)
        many.edge.clear_log()
    assert all(number == before[name] + 2 for name, number in many.active().items())


def test_writes_of_one_service_never_overlap_and_those_of_many_do(many: Many) -> None:
    many.edge.settings(delay="recorded")
    done = direct.run(many.pillar, "edge.apply", phase="stage", timeout=120)
    assert done.verdict == "done", done.problem
    by_service: dict[str, list[float]] = {}
    for entry in many.writes():
        by_service.setdefault(entry["service"], []).append(entry["t_monotonic"])
    assert len(by_service) == 40
    for times in by_service.values():
        # The fastest of these takes a quarter of a second.
        assert all(later - sooner > 0.2 for sooner, later in zip(times, times[1:], strict=False))
    began = sorted(by_service.values())
    # One after the other the first would have been over before the next began.
    assert began[7][0] < began[0][-1]


def test_where_one_of_forty_does_not_switch_all_stay(many: Many) -> None:
    before, world_before = many.active(), world.look(many.chain)
    many.edge.fault("answer", method="PUT", status=500, times=1,
                    path=f"/service/{many.ids['s23']}/version/.*/activate")  # fmt: skip
    done = many.apply("flip")
    assert done.verdict == "aborted", done.problem
    assert many.active() == before
    assert many.points_to() == {OLD}
    assert world.look(many.chain) == world_before
    assert "fence" not in done.happened("started")


def test_a_service_that_somebody_edits_meanwhile_is_left_alone_and_named(many: Many) -> None:
    before = many.active()
    ident = many.ids["s11"]
    with Cut(many.chain, "new-db1") as cut:
        # The flip stands still between the staging and the window.
        cut.hold(b"INTO saltext_migrate.decision")
        command = direct.Command(cut.pillar(many.pillar), "apply", phase="flip")
        command.until("done", "edge.budget")
        assert cut.passed.wait(60)
        foreign = many.edge.point_backend(ident, "app2", weight=7)
        many.edge.activate(ident, foreign)
        cut.release()
        done = command.wait(120)
    assert done.verdict == "aborted", done.problem
    assert done.problem["kind"] == "drift"
    assert "s11" in done.problem["message"]
    assert many.active() == before | {"s11": foreign}
    theirs = [entry for entry in many.writes() if entry["service"] == ident]
    # What they did themselves is the last that was done there.
    assert theirs[-1]["path"].endswith(f"/{foreign}/activate")


def test_a_flip_that_has_not_writes_enough_is_refused_before_anybody_is_bothered(
    many: Many,
) -> None:
    many.pillar["edge"]["writes_per_hour"] = 100
    done = many.apply("flip")
    assert done.problem["kind"] == "refused"
    assert re.search(r"needs \d+ writes.* kept for the way back", done.problem["message"])
    assert many.writes() == []


def test_what_the_last_run_saw_of_the_budget_is_in_the_next_plan(many: Many) -> None:
    many.edge.settings(remaining=10000)
    done = many.apply("flip")
    assert done.verdict == "done", done.problem
    left = 10000 - len(many.writes())
    many.edge.clear_log()
    planned = direct.run(many.pillar, "plan", phase="revert")
    foretold = f"needs 280 writes, {left} left this hour, 80 kept for the way back"
    assert foretold in str(planned.answer["findings"])
    assert many.writes() == []
