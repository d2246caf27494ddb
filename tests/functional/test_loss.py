"""The new primary took writes and is gone: going back without it is a decision of people, and says what it costs."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab import direct, world
from tests.lab.loopback import QUARANTINE, Chain
from tests.lab.salt import SaltMaster

REASON = "its host burnt, and the disk with it"
ROW = "INSERT INTO site.writes (run,writer,attempt,side,at) VALUES ({run},1,1,'new',SYSDATE(6))"


@pytest.fixture
def pillar(fresh_chain: Chain) -> dict[str, Any]:
    """The site after a flip, with something written on the new side."""
    pillar = fresh_chain.pillar() | {"freeze": {}}
    pillar["databases"]["deadlines"] |= {"connect": 1500, "abort": 2000, "replication": 15_000}
    assert direct.run(pillar, "apply", phase="flip").verdict == "done"
    fresh_chain.new.run(ROW.format(run=1))
    fresh_chain.settle()
    return pillar


def lose(chain: Chain, pillar: dict[str, Any]) -> str:
    """The new primary takes a write that the old side never gets, and dies; returns what the old side has."""
    chain.old.run("STOP SLAVE IO_THREAD")
    chain.new.run(ROW.format(run=2))
    chain.new.kill()
    way_back = direct.run(pillar, "status").answer["way_back"]
    assert "new-db1 does not answer; old-db1 received everything up to" in way_back
    assert "is_off=new-db1" in way_back
    received = way_back.partition("accept_loss=")[2].split(" ")[0]
    assert received == chain.old.value("SELECT @@gtid_slave_pos")
    return str(received)


def revert(pillar: dict[str, Any], **told: Any) -> direct.Done:
    return direct.run(pillar, "apply", phase="revert", **told)


def refused(pillar: dict[str, Any], words: str, **told: Any) -> None:
    done = revert(pillar, **told)
    assert done.problem.get("kind") in ("refused", "settings"), done
    assert words in done.problem["message"], done.problem["message"]


def test_as_long_as_the_new_primary_may_be_writable_nothing_is_given_up(
    fresh_chain: Chain, pillar: dict[str, Any]
) -> None:
    everything = {"accept_loss": "0-21-99", "is_off": "new-db1", "reason": REASON}
    before = world.look(fresh_chain)
    refused(pillar, "it answers and accepts writes; mend: salt-run migrate.revert", **everything)
    # It hangs, and nobody knows.
    fresh_chain.new.pause()
    try:
        refused(pillar, "say so: is_off=new-db1", accept_loss="0-21-99", reason=REASON)
        refused(
            pillar, "say so: is_off=new-db1", accept_loss="0-21-99", reason=REASON, is_off="new-db2"
        )
    finally:
        fresh_chain.new.resume()
    assert fresh_chain.old.value("SELECT @@global.read_only") == 1
    fresh_chain.settle()
    assert world.look(fresh_chain) == before


def test_what_is_lost_must_be_known_and_the_reason_given(
    fresh_chain: Chain, pillar: dict[str, Any]
) -> None:
    received = lose(fresh_chain, pillar)
    refused(pillar, f"accept_loss={received}", accept_loss="all", is_off="new-db1", reason=REASON)
    refused(pillar, "found nothing, expected why", accept_loss=received, is_off="new-db1")
    wrong = direct.run(pillar, "apply", phase="flip", accept_loss=received)
    assert "found migrate.flip, expected migrate.revert" in wrong.problem["message"]
    assert world.writable(fresh_chain) == []


def test_what_was_received_and_not_yet_applied_is_not_lost(
    fresh_chain: Chain, pillar: dict[str, Any]
) -> None:
    chain = fresh_chain
    chain.old.run("STOP SLAVE SQL_THREAD")
    applied = chain.old.value("SELECT @@gtid_slave_pos")
    chain.new.run(ROW.format(run=2))
    sent = chain.new.value("SELECT @@gtid_binlog_pos")
    deadline = time.monotonic() + 60
    while chain.old.channels()[0]["Gtid_IO_Pos"] != sent:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    chain.new.kill()
    way_back = direct.run(pillar, "status").answer["way_back"]
    received = way_back.partition("accept_loss=")[2].split(" ")[0]
    assert received == sent != applied
    chain.old.run("START SLAVE SQL_THREAD")
    done = revert(pillar, accept_loss=received, is_off="new-db1", reason=REASON)
    assert done.verdict == "done", done.problem
    assert {row["run"] for row in chain.old.run("SELECT run FROM site.writes")} >= {1, 2}
    # For the tests that follow: it comes back, open, as its role says.
    chain.new.start()


def test_a_primary_that_rebooted_as_soon_as_it_was_opened_is_opened_in_the_sites_domain(
    fresh_chain: Chain, pillar: dict[str, Any]
) -> None:
    received = lose(fresh_chain, pillar)
    told = {"phase": "revert", "accept_loss": received, "is_off": "new-db1", "reason": REASON}
    stopped = direct.run(pillar, "apply", "fail-before:role-at-boot.old-db1", **told)
    assert stopped.verdict == "stopped", stopped.problem
    fresh_chain.old.restart()
    assert world.writable(fresh_chain) == []
    done = direct.run(pillar, "apply", **told)
    assert done.verdict == "done", done.problem
    assert world.writable(fresh_chain) == ["old-db1"]
    assert fresh_chain.old.value("SELECT @@global.gtid_domain_id") == 0


@pytest.mark.parametrize("died", [True, False], ids=["after a revert that died", "at once"])
def test_a_way_back_with_loss_that_fails_in_the_middle_goes_through_when_typed_again(
    fresh_chain: Chain, pillar: dict[str, Any], died: bool
) -> None:
    if died:
        # It can only be taken back by the primary that is gone: so it is given up with it.
        broken = direct.run(pillar, "apply", "panic-after:chain-timed", phase="revert")
        assert broken.problem["kind"] == "defect"
    received = lose(fresh_chain, pillar)
    told = {"accept_loss": received, "is_off": "new-db1", "reason": REASON}
    back = direct.run(pillar, "apply", "fail-before:opened", phase="revert", **told)
    assert back.verdict == "stopped", back.problem
    assert [left["step"] for left in back.answer["left"]] == ["source.old-db1"]
    assert world.writable(fresh_chain) == []
    if not died:
        # Somebody's FLUSH meanwhile stands in nobody's way.
        assert fresh_chain.old.value("SELECT @@global.gtid_domain_id") == QUARANTINE
    done = revert(pillar, **told)
    assert done.verdict == "done", done.problem
    assert world.writable(fresh_chain) == ["old-db1"]
    assert fresh_chain.old.value("SELECT @@global.gtid_domain_id") == 0


def test_the_old_side_serves_again_and_everything_says_what_was_lost(
    fresh_chain: Chain, pillar: dict[str, Any]
) -> None:
    chain, received = fresh_chain, lose(fresh_chain, pillar)
    # The first attempt dies right behind the commit point: the same command again finishes it.
    killed = {"accept_loss": received, "is_off": "new-db1", "reason": REASON}
    assert direct.run(pillar, "apply", "fail-after:opened", phase="revert", **killed).verdict in (
        "done",
        "stopped",
    )
    done = revert(pillar, **killed)
    assert (
        done.verdict in ("done", "unchanged") or "accepts writes already" in done.problem["message"]
    )
    assert world.writable(chain) == ["old-db1"]
    assert chain.old.value("SELECT @@global.gtid_domain_id") == 0
    assert "read_only=0" in chain.old.role_file.read_text()
    assert not chain.notice_path("old").exists()
    runs = {row["run"] for row in chain.old.run("SELECT run FROM site.writes")}
    assert 1 in runs and 2 not in runs
    # The freeze is over with it.
    chain.old.run(f"{ROW.format(run=3)}; ALTER TABLE site.writes ADD COLUMN more INT")
    status = direct.run(pillar, "status").answer
    assert not [alarm for alarm in status["alarms"] if "should stand still" in alarm]
    assert (status["primary"], status["way_back"]) == ("old", "the old side serves")
    assert status["given_up"] == {"server": "new-db1", "lost_after": received, "reason": REASON}
    journal = max((chain.state / "migrate" / "runs").glob("revert-with-loss-*.jsonl"))
    forced = [
        line
        for line in map(json.loads, journal.read_text().splitlines())
        if line["record"] == "forced"
    ]
    assert [line["reason"] for line in forced] == [REASON]
    # Switched on again it is open, as its role says: that is said at once, and a flip refused.
    chain.new.start()
    status = direct.run(pillar, "status").answer
    assert any(
        "new-db1: it was given up" in alarm and "accepts writes: SET GLOBAL read_only=1" in alarm
        for alarm in status["alarms"]
    )
    flip = direct.run(pillar, "apply", phase="flip")
    assert flip.problem["kind"] == "refused"
    # The flip before it is no move that a clean-up could follow.
    over = {"soak_hours": 0, "give_up_revert": "there is no way back", "database_users": ["app"]}
    planned = direct.run(pillar | {"cleanup": over}, "plan", phase="cleanup")
    soak = [one["found"] for one in planned.answer["findings"] if one["topic"] == "soak"]
    assert "the last move was not a flip that was finished" in soak
    assert any("it accepts writes" in words for words in soak)


def test_who_comes_back_closed_is_not_opened_beside_the_side_that_serves(
    fresh_chain: Chain, pillar: dict[str, Any]
) -> None:
    # A revert died behind its fence, and was given up with the primary that it had fenced.
    broken = direct.run(pillar, "apply", "panic-after:fence", phase="revert")
    assert broken.problem["kind"] == "defect"
    fresh_chain.new.kill()
    way_back = direct.run(pillar, "status").answer["way_back"]
    received = way_back.partition("accept_loss=")[2].split(" ")[0]
    done = revert(pillar, accept_loss=received, is_off="new-db1", reason=REASON)
    assert done.verdict == "done", done.problem
    # That one is back, and whoever types an abort knows of no journal.
    shutil.rmtree(Path(pillar["state_dir"], "runs"))
    fresh_chain.new.start()
    assert world.writable(fresh_chain) == ["old-db1"]
    done = direct.run(pillar, "abort")
    assert world.writable(fresh_chain) == ["old-db1"]
    assert "old-db1 accepts writes, so new-db1 is not opened beside it" in done.problem["message"]


def test_an_unfinished_revert_is_not_given_up_with_the_side_that_may_have_what_nobody_has(
    fresh_chain: Chain, pillar: dict[str, Any]
) -> None:
    broken = direct.run(pillar, "apply", "panic-after:notice.new", phase="revert")
    assert broken.problem["kind"] == "defect"
    fresh_chain.new.kill()
    refused = direct.run(pillar, "abort", is_off="new-db1", reason=REASON)
    assert "expected a flip that never asked for its promotion" in refused.problem["message"]
    fresh_chain.new.start()
    assert direct.run(pillar, "abort").verdict == "aborted"
    assert not fresh_chain.notice_path("new").exists()


def test_a_flip_that_died_undecided_with_its_target_is_given_up_with_it(
    fresh_chain: Chain,
) -> None:
    pillar = fresh_chain.pillar()
    pillar["databases"]["deadlines"] |= {"connect": 1500, "abort": 1000, "replication": 15_000}
    assert (
        direct.run(pillar, "apply", "fail-before:source.old-db1", phase="flip").verdict == "stopped"
    )
    fresh_chain.new.kill()
    assert direct.run(pillar, "abort").verdict == "stopped"
    way_back = direct.run(pillar, "status").answer["way_back"]
    received = way_back.partition("accept_loss=")[2].split(" ")[0]
    done = revert(pillar, accept_loss=received, is_off="new-db1", reason=REASON)
    assert done.verdict == "done", done.problem
    assert world.writable(fresh_chain) == ["old-db1"]
    assert direct.run(pillar, "abort").verdict == "unchanged"


def test_typed_at_salt_it_gives_people_back_what_was_held_though_new_hosts_are_gone(
    fresh_chain: Chain, pillar: dict[str, Any], salt_master: SaltMaster, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    received = lose(fresh_chain, pillar)
    # As the flip left it.
    jobs, reports, lock = (tmp_path / name for name in ("jobs", "reports", "lock"))
    held = [file.with_name(f"{file.name}.held") for file in (jobs, reports)]
    for file in held:
        file.touch()
    lock.write_text("It ends by itself: salt-run migrate.revert, or salt-run migrate.cleanup.\n")
    pillar["singletons"] = {"jobs": {"node": "app1", "cron": str(jobs)}}
    pillar["freeze"] = {"lock": str(lock), "nodes": ["app1"], "crons": [str(reports)]}
    for node in ("app1", "db1"):
        pillar["nodes"]["new"][node]["minion"] = "gone"
    request.addfinalizer(lambda: salt_master.set_pillar(fresh_chain.pillar()))
    salt_master.set_pillar(pillar)
    bare = salt_master.run("migrate.revert", f"accept_loss={received}", f"reason={REASON}")
    assert bare.rc == 1 and "is_off=new-db1" in bare.stdout
    ran = salt_master.run(
        "migrate.revert", f"accept_loss={received}", "is_off=new-db1", f"reason={REASON}"
    )
    assert ran.rc == 0, ran.stdout
    assert world.writable(fresh_chain) == ["old-db1"]
    assert (jobs.exists(), reports.exists(), lock.exists()) == (True, True, False)
    assert not any(file.exists() for file in held)
    # What could not be held on the new side is told; and it was to be held before the old one's ran.
    # (That Salt's client knows no such minion is told too, and not among the data.)
    assert "No minions matched" in ran.stderr
    (told,) = [found for found in ran.answer["findings"] if found["topic"] == "hosts"]
    assert told["subject"] == "gone" and "it does not answer" in told["found"]
    steps = [step["id"] for step in ran.answer["report"]["runs"][0]["steps"]]
    assert steps.index("singletons.new-app1") < steps.index("singletons.old-app1")
    assert steps.index("opened") < steps.index("singletons.new-app1")


def test_a_flip_that_never_promoted_is_given_up_with_a_new_side_that_is_gone(
    fresh_chain: Chain,
) -> None:
    chain, pillar = fresh_chain, fresh_chain.pillar()
    pillar["databases"]["deadlines"] |= {"connect": 1500, "abort": 1500, "replication": 15_000}
    for node in pillar["nodes"]["new"].values():
        node["minion"] = "burnt"

    def abort(**told: str) -> direct.Done:
        """Takes it back, with all hosts of the new side gone too."""
        gone = {direct.GONE: "burnt"}
        return direct.Command(pillar, "abort", variables=gone, **told).wait(90)

    before = world.look(chain)
    broken = direct.run(pillar, "apply", "panic-after:fence", phase="flip")
    assert broken.problem["kind"] == "defect"
    told = {"is_off": "new-db1", "reason": REASON}
    # It answers: that is an abort as any other.
    answers = direct.run(pillar, "abort", **told)
    assert "new-db1, which answers" in answers.problem["message"]
    for name in ("new-db1", "new-db2", "relay"):
        chain[name].kill()
    wrong = direct.run(pillar, "abort", is_off="new-db2", reason=REASON)
    assert "expected new-db1" in wrong.problem["message"]
    assert "expected why" in direct.run(pillar, "abort", is_off="new-db1").problem["message"]
    assert world.writable(chain) == []
    bare = abort()
    assert (bare.verdict, bare.answer["left"]) == ("stopped", [])
    assert world.writable(chain) == ["old-db1"]
    (alarm,) = [a for a in direct.run(pillar, "status").answer["alarms"] if "not finished" in a]
    assert "salt-run migrate.abort is_off=new-db1 reason=" in alarm

    done = abort(**told)
    assert "given up" in done.problem["message"]
    left = {one["step"] for one in done.answer["left"]}
    assert left and all(".new" in step or step == "decision" for step in left), left
    assert direct.run(pillar, "status").answer["last_run"]["finished"] == "given-up"
    assert direct.run(pillar, "abort").verdict == "unchanged"
    for name in ("new-db1", "new-db2", "relay"):
        chain[name].start()
    old = {name: state for name, state in before.items() if "old" in name}
    assert {name: state for name, state in world.look(chain).items() if "old" in name} == old
    # It came back after all, or was built anew: the same flip begins again.
    chain.wait_replicating(replicas=["relay"])
    flipped = direct.run(pillar, "apply", phase="flip")
    assert flipped.verdict == "done", flipped.problem


def test_an_old_host_that_is_not_put_back_is_never_given_up(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    pillar["databases"]["deadlines"] |= {"connect": 1500, "abort": 1500, "replication": 15_000}
    broken = direct.run(pillar, "apply", "panic-after:fence", phase="flip")
    assert broken.problem["kind"] == "defect"
    fresh_chain.new.kill()
    # Somebody wrote there: it is his to settle, whatever became of the new side.
    fresh_chain.notice_path("old").write_text("words of somebody else\n")
    done = direct.run(pillar, "abort", is_off="new-db1", reason=REASON)
    assert (done.verdict, done.answer["left"]) == ("stopped", [])
    assert "notice.old: changed by somebody else" in done.problem["message"]
    assert world.writable(fresh_chain) == ["old-db1"]
    fresh_chain.notice_path("old").unlink()
    done = direct.run(pillar, "abort", is_off="new-db1", reason=REASON)
    assert done.verdict == "aborted", done.problem
