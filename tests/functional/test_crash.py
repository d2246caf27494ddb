"""The three generic tests of flip and revert, on real servers: set twice, fail anywhere, die anywhere."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_edge import Site as Front
from tests.functional.test_edge import origins
from tests.lab import direct, sabotage, world
from tests.lab.direct import Done
from tests.lab.edge.standin import Edge
from tests.lab.loopback import MINION, QUARANTINE, Chain
from tests.lab.sabotage import KILLED
from tests.lab.salt import SaltMaster
from tests.lab.watch import Watch
from tests.lab.writer import Writer, judge

__all__ = ["origins"]

PRIMARY = {"flip": "new-db1", "revert": "old-db1"}
# Enough to lose something, and little enough to leave the processors to what is tested.
GENTLE: dict[str, Any] = {"threads": 1, "period": 0.01, "retry": 0.002}


class Site:
    """A chain that is moved to and fro, with its pillar, and perhaps a CDN in front."""

    def __init__(self, chain: Chain, front: Front | None = None) -> None:
        self.chain, self.front = chain, front
        self.pillar = front.pillar if front else chain.pillar()

    def look(self) -> world.World:
        """Returns what there is to see of it all."""
        seen = world.look(self.chain)
        if self.front:
            seen["readers are sent to"] = self.front.sent_to("blog")
        return seen

    def apply(self, phase: str, drill: str | None = None) -> Done:
        """Runs a phase, with a failure on order."""
        return direct.run(self.pillar, "apply", drill, phase=phase)

    def carry(self, phase: str) -> Done:
        """Runs a phase that must succeed."""
        done = self.apply(phase)
        assert done.verdict in ("done", "unchanged"), done.problem
        return done

    def plan(self, phase: str) -> list[dict[str, Any]]:
        """Returns what a phase would change."""
        planned = direct.run(self.pillar, "plan", phase=phase)
        assert planned.rc == 0, planned.problem
        return planned.answer["changes"]

    def journal(self) -> Path:
        """Returns the journal of the latest run."""
        return sabotage.journal(self.pillar)

    def scheduling(self) -> list[str]:
        """Names the servers that run scheduled events."""
        servers = self.chain.servers.items()
        return [
            name
            for name, server in servers
            if server.value("SELECT @@global.event_scheduler") == "ON"
        ]

    def is_there(self, phase: str) -> None:
        """Asserts that a phase is done: its primary serves, with its events, and its own plan is empty."""
        assert world.writable(self.chain) == [PRIMARY[phase]]
        assert self.scheduling() == [PRIMARY[phase]]
        if self.front:
            self.front.comes_to_serve(PRIMARY[phase][:3])
        assert [change["step"] for change in self.plan(phase)] == []


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    # As many writes an hour as such tests take.
    with Edge(("127.0.1.1:0",), delay="none", spread=(0,), quota=1_000_000) as running:
        yield running


@pytest.fixture
def site(fresh_chain: Chain, edge: Edge, origins: int) -> Iterator[Site]:
    """The site under a writer and a watch; afterwards nothing may be lost, doubled or apart."""
    front = Front(fresh_chain, edge, origins, ("blog",))
    try:
        yield from _under_load(Site(fresh_chain, front))
    finally:
        front.remove()


@pytest.fixture
def databases(fresh_chain: Chain) -> Iterator[Site]:
    """The same without a CDN, as the Salt master's pillar has it."""
    yield from _under_load(Site(fresh_chain))


def _under_load(site: Site) -> Iterator[Site]:
    fresh_chain = site.chain
    # The first transfer writes down roles that were declared otherwise: start where it ends.
    site.carry("revert")
    # What a run stops it must know of when it goes on: the new primary takes it over.
    fresh_chain.old.run("SET GLOBAL event_scheduler=ON")
    with Watch(fresh_chain), Writer(fresh_chain, **GENTLE) as writer:
        yield site
    verdict = judge(fresh_chain, writer.results)
    assert verdict.acknowledged > 10
    assert (verdict.lost, verdict.duplicated) == ([], [])
    fresh_chain.settle()
    assert len(set(fresh_chain.checksums().values())) == 1


