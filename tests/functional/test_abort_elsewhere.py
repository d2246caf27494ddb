"""The controller is gone with its journal: from any machine with the wheel and the pillar a run is taken back."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import direct, world
from tests.lab.cut import Cut
from tests.lab.loopback import Chain
from tests.lab.mariadb import MariaDB
from tests.lab.watch import Watch
from tests.lab.writer import Writer, judge

GENTLE: dict[str, Any] = {"threads": 1, "period": 0.01, "retry": 0.002}
PROMOTE = b"SET state='promote'"


class Site:
    """A chain whose controller dies, and takes its disk with it."""

    def __init__(self, chain: Chain, wire: Cut) -> None:
        self.chain, self.wire = chain, wire
        self.pillar = wire.pillar(chain.pillar())
        self.pillar["databases"]["deadlines"] |= {"connect": 1500, "abort": 4000}

    def dies(self, phase: str, drill: str) -> None:
        direct.run(self.pillar, "apply", drill, phase=phase)
        self.forget()

    def forget(self) -> None:
        """Another machine: nothing of what the controller wrote is there."""
        shutil.rmtree(self.chain.state / "migrate")

    def abort(self) -> direct.Done:
        return direct.run(self.pillar, "abort")


@pytest.fixture
def site(fresh_chain: Chain) -> Iterator[Site]:
    """The site under a watch and a writer; afterwards nothing may be lost, doubled or apart."""
    with contextlib.ExitStack() as wires:
        site = Site(fresh_chain, wires.enter_context(Cut(fresh_chain, "new-db1")))
        with Watch(fresh_chain), Writer(fresh_chain, **GENTLE) as writer:
            yield site
        verdict = judge(fresh_chain, writer.results)
        assert (verdict.lost, verdict.duplicated) == ([], [])
        fresh_chain.settle()
        assert len(set(fresh_chain.checksums().values())) == 1


@pytest.mark.parametrize("drill", ["panic-after:chain-timed", "panic-after:fence"])
@pytest.mark.parametrize("phase", ["flip", "revert"])
def test_a_run_before_its_commit_point_is_taken_back(site: Site, phase: str, drill: str) -> None:
    serving = "old-db1"
    if phase == "revert":
        assert direct.run(site.pillar, "apply", phase="flip").verdict == "done"
        serving = "new-db1"
    site.dies(phase, drill)
    taken = site.abort()
    assert taken.verdict == "done", taken.problem
    assert world.writable(site.chain) == [serving]
    back = "revert" if phase == "flip" else "flip"
    # As after the phase of the side that serves: nothing of the other is left.
    assert direct.run(site.pillar, "plan", phase=back).answer["changes"] == []
    assert direct.run(site.pillar, "status").answer["alarms"] == []
    assert site.abort().verdict == "unchanged"
    assert direct.run(site.pillar, "apply", phase=phase).verdict == "done"


def test_a_promotion_that_is_still_on_its_way_finds_the_row_taken(site: Site) -> None:
    site.wire.hold(PROMOTE)
    run = direct.Command(site.pillar, "apply", phase="flip")
    assert site.wire.passed.wait(60)
    run.process.send_signal(signal.SIGKILL)
    run.wait()
    site.forget()
    assert site.abort().verdict == "done"
    site.wire.release()
    site.chain.settle()
    assert world.writable(site.chain) == ["old-db1"]


def test_a_promotion_that_won_is_finished(site: Site) -> None:
    site.wire.hold(PROMOTE, reply=True)
    run = direct.Command(site.pillar, "apply", phase="flip")
    assert site.wire.passed.wait(60)
    # It is on its way then, and has won only once the server carried it out.
    deadline = time.monotonic() + 60
    while "new-db1" not in world.writable(site.chain):
        assert time.monotonic() < deadline
    run.process.send_signal(signal.SIGKILL)
    run.wait()
    site.wire.release()
    # It restarts, and comes back closed, as its role at boot still says.
    site.chain.new.restart()
    site.chain.wait_replicating()
    assert world.writable(site.chain) == []
    site.forget()
    taken = site.abort()
    assert taken.verdict == "done", taken.problem
    assert world.writable(site.chain) == ["new-db1"]
    assert direct.run(site.pillar, "plan", phase="flip").answer["changes"] == []


def test_a_promotion_that_won_is_finished_where_the_target_was_fenced_by_a_run_before(
    site: Site,
) -> None:
    """The row of the fence of that run, long over, stands on the target still."""
    new = site.chain.new
    for phase in ("flip", "revert"):
        assert direct.run(site.pillar, "apply", phase=phase).verdict == "done"
    site.dies("flip", "fail-before:role-at-boot.new-db1")
    new.restart()
    assert (world.writable(site.chain), _domain(new)) == ([], 99)
    taken = site.abort()
    assert taken.verdict == "done", taken.problem
    assert world.writable(site.chain) == ["new-db1"]
    # Not where it rested, closed: there nobody looks at what is written.
    assert _domain(new) == 0
    assert direct.run(site.pillar, "plan", phase="flip").answer["changes"] == []


def test_a_source_that_rebooted_writes_where_the_site_writes(site: Site) -> None:
    """It booted closed, apart, as its role at boot said by then."""
    old = site.chain.old
    site.dies("flip", "panic-after:notice.old")
    old.restart()
    assert (world.writable(site.chain), _domain(old)) == ([], 99)
    taken = site.abort()
    assert taken.verdict == "done", taken.problem
    assert world.writable(site.chain) == ["old-db1"]
    assert _domain(old) == 0
    # So that work of an administrator on the fenced source stands in nobody's way.
    assert direct.run(site.pillar, "apply", phase="flip").verdict == "done"
    old.run("FLUSH TABLES")
    reverted = direct.run(site.pillar, "apply", phase="revert")
    assert reverted.verdict == "done", reverted.problem


def _domain(server: MariaDB) -> int:
    return int(server.value("SELECT @@global.gtid_domain_id"))


def test_another_machine_is_told_of_a_run_that_goes_on(site: Site, tmp_path: Path) -> None:
    """Two controllers share no lock."""
    site.wire.hold(PROMOTE)
    # How long a statement of the flip may be without an answer goes by it: others look on meanwhile.
    site.pillar["databases"]["deadlines"]["catch_up"] = 60_000
    run = direct.Command(site.pillar, "apply", phase="flip")
    assert site.wire.passed.wait(60)
    beside = site.pillar | {"state_dir": str(tmp_path)}
    other = direct.run(beside, "apply", phase="flip")
    assert other.problem["kind"] == "refused"
    assert "of another machine began" in other.problem["message"]
    planned = direct.run(beside, "plan", phase="flip").answer["findings"]
    (told,) = [finding for finding in planned if finding["topic"] == "others"]
    time.sleep(1.1)
    # Who knows better can say so, however long he thinks about it.
    later = direct.run(beside, "plan", phase="flip").answer["findings"]
    assert [f["id"] for f in later if f["topic"] == "others"] == [told["id"]]
    assert told["forceable"]
    assert not (tmp_path / "runs").exists()
    site.wire.release()
    assert run.wait().verdict == "done"
    assert direct.run(beside, "apply", phase="flip").verdict == "unchanged"


def test_where_a_primary_does_not_answer_nothing_is_touched(site: Site) -> None:
    site.dies("flip", "panic-after:fence")
    site.chain.new.kill()
    taken = site.abort()
    assert taken.problem["kind"] == "undecided"
    assert "new-db1" in taken.problem["message"]
    assert world.writable(site.chain) == []
    site.chain.new.start()
    site.chain.wait_replicating()
    assert site.abort().verdict == "done"
    assert world.writable(site.chain) == ["old-db1"]


def test_a_run_that_is_over_is_left_alone(site: Site) -> None:
    # Its row may stand open for ever: no promotion was ever sent.
    assert (
        direct.run(site.pillar, "apply", "fail-before:guard-ready", phase="flip").verdict
        == "aborted"
    )
    before = world.look(site.chain)
    assert site.abort().verdict == "unchanged"
    assert world.look(site.chain) == before
    assert direct.run(site.pillar, "apply", phase="flip").verdict == "done"
    site.forget()
    assert site.abort().verdict == "unchanged"
    assert world.writable(site.chain) == ["new-db1"]
