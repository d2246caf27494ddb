"""The one row that decides: whatever is lost, late or dead, there is never a second writable primary."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import direct, sabotage, world
from tests.lab.cut import Cut
from tests.lab.direct import Done
from tests.lab.loopback import Chain
from tests.lab.mariadb import MariaDB
from tests.lab.watch import Watch
from tests.lab.writer import Writer, judge

FENCE, PROMOTE, DECIDE, LIFT = "FENCE", "PROMOTE", "DECIDE", "LIFT"
# Where each statement goes.
SERVER = {FENCE: "old-db1", PROMOTE: "new-db1", DECIDE: "new-db1", LIFT: "old-db1"}
NAMES = {FENCE: "fence", PROMOTE: "promotion", DECIDE: "decision to go back", LIFT: "unfence"}
KINDS = pytest.mark.parametrize("site", ["MariaDB", "MySQL"], indirect=True)
GENTLE: dict[str, Any] = {"threads": 1, "period": 0.01, "retry": 0.002}


class Site:
    """A chain with one wire that the test holds."""

    def __init__(self, chain: Chain, wires: contextlib.ExitStack) -> None:
        self.chain, self._wires = chain, wires
        self.pillar = chain.pillar()

    def words(self, statement: str) -> bytes:
        """What of a statement is seen on the wire."""
        words: bytes = getattr(self.chain.old, statement)
        return words

    def wire(self, statement: str, **deadlines: int) -> Cut:
        """Puts a forwarder before the server to which a statement goes."""
        cut = self._wires.enter_context(Cut(self.chain, SERVER[statement]))
        self.pillar = cut.pillar(self.pillar)
        self.pillar["databases"]["deadlines"] |= {"abort": 8000, **deadlines}
        return cut

    def guarded(self, run: direct.Command) -> direct.Command:
        """Starts the guard of a run: one that is there earlier may act before the run is where the test wants it."""
        guard = direct.Command(self.pillar, "guard", phase="flip", process=run.process.pid)
        guard.until("guarding")
        return guard

    def decided(self) -> str:
        """How the last run was decided, as its target's row says."""
        sql = "SELECT state FROM saltext_migrate.decision ORDER BY opened DESC LIMIT 1"
        return str(self.chain.new.value(sql))

    def run(self, command: str, drill: str | None = None, **arguments: Any) -> Done:
        return direct.run(self.pillar, command, drill, timeout=90, **arguments)


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The site under a watch and a writer; afterwards nothing may be lost, doubled or apart."""
    kind = getattr(request, "param", "MariaDB")
    chain = request.getfixturevalue("mysql" if kind == "MySQL" else "fresh_chain")
    with contextlib.ExitStack() as wires:
        site = Site(chain, wires)
        with Watch(chain), Writer(chain, **GENTLE) as writer:
            yield site
        verdict = judge(chain, writer.results)
        assert (verdict.lost, verdict.duplicated) == ([], [])
        chain.settle()
        assert len(set(chain.checksums().values())) == 1


def test_nothing_is_shown_while_people_wait_and_everything_after(site: Site) -> None:
    cut = site.wire(PROMOTE)
    cut.hold(site.words(PROMOTE))
    flip = direct.Command(site.pillar, "apply", phase="flip")
    reader = threading.Thread(target=flip.until, args=("committed",))
    reader.start()
    assert cut.passed.wait(60)
    deadline = time.monotonic() + 60
    while ("started", "caught-up") not in [
        (event["happening"], event["step"]) for event in flip._seen
    ]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    released = time.time()
    cut.release()
    reader.join(60)
    done = flip.wait()
    assert done.verdict == "done", done.problem
    times = {(event["happening"], event["step"]): event for event in done.events}
    assert times["started", "caught-up"]["shown"] < released
    for event in (times["done", "caught-up"], times["started", "fence"], times["done", "fence"]):
        assert event["at"] < released < event["shown"]


@pytest.mark.parametrize("reply", [False, True], ids=["it is late", "its answer is late"])
@pytest.mark.parametrize("statement", [FENCE, PROMOTE], ids=NAMES.get)
@pytest.mark.parametrize("fate", ["wakes up", "is dead"])
@KINDS
def test_a_controller_that_is_overruled_harms_nobody(
    site: Site, statement: str, reply: bool, fate: str
) -> None:
    # The guard acts on a fence that outlives its time, or on the death of the process.
    window = 600 if fate == "wakes up" else 60_000
    cut = site.wire(statement, window=window, catch_up=60_000)
    cut.hold(site.words(statement), reply=reply)
    run = direct.Command(site.pillar, "apply", phase="flip")
    assert cut.passed.wait(60), "the statement was sent"
    promoted = statement == PROMOTE and reply
    deadline = time.monotonic() + 60
    while promoted and "new-db1" not in world.writable(site.chain):
        assert time.monotonic() < deadline
    guard = site.guarded(run)
    if fate == "is dead":
        run.process.send_signal(signal.SIGKILL)
    # Over one that hangs it stays.
    guarded = (
        guard.until("finished")["detail"]["verdict"]
        if fate == "wakes up"
        else guard.wait(60).verdict
    )
    assert site.decided() == ("promote" if promoted else "unfence")
    assert world.writable(site.chain) == ["new-db1" if promoted else "old-db1"]
    cut.release()
    done = run.wait(60)
    if fate == "wakes up":
        assert guard.wait(60).verdict == guarded
    if promoted:
        assert guarded == ("stopped" if fate == "wakes up" else "done")
        assert fate == "is dead" or done.verdict == "done", done.problem
    else:
        assert guarded == "aborted"
        assert fate == "is dead" or done.verdict == "aborted", done.problem
    # What was late has arrived by now.
    assert world.writable(site.chain) == ["new-db1" if promoted else "old-db1"]
    assert site.run("abort").verdict in ("unchanged", "aborted", "done")
    again = site.run("apply", phase="flip")
    assert again.verdict in ("done", "unchanged"), again.problem
    assert site.run("status").answer["alarms"] == []


@pytest.mark.parametrize("reply", [False, True], ids=["before it", "before its answer"])
@KINDS
def test_a_guard_that_pauses_as_it_decides_harms_nobody(site: Site, reply: bool) -> None:
    """The run that it takes for dead goes on meanwhile: one of them wins, and both know."""
    source = site.wire(FENCE)
    target = site.wire(DECIDE, window=600, catch_up=60_000)
    source.hold(site.words(FENCE), reply=True)
    target.hold(site.words(DECIDE), reply=reply)
    run = direct.Command(site.pillar, "apply", phase="flip")
    assert source.passed.wait(60)
    guard = site.guarded(run)
    assert target.passed.wait(60)
    source.release()
    done = run.wait(60)
    assert done.verdict == ("aborted" if reply else "done"), done.problem
    serving = ["old-db1" if reply else "new-db1"]
    assert world.writable(site.chain) == serving
    target.release()
    guarded = guard.wait(60)
    assert guarded.verdict == ("aborted" if reply else "stopped"), guarded.problem
    assert site.decided() == ("unfence" if reply else "promote")
    assert world.writable(site.chain) == serving
    assert site.run("status").answer["alarms"] == []


@pytest.mark.parametrize("reply", [False, True], ids=["before it", "before its answer"])
@KINDS
def test_a_guard_that_pauses_as_it_opens_opens_nothing_that_was_fenced_since(
    site: Site, reply: bool
) -> None:
    """It decided, and sleeps over it until the next run has the source fenced."""
    source = site.wire(LIFT)
    target = site.wire(PROMOTE, window=600, catch_up=60_000)
    target.hold(site.words(PROMOTE))
    source.hold(site.words(LIFT), reply=reply)
    run = direct.Command(site.pillar, "apply", phase="flip")
    assert target.passed.wait(60)
    guard = site.guarded(run)
    assert source.passed.wait(60)
    target.release()
    assert run.wait(60).verdict == "aborted"
    assert world.writable(site.chain) == ["old-db1"]
    target.hold(site.words(PROMOTE))
    again = direct.Command(site.pillar, "apply", phase="flip")
    assert target.passed.wait(60)
    assert world.writable(site.chain) == []
    source.release()
    assert guard.wait(60).verdict in ("aborted", "stopped")
    assert world.writable(site.chain) == []
    target.release()
    assert again.wait(60).verdict == "done"
    assert world.writable(site.chain) == ["new-db1"]


@pytest.mark.parametrize("reply", [False, True], ids=["it is lost", "its answer is lost"])
@KINDS
@pytest.mark.parametrize("statement", [FENCE, PROMOTE], ids=NAMES.get)
def test_what_is_lost_on_the_way_there_is_found_out_and_not_guessed(
    site: Site, statement: str, reply: bool
) -> None:
    cut = site.wire(statement)
    before = world.look(site.chain)
    cut.at(site.words(statement), reply=reply)
    done = site.run("apply", phase="flip")
    assert cut.cuts == 1
    if statement == PROMOTE and reply:
        assert done.verdict == "done", done.problem
        assert site.decided() == "promote"
        return
    assert done.verdict == "aborted", done.problem
    assert site.decided() == "unfence"
    assert world.look(site.chain) == before


@pytest.mark.parametrize("reply", [False, True], ids=["it is lost", "its answer is lost"])
@pytest.mark.parametrize("statement", [DECIDE, LIFT], ids=NAMES.get)
def test_what_is_lost_on_the_way_back_is_done_again(
    site: Site, statement: str, reply: bool
) -> None:
    cut = site.wire(statement)
    before = world.look(site.chain)
    cut.at(site.words(statement), reply=reply)
    done = site.run("apply", "fail-before:promotion", phase="flip")
    assert cut.cuts == 1
    assert done.verdict == "aborted", done.problem
    assert site.decided() == "unfence"
    assert world.look(site.chain) == before


def _cut_off(server: MariaDB, process: int) -> None:
    """Ends the connections that a process has to a server."""
    sockets = subprocess.run(["ss", "-Htnp"], check=True, capture_output=True, text=True).stdout
    mine = {line.split()[3] for line in sockets.splitlines() if f"pid={process}," in line}
    for row in server.run("SELECT ID, HOST FROM information_schema.PROCESSLIST"):
        if row["HOST"] in mine:
            server.run(f"KILL {row['ID']}")


def test_a_guard_that_cannot_ask_for_a_moment_opens_nothing_without_the_decision(
    site: Site,
) -> None:
    """What it knows of a run that still lives is what was written a moment ago, and proves nothing."""
    cut = site.wire(FENCE, window=600)
    cut.hold(site.words(FENCE), reply=True)
    run = direct.Command(site.pillar, "apply", phase="flip")
    guard = direct.Command(site.pillar, "guard", phase="flip", process=run.process.pid)
    guard.until("guarding")
    assert cut.passed.wait(60)
    _cut_off(site.chain.new, guard.process.pid)
    assert guard.until("finished")["detail"]["verdict"] == "aborted"
    assert site.decided() == "unfence"
    cut.release()
    assert run.wait().verdict == "aborted"
    guarded = guard.wait()
    assert guarded.verdict == "aborted", guarded.problem
    assert world.writable(site.chain) == ["old-db1"]


def test_a_guard_finishes_what_it_took_back_once_the_process_is_gone(site: Site) -> None:
    """And the fence that was on its way all the time does nothing."""
    cut = site.wire(FENCE, window=600)
    cut.hold(site.words(FENCE))
    run = direct.Command(site.pillar, "apply", phase="flip")
    guard = direct.Command(site.pillar, "guard", phase="flip", process=run.process.pid)
    guard.until("guarding")
    assert cut.passed.wait(60)
    run.process.send_signal(signal.SIGSTOP)
    assert guard.until("finished")["detail"]["verdict"] == "aborted"
    cut.release()
    # Longer than the window, and than it takes to look.
    time.sleep(1.5)
    assert world.writable(site.chain) == ["old-db1"]
    assert site.run("status").answer["last_run"]["finished"] is None
    run.process.kill()
    run.wait()
    guarded = guard.wait()
    assert guarded.verdict == "aborted", guarded.problem
    assert site.run("status").answer["last_run"]["finished"] == "aborted"


def test_a_guard_takes_back_whatever_run_its_process_was_at_work_on(site: Site) -> None:
    """A revert first ends the flip that died before it."""
    assert site.run("apply", "panic-after:fence", phase="flip").problem["kind"] == "defect"
    records = len(sabotage.journal(site.pillar).read_text().splitlines())
    dies = f"crash-after:{records + 1}"
    revert = direct.Command(site.pillar, "apply", dies, phase="revert", waits=True)
    guard = direct.Command(site.pillar, "guard", phase="revert", process=revert.process.pid)
    guard.until("guarding")
    revert.begin()
    assert revert.wait().rc == -signal.SIGKILL
    guarded = guard.wait()
    assert guarded.verdict == "aborted", guarded.problem
    assert world.writable(site.chain) == ["old-db1"]


def test_a_run_that_goes_on_waits_for_a_guard_of_its_own(site: Site) -> None:
    flip = {"phase": "flip", "guarded": True}
    assert site.run("apply", "panic-after:notice.new", **flip).problem["kind"] == "defect"
    with Watch(site.chain) as watch:
        alone = direct.Command(site.pillar, "apply", variables={direct.NO_GUARD: "1"}, **flip)
        said = alone.wait()
    # Nobody waits behind it for a guard that does not come: it goes back.
    assert (said.verdict, world.writable(site.chain)) == ("aborted", ["old-db1"])
    assert "guard" in said.problem["message"]
    assert "fence" not in said.happened("started")
    assert not watch.both_open
    assert world.writable(site.chain) == ["old-db1"]
    assert site.run("apply", **flip).verdict == "done"


def test_a_signal_while_the_decision_is_taken_comes_too_late(site: Site) -> None:
    cut = site.wire(PROMOTE)
    cut.hold(site.words(PROMOTE), reply=True)
    flip = direct.Command(site.pillar, "apply", phase="flip")
    assert cut.passed.wait(60)
    flip.process.send_signal(signal.SIGINT)
    # Longer than the product takes to notice it.
    time.sleep(0.5)
    cut.release()
    done = flip.wait()
    assert (done.verdict, done.rc) == ("done", 0), done.problem
    assert site.run("status").answer["last_run"]["finished"] == "done"


def test_a_run_that_died_is_left_alone_by_the_guard_of_another_process(site: Site) -> None:
    assert site.run("apply", "crash-after:30", phase="flip").rc == -signal.SIGKILL
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        guard = direct.Command(site.pillar, "guard", phase="flip", process=other.pid)
        guard.until("guarding")
        other.communicate(b"\n")
    assert guard.wait().verdict == "unchanged"
    assert site.run("status").answer["last_run"]["finished"] is None
    assert site.run("abort").verdict == "aborted"


def test_nothing_is_unfenced_while_the_decision_cannot_be_seen(site: Site) -> None:
    """The target is gone with a promotion on its way: better two closed primaries than two open ones."""
    cut = site.wire(PROMOTE, abort=1500)
    cut.hold(site.words(PROMOTE))
    run = direct.Command(site.pillar, "apply", phase="flip")
    assert cut.passed.wait(60)
    site.chain.new.pause()
    run.process.send_signal(signal.SIGKILL)
    run.wait()
    taken = site.run("abort")
    assert taken.verdict == "stopped"
    assert taken.problem["kind"] == "undecided"
    assert "new-db1" in taken.problem["message"]
    assert site.chain.old.value("SELECT @@global.read_only") == 1
    site.chain.new.resume()
    cut.release()
    assert site.run("abort").verdict in ("aborted", "done")
    assert len(world.writable(site.chain)) == 1


def test_a_guard_looks_again_until_it_sees_how_it_was_decided(site: Site) -> None:
    """Nobody stays fenced for want of somebody who types a command."""
    cut = site.wire(PROMOTE, abort=1500, connect=1000)
    cut.hold(site.words(PROMOTE))
    run = direct.Command(site.pillar, "apply", phase="flip")
    guard = direct.Command(site.pillar, "guard", phase="flip", process=run.process.pid)
    guard.until("guarding")
    assert cut.passed.wait(60)
    site.chain.new.pause()
    run.process.send_signal(signal.SIGKILL)
    run.wait()
    # It gave up once, and more: its report would say so.
    stopped = guard.until("finished")
    assert stopped["detail"]["verdict"] == "stopped", stopped
    # Nor does a command that sees as little send it away.
    assert site.run("abort").problem["kind"] == "undecided"
    time.sleep(2.5)
    assert guard.process.poll() is None
    assert site.chain.old.value("SELECT @@global.read_only") == 1
    site.chain.new.resume()
    guarded = guard.wait(30)
    assert guarded.verdict == "aborted", guarded.problem
    assert world.writable(site.chain) == ["old-db1"]
    cut.release()
    assert site.run("abort").verdict == "unchanged"


def test_a_guard_opens_a_source_that_was_out_of_sight(site: Site) -> None:
    cut = site.wire(FENCE, abort=1500, connect=1000)
    cut.hold(site.words(FENCE), reply=True)
    run = direct.Command(site.pillar, "apply", phase="flip")
    guard = direct.Command(site.pillar, "guard", phase="flip", process=run.process.pid)
    guard.until("guarding")
    assert cut.passed.wait(60)
    site.chain.old.pause()
    run.process.send_signal(signal.SIGKILL)
    run.wait()
    # It gave up once.
    stopped = guard.until("finished")
    assert stopped["detail"]["verdict"] == "stopped", stopped
    site.chain.old.resume()
    cut.release()
    guarded = guard.wait(30)
    assert guarded.verdict == "aborted", guarded.problem
    assert world.writable(site.chain) == ["old-db1"]
    assert site.run("abort").verdict == "unchanged"


def test_a_promotion_that_was_never_sent_needs_no_target_to_be_taken_back(site: Site) -> None:
    """The journal proves it: the new side may be gone for good, and the old one serves again."""
    site.pillar["databases"]["deadlines"] |= {"abort": 3000}
    assert site.run("apply", "panic-after:fence", phase="flip").problem["kind"] == "defect"
    assert world.writable(site.chain) == []
    site.chain.new.kill()
    taken = site.run("abort")
    assert site.chain.old.value("SELECT @@global.read_only") == 0
    # What stands on the target itself can wait.
    assert taken.verdict in ("aborted", "stopped")
    site.chain.new.start()
    assert site.run("abort").verdict in ("aborted", "unchanged")