def _follows_commit(plan: list[dict[str, Any]]) -> set[str]:
    """Names the steps that come after the commit point."""
    after = {change["step"]: set(change["after"]) for change in plan}
    behind = {"promotion"}
    while more := {step for step, comes in after.items() if comes & behind} - behind:
        behind |= more
    return behind - {"promotion"}


@pytest.mark.parametrize("phase", ["flip", "revert"])
def test_a_failure_before_the_commit_point_leaves_the_world_as_it_was(
    site: Site, phase: str
) -> None:
    if phase == "revert":
        site.carry("flip")
    plan = site.plan(phase)
    start = site.look()
    behind = _follows_commit(plan)
    for step in (change["step"] for change in plan if change["step"] not in behind):
        for moment in ("before", "after"):
            if (moment, step) == ("after", "promotion"):
                continue
            done = site.apply(phase, f"fail-{moment}:{step}")
            if done.verdict == "done" and step not in done.happened("started"):
                # It was as wanted, so it never started: there is nothing to fail.
                site.carry("revert" if phase == "flip" else "flip")
                start = site.look()
                continue
            assert done.verdict == "aborted", (moment, step, done.problem)
            assert done.rc != 0
            assert site.look() == start, (moment, step)
    site.carry(phase)
    site.is_there(phase)


@pytest.mark.parametrize("phase", ["flip", "revert"])
def test_a_failure_after_the_commit_point_is_finished_by_the_same_command(
    site: Site, phase: str
) -> None:
    back = "revert" if phase == "flip" else "flip"
    if phase == "revert":
        site.carry("flip")
    orders = [
        f"fail-{moment}:{step}"
        for step in sorted(_follows_commit(site.plan(phase)))
        for moment in ("before", "after")
    ]
    for order in ["fail-after:promotion", *orders]:
        stopped = site.apply(phase, order)
        if order == "fail-after:promotion":
            # It finds out that it committed, and goes forward at once.
            assert stopped.verdict == "done", stopped.problem
        else:
            assert stopped.verdict == "stopped", (order, stopped.problem)
            assert stopped.rc != 0
            site.carry(phase)
        site.is_there(phase)
        site.carry(back)


def test_a_target_that_reboots_behind_the_commit_point_is_opened_by_the_same_command(
    site: Site,
) -> None:
    # Whoever the site left keeps apart at boot, and says so until he is the primary at boot.
    site.carry("flip")
    site.carry("revert")
    assert "gtid_domain_id" in site.chain.new.role_file.read_text()
    stopped = site.apply("flip", "fail-before:role-at-boot.new-db1")
    assert stopped.verdict == "stopped", stopped.problem
    site.chain.new.restart()
    site.chain.wait_replicating(replicas=["new-db2"])
    assert world.writable(site.chain) == []
    site.carry("flip")
    site.is_there("flip")


def test_a_target_that_rebooted_is_opened_though_no_minion_answers(site: Site) -> None:
    """People wait for it, and for nothing else that came before the commit point."""
    for phase in ("flip", "revert"):
        site.carry(phase)
    assert site.apply("flip", "fail-before:role-at-boot.new-db1").verdict == "stopped"
    site.chain.new.restart()
    assert world.writable(site.chain) == []
    gone = {direct.GONE: MINION}
    # Also where that dies in the middle: its domain begun, its domain set, its promotion asked for once more.
    for _ in range(3):
        records = len(site.journal().read_text().splitlines())
        order = f"crash-after:{records + 1}"
        assert direct.run(site.pillar, "apply", order, phase="flip", variables=gone).rc == KILLED
        assert world.writable(site.chain) == []
    assert '"started","step":"promotion"' in site.journal().read_text().splitlines()[-1]
    stopped = direct.run(site.pillar, "apply", phase="flip", variables=gone)
    assert stopped.verdict == "stopped", stopped.problem
    assert world.writable(site.chain) == ["new-db1"]
    site.carry("flip")
    site.is_there("flip")


