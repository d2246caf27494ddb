"""The page for the worst night, followed by hand: with controller and guard dead, plain SQL is enough."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab import direct, world
from tests.lab.cut import Cut
from tests.lab.loopback import QUARANTINE, Chain
from tests.lab.watch import Watch
from tests.lab.writer import Writer, judge

GENTLE: dict[str, Any] = {"threads": 1, "period": 0.01, "retry": 0.002}


class Person:
    """Somebody with a terminal, a client and the page; no Salt, and nothing of the tool."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.page = Path(chain.pillar()["databases"]["break_glass_file"]).read_text()

    def section(self, number: int) -> str:
        """One numbered part of the page."""
        return re.split(r"(?m)^\d\. ", self.page)[number + 1]

    def server(self, number: int) -> str:
        """The server that a part names."""
        found = re.search(r"On ((?:old|new)-\w+)", self.section(number))
        assert found
        return found[1]

    def type(self, number: int) -> list[dict[str, Any]]:
        """Types the statements of a part, in order, and returns what the last one showed."""
        statements = re.findall(r"(?m)^((?:SET|SELECT|UPDATE) .*);$", self.section(number))
        assert statements
        return self.chain[self.server(number)].run("; ".join(statements))

    def remember(self, number: int) -> None:
        """Types the command for the role at boot, and takes the notice down."""
        (command,) = re.findall(r"(?m)^(printf .*?)   \(on ", self.section(number))
        subprocess.run(["sh", "-c", command], check=True)
        for notice in re.findall(r"rm (/\S+)", self.section(number))[:1]:
            Path(notice).unlink(missing_ok=True)


# The primary that is left, and the one that takes over.
SIDES = {"flip": ("old-db1", "new-db1"), "revert": ("new-db1", "old-db1")}
BOTH = pytest.mark.parametrize("phase", SIDES)


def begins(chain: Chain, phase: str, site: dict[str, Any]) -> None:
    """Brings the site to where a phase begins."""
    if phase == "revert":
        assert direct.run(site, "apply", phase="flip").verdict == "done"
    assert world.writable(chain) == [SIDES[phase][0]]


@pytest.fixture
def stranded(fresh_chain: Chain, phase: str) -> Person:
    """The site with the source fenced and everybody dead, and who has only the page."""
    site = fresh_chain.pillar()
    begins(fresh_chain, phase, site)
    assert direct.run(site, "apply", "panic-after:fence", phase=phase).problem["kind"] == "defect"
    assert world.writable(fresh_chain) == []
    return Person(fresh_chain)


@BOTH
def test_the_page_names_what_is_there(stranded: Person) -> None:
    page = stranded.page
    for account in (stranded.chain.admin, stranded.chain.marker, stranded.chain.replication):
        assert account.password not in page
    for name in ("old-db1", "new-db1"):
        server = stranded.chain[name]
        assert f"{server.address}:{server.port}" in page
    assert "salt-run migrate.abort" in page


@pytest.mark.parametrize("rebooted", [False, True], ids=["fenced", "rebooted meanwhile"])
@BOTH
def test_back_by_hand_and_then_on_with_the_tool(
    stranded: Person, phase: str, rebooted: bool
) -> None:
    chain, source = stranded.chain, SIDES[phase][0]
    if rebooted:
        # It comes back closed, as its role at boot says by then, and apart.
        chain[source].restart()
        assert chain[source].value("SELECT @@global.gtid_domain_id") == QUARANTINE
    with Watch(chain):
        (decided,) = stranded.type(1)
        assert decided["state"] == "unfence"
        (closed,) = stranded.type(2)
        assert list(closed.values()) == [0]
        stranded.remember(2)
        with Writer(chain, **GENTLE) as writer:
            assert world.writable(chain) == [source]
            assert chain[source].value("SELECT @@global.gtid_domain_id") == 0
            # The controller is back: it finds the rest done, or does it, and the site can be moved again.
            assert direct.run(chain.pillar(), "abort").verdict == "aborted"
            chain.settle()
            assert direct.run(chain.pillar(), "apply", phase=phase).verdict == "done"
    verdict = judge(chain, writer.results)
    assert (verdict.lost, verdict.duplicated) == ([], [])


@BOTH
def test_forward_by_hand_where_the_promotion_was_decided(fresh_chain: Chain, phase: str) -> None:
    target = SIDES[phase][1]
    with Cut(fresh_chain, target) as cut, Watch(fresh_chain):
        site = cut.pillar(fresh_chain.pillar())
        begins(fresh_chain, phase, site)
        cut.hold(b"SET state='promote'", reply=True)
        run = direct.Command(site, "apply", phase=phase)
        assert cut.passed.wait(60)
        decided = "SELECT state FROM saltext_migrate.decision ORDER BY opened DESC LIMIT 1"
        deadline = time.monotonic() + 60
        while fresh_chain[target].value(decided) != "promote":
            assert time.monotonic() < deadline
        run.process.send_signal(signal.SIGKILL)
        run.wait()
        # The target is restarted in the middle of it, and comes back closed, as its role at boot still says.
        fresh_chain[target].kill()
        fresh_chain[target].start()
        person = Person(fresh_chain)
        assert [row["state"] for row in person.type(1)] == ["promote"]
        assert world.writable(fresh_chain) == []
        person.type(3)
        person.remember(3)
        assert world.writable(fresh_chain) == [target]
        assert fresh_chain[target].value("SELECT @@global.gtid_domain_id") == 0
        done = direct.run(site, "apply", phase=phase)
        assert done.verdict == "done", done.problem
        fresh_chain.settle()


@pytest.mark.parametrize("late", ["promotion", "fence"])
@BOTH
def test_the_page_decides_against_a_controller_that_comes_late(
    fresh_chain: Chain, phase: str, late: str
) -> None:
    source, target = SIDES[phase]
    words = {"promotion": b"SET state='promote'", "fence": b"SET GLOBAL read_only=1"}[late]
    with Cut(fresh_chain, target if late == "promotion" else source) as cut, Watch(fresh_chain):
        site = cut.pillar(fresh_chain.pillar())
        begins(fresh_chain, phase, site)
        cut.hold(words)
        run = direct.Command(site, "apply", phase=phase)
        assert cut.passed.wait(60)
        person = Person(fresh_chain)
        assert person.type(1)[0]["state"] == "unfence"
        person.type(2)
        cut.release()
        done = run.wait()
        assert done.verdict == "aborted", done.problem
        assert world.writable(fresh_chain) == [source]
