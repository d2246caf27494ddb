"""The three generic tests of `test` and `cleanup`: set twice, fail anywhere, die anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_compare import running
from tests.lab import direct, sabotage
from tests.lab.edge.standin import Edge
from tests.lab.loopback import Chain
from tests.lab.sabotage import Facts, Place
from tests.lab.twosides import SIDES, TwoSides

__all__ = ["running"]

OPENED = ("relay", "new-db2")


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge(
        ("127.0.1.1:0",), delay="none", spread=(0,), unrunnable="hollow", quota=1000000
    ) as up:
        yield up


class Copied(Place):
    """A chain, and one CDN service that the test copies."""

    def __init__(self, chain: Chain, edge: Edge) -> None:
        self.chain, self.edge = chain, edge
        self.pillar: dict[str, Any] = chain.pillar()
        backend = {"name": "app1", "address": self.pillar["nodes"]["old"]["app1"]["private"]}
        self.service = edge.create_service("docs", ["docs.example.org"], [backend])
        copy = {"name": "docs-copy", "domains": ["docs-copy.example.org"]}
        self.pillar["edge"] = {
            "token": edge.token,
            "api": edge.api,
            "services": {"docs": {"id": self.service, "copy": copy}},
        }

    def copies(self) -> list[tuple[str, Any]]:
        """The copies, and the version that each serves."""
        found = self.edge.must("GET", "/service?per_page=100")
        return [(one["name"], one["version"]) for one in found if one["id"] != self.service]

    def remove(self, but: str = "") -> None:
        """Takes services out of the account."""
        for one in self.edge.must("GET", "/service?per_page=100"):
            if one["id"] != but:
                self.edge.ask("PUT", f"/service/{one['id']}/version/active/deactivate")
                self.edge.must("DELETE", f"/service/{one['id']}")


class Mirror(Copied):
    """The new side before the test: two of its servers open, and nobody told."""

    phase = "test"

    def __init__(self, chain: Chain, edge: Edge, sides: TwoSides) -> None:
        super().__init__(chain, edge)
        self.pillar |= sides.pillar(paths={}) | {"test": {}}
        for side, address in SIDES.items():
            self.pillar["nodes"][side]["app1"]["public"] = address

    def begin(self) -> None:
        for name in OPENED:
            self.chain[name].run("SET GLOBAL read_only=0")
        self.chain.notice_path("new").unlink(missing_ok=True)
        shutil.rmtree(self.pillar["state_dir"], ignore_errors=True)
        self.remove(but=self.service)

    def facts(self) -> Facts:
        closed = "SELECT @@global.read_only"
        notice = self.chain.notice_path("new")
        return {
            "read-only.new-relay": self.chain["relay"].value(closed),
            "read-only.new-db1": self.chain["new-db1"].value(closed),
            "read-only.new-db2": self.chain["new-db2"].value(closed),
            "notice.new": notice.read_text() if notice.exists() else None,
            "edge.docs.copy": self.copies(),
            "compared": Path(self.pillar["state_dir"], "proofs", "comparison.json").exists(),
        }


class Farewell(Copied):
    """A site that was flipped, and the way back given up."""

    phase = "cleanup"

    def __init__(self, chain: Chain, edge: Edge) -> None:
        super().__init__(chain, edge)
        assert direct.run(self.pillar, "apply", phase="flip").verdict == "done"
        self.pillar["cleanup"] = {
            "soak_hours": 0,
            "give_up_revert": "there is no way back",
            "database_users": ["migrate_tool"],
        }

    def begin(self) -> None:
        state = Path(self.pillar["state_dir"])
        for path in (state / "runs").glob("cleanup-*"):
            path.unlink()
        shutil.rmtree(state / "proofs", ignore_errors=True)
        self.chain.new.run("CREATE USER IF NOT EXISTS migrate_tool@'10.%', migrate_tool@localhost")
        if not self.chain.old.channels():
            self.chain.replicate(self.chain.old, self.chain.new)
        self.chain.wait_replicating(replicas=["old-db1"])
        if not self.copies():
            assert direct.run(self.pillar, "edge.apply", phase="copy").verdict == "done"

    def facts(self) -> Facts:
        users = "SELECT Host FROM mysql.user WHERE User='migrate_tool' ORDER BY Host"
        return {
            "reverse-replication.old-db1": [c["Master_Host"] for c in self.chain.old.channels()],
            "database-user.migrate_tool": [row["Host"] for row in self.chain.new.run(users)],
            "edge.docs.no-copy": self.copies(),
        }


@pytest.fixture
def mirror(fresh_chain: Chain, edge: Edge, running: TwoSides) -> Iterator[Place]:
    place = Mirror(fresh_chain, edge, running)
    yield place
    place.remove()


@pytest.fixture
def farewell(fresh_chain: Chain, edge: Edge) -> Iterator[Place]:
    place = Farewell(fresh_chain, edge)
    yield place
    place.remove()


@pytest.fixture(params=["mirror", "farewell"], ids=["test", "cleanup"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def test_a_step_that_fails_before_or_after_its_effect_is_taken_back_or_kept_on_purpose(
    place: Place,
) -> None:
    steps = set(sabotage.fails_anywhere(place))
    changed = place.facts().keys() - {"read-only.new-db1"}
    assert changed <= steps


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
def test_a_process_killed_after_any_record_is_finished_by_the_same_command(
    place: Place, cut: bool
) -> None:
    # Each step has two records; with the cut each that was done is done twice.
    assert sabotage.dies_anywhere(place, cut) >= 2 * len(place.facts())