def test_a_replica_that_does_not_replicate_by_itself_at_boot_is_started_again(site: Site) -> None:
    """Many a site says skip_slave_start."""
    stopped = site.apply("flip", "fail-before:role-at-boot.new-db1")
    assert stopped.verdict == "stopped", stopped.problem
    site.chain["new-db2"].restart("--skip-slave-start")
    site.carry("flip")
    site.is_there("flip")
    site.chain.wait_replicating(replicas=["new-db2"])


def test_a_target_that_rebooted_stays_closed_where_somebody_opened_the_source(
    fresh_chain: Chain,
) -> None:
    site = Site(fresh_chain)
    for phase in ("revert", "flip", "revert"):
        site.carry(phase)
    assert site.apply("flip", "fail-before:role-at-boot.new-db1").verdict == "stopped"
    fresh_chain.new.restart()
    fresh_chain.old.run("SET GLOBAL read_only=0")
    again = site.apply("flip")
    assert again.verdict == "stopped"
    assert "fence: changed by somebody else" in again.problem["message"]
    assert world.writable(fresh_chain) == ["old-db1"]


def test_a_source_that_restarts_before_it_is_fenced_is_opened_again(site: Site) -> None:
    """It boots closed by then, and an abort that leaves it so leaves nobody who takes a write."""
    source = site.chain.old
    before = site.look()
    site.pillar["notice"]["drain"] = 3000
    flip = direct.Command(site.pillar, "apply", phase="flip")
    flip.until("done", "role-at-boot.old-db1")
    # However long the server takes, the fence does not come before it.
    flip.process.send_signal(signal.SIGSTOP)
    try:
        assert "gtid_domain_id" in source.role_file.read_text()
        source.restart()
    finally:
        flip.process.send_signal(signal.SIGCONT)
    done = flip.wait()
    assert done.verdict == "aborted", done.problem
    assert site.look() == before
    assert world.writable(site.chain) == ["old-db1"]
    site.carry("flip")


def test_a_run_that_another_phase_ends_has_its_report(site: Site) -> None:
    assert site.apply("flip", "fail-before:role-at-boot.new-db1").verdict == "stopped"
    for report in Path(site.pillar["state_dir"], "reports").iterdir():
        report.unlink()
    site.carry("revert")
    kept = [
        json.loads(path.read_text())["runs"][0]
        for path in Path(site.pillar["state_dir"], "reports").iterdir()
    ]
    ended = {run["direction"]: run for run in kept}
    assert ended["flip"]["result"] == "done"
    assert ended["flip"]["window_ms"] > 0
    assert ended["revert"]["result"] == "done"


def test_a_source_that_restarts_is_opened_ahead_of_what_waits_for_hosts(
    site: Site, tmp_path: Path
) -> None:
    """Its own minion comes back later than the server does, and another one perhaps never."""
    gone = tmp_path / "gone"
    before = site.look()
    site.pillar["notice"]["drain"] = 3000
    site.pillar["databases"]["deadlines"] |= {"abort": 2000}
    variables = {direct.GONE_WHILE: str(gone)}
    flip = direct.Command(site.pillar, "apply", variables=variables, phase="flip")
    flip.until("done", "notice.old")
    flip.process.send_signal(signal.SIGSTOP)
    try:
        gone.touch()
        site.chain.old.restart()
    finally:
        flip.process.send_signal(signal.SIGCONT)
    done = flip.wait()
    assert (done.verdict, done.problem["kind"]) == ("stopped", "not-undone"), done.problem
    assert "role-at-boot.old-db1" in done.problem["message"]
    assert world.writable(site.chain) == ["old-db1"]
    gone.unlink()
    assert direct.run(site.pillar, "abort").verdict == "aborted"
    assert site.look() == before
    site.carry("flip")


def test_a_primary_that_was_a_replica_itself_once_has_its_way_back(fresh_chain: Chain) -> None:
    """Of the domain in which it followed then nobody else knows."""
    site = Site(fresh_chain)
    fresh_chain.old.run("SET GLOBAL gtid_slave_pos=CONCAT(@@gtid_binlog_pos, ',9-99-1000')")
    for phase in ("flip", "revert", "flip"):
        site.carry(phase)
        assert world.writable(fresh_chain) == [PRIMARY[phase]]


def test_a_replica_that_somebody_stopped_is_put_back_as_he_left_it(site: Site) -> None:
    assert site.apply("flip", "crash-after:1").rc == KILLED
    replica = site.chain["new-db2"]
    replica.run("STOP SLAVE")
    done = site.apply("flip", "fail-before:fence")
    assert done.verdict == "aborted", done.problem
    (channel,) = replica.channels()
    assert (channel["Master_Host"], channel["Slave_SQL_Running"]) == (
        site.chain["relay"].address,
        "No",
    )
    replica.run("START SLAVE")
    site.chain.wait_replicating()


@pytest.mark.parametrize("text", ["", "theirs", "theirs\n\n"])
def test_a_file_without_whole_lines_is_put_back_though_the_way_back_dies(
    site: Site, text: str
) -> None:
    """A minion writes whole lines only."""
    notice = site.chain.notice_path("old")
    notice.write_text(text)
    number = 1
    while site.apply("flip", f"crash-after:{number}").rc == KILLED:
        if '"record":"done","step":"notice.old"' in site.journal().read_text():
            break
        number += 5
        site.carry("revert")
        notice.write_text(text)
    # Put back, and dead before it could say so.
    notice.write_text(text.rstrip("\n") + "\n")
    done = direct.run(site.pillar, "abort")
    assert done.verdict == "aborted", done.problem
    assert notice.read_text().rstrip("\n") == text.rstrip("\n")
    notice.unlink()


def test_work_of_an_administrator_on_a_fenced_source_does_not_end_its_way_back(
    site: Site,
) -> None:
    stopped = site.apply("flip", "fail-before:source.old-db1")
    assert stopped.verdict == "stopped", stopped.problem
    site.chain.old.run("FLUSH STATUS; FLUSH PRIVILEGES")
    for phase in ("flip", "revert", "flip"):
        site.carry(phase)
        site.is_there(phase)


def test_work_of_administrators_on_whoever_is_fenced_ends_no_way_back(site: Site) -> None:
    """A replica that knew the one's could not follow the other, from the second way back on."""
    for phase in ("flip", "revert") * 3:
        site.carry(phase)
        site.is_there(phase)
        fenced = site.chain.old if phase == "flip" else site.chain.new
        fenced.run("FLUSH STATUS")
        assert any(gtid.startswith(f"{QUARANTINE}-") for gtid in fenced.position().split(","))


def test_a_process_killed_after_any_record_is_finished_or_taken_back_by_the_same_command(
    site: Site,
) -> None:
    for phase, number in _records(site, odd="flip", even="revert"):
        start = site.look()
        if site.apply(phase, f"crash-after:{number}").rc == KILLED:
            again = site.apply(phase)
            assert again.verdict in ("done", "unchanged", "aborted"), (number, again.problem)
            (told,) = again.answer["report"]["runs"]
            steps = [step["id"] for step in told["steps"]]
            assert len(steps) == len(set(steps)), (number, steps)
            if again.verdict == "done":
                # Whatever process did what: the run is told whole.
                assert {"fence", "promotion", "arrived-everywhere"} <= set(steps), (number, steps)
                assert 0 < told["window_ms"] < 60_000, number
            if again.verdict == "aborted":
                assert site.look() == start, (number, phase)
                site.carry(phase)
        assert world.writable(site.chain) == site.scheduling() == [PRIMARY[phase]]


def test_a_step_set_twice_is_set_once_so_a_power_cut_anywhere_is_no_harm(site: Site) -> None:
    ends: dict[str, world.World] = {}
    for phase, number in _records(site, odd="revert", even="flip"):
        if site.apply(phase, f"crash-after:{number}").rc == KILLED:
            sabotage.lose_what_was_not_synced(site.journal())
            again = site.apply(phase)
            assert again.verdict in ("done", "unchanged"), (number, phase, again.problem)
        assert site.look() == ends.setdefault(phase, site.look())


def _records(site: Site, odd: str, even: str) -> Iterator[tuple[str, int]]:
    """Names a phase for the number of each record, until a run has no more; phases take turns."""
    number = 1
    while True:
        for phase in ("flip", "revert"):
            if phase == (odd if number % 2 else even):
                yield phase, number
                # It was not killed, for the run had fewer records.
                if len(site.journal().read_text().splitlines()) < number:
                    assert number > 40
                    return
                number += 1
            else:
                site.carry(phase)


def test_a_run_that_dies_after_every_single_record_comes_to_its_end(site: Site) -> None:
    for phase in ("flip", "revert"):
        done = site.apply(phase, "crash-after:1")
        while done.rc == KILLED:
            records = len(site.journal().read_text().splitlines())
            done = site.apply(phase, f"crash-after:{records + 1}")
        # The last death came after the last record.
        assert done.verdict == "unchanged", done.problem
        site.is_there(phase)


@pytest.mark.parametrize("phase", ["flip", "revert"])
def test_a_way_back_that_dies_after_every_single_record_comes_to_its_end(
    site: Site, phase: str
) -> None:
    if phase == "revert":
        site.carry("flip")
    start = site.look()
    done = site.apply(phase, "crash-after:1")
    while "fence" not in _started(site.journal()):
        assert done.rc == KILLED
        records = len(site.journal().read_text().splitlines())
        done = site.apply(phase, f"crash-after:{records + 1}")
    for _ in range(100):
        records = len(site.journal().read_text().splitlines())
        done = direct.run(site.pillar, "abort", f"crash-after:{records + 1}")
        if done.rc != KILLED:
            break
    assert done.verdict in ("aborted", "unchanged"), done.problem
    assert site.look() == start


def _started(journal: Path) -> set[str]:
    lines = map(json.loads, journal.read_text().splitlines())
    return {line["step"] for line in lines if line["record"] == "started"}


def test_a_line_that_a_crash_tore_is_as_if_it_had_never_been_written(site: Site) -> None:
    assert site.apply("flip", "crash-after:20").rc == KILLED
    with site.journal().open("a") as journal:
        journal.write('{"at": 1.0, "record": "done", "st')
    site.carry("flip")
    site.is_there("flip")


@pytest.mark.parametrize(("record", "phase"), [(20, "revert"), (42, "flip")])
def test_salt_killed_in_the_middle_is_taken_back_or_finished_by_the_guard(
    databases: Site,
    salt_master: SaltMaster,
    monkeypatch: pytest.MonkeyPatch,
    record: int,
    phase: str,
) -> None:
    monkeypatch.setenv(direct.DRILL, f"crash-after:{record}")
    assert salt_master.run("state.orchestrate", "migrate.flip").rc == KILLED
    monkeypatch.delenv(direct.DRILL)
    deadline = time.monotonic() + 60
    while json.loads(databases.journal().read_text().splitlines()[-1])["record"] != "finished":
        assert time.monotonic() < deadline, databases.journal().read_text()
        time.sleep(0.05)
    status = salt_master.run("migrate.status")
    assert status.answer["alarms"] == []
    databases.is_there(phase)
    again = salt_master.run("state.orchestrate", "migrate.flip")
    assert again.rc == 0, again.stdout + again.stderr
    databases.is_there("flip")


@pytest.mark.parametrize(
    ("order", "serving"),
    [("fail-after:fence", "old-db1"), ("fail-before:source.old-db1", "new-db1")],
)
def test_a_failure_reaches_salt_as_a_failure_with_what_to_type_next(
    databases: Site,
    salt_master: SaltMaster,
    monkeypatch: pytest.MonkeyPatch,
    order: str,
    serving: str,
) -> None:
    monkeypatch.setenv(direct.DRILL, order)
    ran = salt_master.run("state.orchestrate", "migrate.flip")
    monkeypatch.delenv(direct.DRILL)
    assert ran.rc != 0
    assert ran.states["flip"]["result"] is False
    comment = ran.states["flip"]["comment"]
    assert comment.startswith("aborted:" if serving == "old-db1" else "stopped:")
    assert order.replace(":", " ") in comment
    assert "\nhint: " in comment
    assert "Traceback" not in ran.stdout
    assert world.writable(databases.chain) == [serving]
    assert salt_master.run("migrate.flip").rc == 0
    databases.is_there("flip")
