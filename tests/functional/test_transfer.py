"""The main promise: flip, revert and flip again, by Salt, while somebody writes from outside."""

from __future__ import annotations

import contextlib
import copy
import json
import time

from tests.lab import direct, sabotage, world
from tests.lab.loopback import Chain
from tests.lab.salt import Ran, SaltMaster
from tests.lab.writer import Writer, judge


def _transfer(master: SaltMaster, phase: str) -> Ran:
    ran = master.run("state.orchestrate", f"migrate.{phase}")
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert ran.states[phase]["result"] is True
    return ran


def _plan(chain: Chain, phase: str) -> list[str]:
    planned = direct.run(chain.pillar(), "plan", phase=phase)
    assert planned.rc == 0, planned.problem
    return [change["step"] for change in planned.answer["changes"]]


def _agree(chain: Chain) -> None:
    chain.settle()
    sums = chain.checksums()
    assert len(set(sums.values())) == 1, sums
    assert 0 not in sums.values()


def test_flip_revert_flip_lose_nothing_and_the_declared_chain_stands_in_between(
    fresh_chain: Chain, salt_master: SaltMaster
) -> None:
    with Writer(fresh_chain, threads=2) as writer:
        time.sleep(0.3)
        _transfer(salt_master, "flip")
        assert fresh_chain.serving() is fresh_chain.new
        assert _plan(fresh_chain, "flip") == []
        time.sleep(0.3)
        _transfer(salt_master, "revert")
        assert fresh_chain.serving() is fresh_chain.old
        assert world.sources(fresh_chain) == world.declared(fresh_chain)
        assert _plan(fresh_chain, "revert") == []
        time.sleep(0.3)
        _transfer(salt_master, "flip")
        time.sleep(0.3)
    assert fresh_chain.serving() is fresh_chain.new
    verdict = judge(fresh_chain, writer.results)
    assert verdict.acknowledged > 1000
    assert verdict.lost == []
    assert verdict.duplicated == []
    _agree(fresh_chain)


def test_a_phase_that_is_done_moves_nobody(fresh_chain: Chain, salt_master: SaltMaster) -> None:
    with Writer(fresh_chain, threads=1) as writer:
        # Never flipped: it only writes down what the old side's roles are.
        reverted = _transfer(salt_master, "revert").states["revert"]["changes"]
        assert not {"fence", "promotion"} & set(reverted)
        again = _transfer(salt_master, "revert").states["revert"]
    assert [side for side, _ in writer.results.refused if side == "old"] == []
    assert again["changes"] == {}
    assert "already so" in again["comment"]
    assert direct.run(fresh_chain.pillar(), "apply", phase="flip").verdict == "done"
    ran = salt_master.run("migrate.flip")
    assert ran.rc == 0
    assert ran.answer["verdict"] == "unchanged"


def test_a_writer_that_never_pauses_is_closed_out_for_less_than_a_fifth_of_a_second(
    fresh_chain: Chain,
) -> None:
    gaps, windows = [], []
    for _ in range(2):
        for phase in ("flip", "revert"):
            with Writer(fresh_chain) as writer:
                time.sleep(0.3)
                done = direct.run(fresh_chain.pillar(), "apply", phase=phase)
                time.sleep(0.2)
            assert done.verdict == "done", done.problem
            verdict = judge(fresh_chain, writer.results)
            assert (verdict.lost, verdict.duplicated) == ([], [])
            assert verdict.write_gap_ms is not None
            assert verdict.write_gap_ms > 0
            gaps.append(verdict.write_gap_ms)
            windows.append(done.answer["report"]["runs"][0]["window_ms"])
    # Each way; whatever else runs on the machine may stop one of them for a moment.
    assert max(min(gaps[::2]), min(gaps[1::2])) < 200, gaps
    # The report says no more than the writers saw. Its clock is another process's, which may be stopped for a moment.
    assert min(windows) > 0
    over = sorted(window - gap for gap, window in zip(gaps, windows, strict=True))
    assert over[1] < 5, (gaps, windows)
    _agree(fresh_chain)


def test_neither_primary_takes_a_write_while_the_other_does(fresh_chain: Chain) -> None:
    # By the servers' own clock, of writers that try their own side without a pause and never leave it.
    for phase, source, target in (("flip", "old", "new"), ("revert", "new", "old")):
        with contextlib.ExitStack() as stack:
            writers = {
                side: stack.enter_context(Writer(fresh_chain, threads=2, sides=(side,)))
                for side in (source, target)
            }
            time.sleep(0.2)
            done = direct.run(fresh_chain.pillar(), "apply", phase=phase)
            time.sleep(0.2)
        assert done.verdict == "done", done.problem
        sql = "SELECT MIN(at) AS first, MAX(at) AS last FROM site.writes WHERE run = %s"
        times = {
            side: fresh_chain.serving().run(sql, (writer.results.run,))[0]
            for side, writer in writers.items()
        }
        assert times[source]["last"] < times[target]["first"]
        for writer in writers.values():
            assert judge(fresh_chain, writer.results).lost == []


def test_a_revert_after_hours_of_writes_carries_them_all_home(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    assert direct.run(pillar, "apply", phase="flip").verdict == "done"
    for _ in range(20):
        row = (
            "INSERT INTO site.writes (run,writer,attempt,side,at) VALUES (1,1,1,'new',SYSDATE(6));"
        )
        fresh_chain.new.run(row * 50)
    assert direct.run(pillar, "apply", phase="revert").verdict == "done"
    assert fresh_chain.old.value("SELECT COUNT(*) FROM site.writes WHERE run = 1") == 1000
    _agree(fresh_chain)


def test_both_primaries_keep_their_roles_over_a_restart_of_every_server(
    fresh_chain: Chain,
) -> None:
    assert direct.run(fresh_chain.pillar(), "apply", phase="flip").verdict == "done"
    for server in fresh_chain.servers.values():
        server.restart()
    assert world.writable(fresh_chain) == ["new-db1"]
    fresh_chain.new.run("INSERT INTO site.writes VALUES (NULL, 1, 1, 1, 'new', SYSDATE(6))")
    _agree(fresh_chain)
    assert _plan(fresh_chain, "flip") == []
    assert direct.run(fresh_chain.pillar(), "apply", phase="revert").verdict == "done"
    for server in fresh_chain.servers.values():
        server.restart()
    assert world.writable(fresh_chain) == ["old-db1"]
    assert world.sources(fresh_chain) == world.declared(fresh_chain)


def test_a_fenced_server_that_is_down_at_the_end_of_a_flip_comes_up_fenced(
    fresh_chain: Chain,
) -> None:
    pillar = fresh_chain.pillar()
    pillar["databases"]["deadlines"] |= {"replication": 30_000}
    flip = direct.Command(pillar, "apply", phase="flip")
    flip.until("committed")
    fresh_chain.old.kill()
    # Whether it had already been finished: the role is what counts.
    assert flip.wait().verdict in ("stopped", "done")
    assert fresh_chain.serving() is fresh_chain.new
    fresh_chain.old.start()
    assert fresh_chain.old.value("SELECT @@global.read_only") == 1
    again = direct.run(pillar, "apply", phase="flip")
    assert again.verdict in ("done", "unchanged"), again.problem
    assert direct.run(pillar, "apply", phase="revert").verdict == "done"


def test_a_replica_that_is_gone_for_good_holds_up_neither_the_rest_nor_the_way_back(
    fresh_chain: Chain,
) -> None:
    pillar = fresh_chain.pillar()
    pillar["databases"]["deadlines"] |= {"connect": 1000, "replication": 2000, "abort": 2000}
    flip = direct.Command(pillar, "apply", phase="flip")
    flip.until("committed")
    fresh_chain["old-db2"].kill()
    assert flip.wait().verdict == "stopped"
    again = direct.run(pillar, "apply", phase="flip")
    assert (again.verdict, "old-db2" in again.problem["message"]) == ("stopped", True)
    # It must go from the pillar, and the primaries must not.
    for side, left in (("new", "old"), ("old", "new")):
        other = copy.deepcopy(pillar)
        node = other["databases"][side]
        node["primary"], node["replicas"] = "db2", ["db1"]
        refused = direct.run(other, "apply", phase="flip")
        assert "another pillar" in refused.problem["message"], left
    pillar["databases"]["old"]["replicas"] = []
    # What must come to its end has its time; only what waits for the dead one has not.
    pillar["databases"]["deadlines"] |= {"replication": 30_000}
    finished = direct.run(pillar, "apply", phase="flip")
    assert finished.verdict == "done", finished.problem
    assert direct.run(pillar, "apply", phase="revert").verdict == "done"
    assert fresh_chain.serving() is fresh_chain.old


def test_whoever_waits_for_the_notice_does_not_wait_for_the_other_side(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    pillar["databases"]["deadlines"] |= {"connect": 1000, "abort": 2000}
    whole = direct.run(pillar, "apply", phase="flip")
    assert whole.verdict == "done"
    records = map(json.loads, sabotage.journal(pillar).read_text().splitlines())
    committed = next(n for n, one in enumerate(records, 1) if one["record"] == "committed")
    assert direct.run(pillar, "apply", phase="revert").verdict == "done"
    # Dead right behind the commit point, and the old primary with it.
    assert direct.run(pillar, "apply", f"crash-after:{committed}", phase="flip").rc == -9
    assert fresh_chain.notice_path("new").exists()
    fresh_chain.old.kill()
    stopped = direct.run(pillar, "abort")
    assert stopped.verdict == "stopped"
    assert not fresh_chain.notice_path("new").exists()
    assert "read_only=0" in fresh_chain.new.role_file.read_text()
    fresh_chain.old.start()
    assert direct.run(pillar, "apply", phase="flip").verdict == "done"


def test_a_primary_that_comes_back_closed_after_the_flip_is_opened_by_one_command(
    fresh_chain: Chain,
) -> None:
    pillar = fresh_chain.pillar()
    assert direct.run(pillar, "apply", phase="flip").verdict == "done"
    fresh_chain.new.run("SET GLOBAL read_only=1")
    (alarm,) = [
        one
        for one in direct.run(pillar, "status").answer["alarms"]
        if "no primary accepts writes" in one
    ]
    assert "salt-run migrate.abort" in alarm
    assert direct.run(pillar, "abort").verdict == "done"
    assert world.writable(fresh_chain) == ["new-db1"]
    assert direct.run(pillar, "status").answer["alarms"] == []


def test_the_plan_shows_what_somebody_changed_after_the_flip(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    assert direct.run(pillar, "apply", phase="flip").verdict == "done"
    replica, relay = fresh_chain["new-db2"], fresh_chain["relay"]
    replica.run("STOP SLAVE; RESET SLAVE ALL")
    fresh_chain.replicate(replica, relay)
    planned = direct.run(pillar, "plan", phase="flip").answer["changes"]
    changed = {change["step"]: (change["old"], change["new"]) for change in planned}
    assert changed["source.new-db2"] == (
        {"source": f"{relay.address}:{relay.port}", "running": True},
        {"source": f"{fresh_chain.new.address}:{relay.port}", "running": True},
    )
    fresh_chain.notice_path("old").unlink()
    assert "notice.old" in _plan(fresh_chain, "flip")


def test_what_somebody_changed_after_the_flip_is_mended_by_the_same_command(
    fresh_chain: Chain,
) -> None:
    pillar = fresh_chain.pillar()
    assert direct.run(pillar, "apply", phase="flip").verdict == "done"
    replica = fresh_chain["new-db2"]
    replica.run("STOP SLAVE; RESET SLAVE ALL")
    fresh_chain.replicate(replica, fresh_chain["relay"])
    fresh_chain.notice_path("old").unlink()
    # Nothing to compare with any more, and nothing that a mend waits for.
    pillar["databases"]["checksum_hours"] = 24
    with Writer(fresh_chain, threads=1) as writer:
        time.sleep(0.2)
        mended = direct.run(pillar, "apply", phase="flip")
        time.sleep(0.2)
    assert mended.verdict == "done", mended.problem
    assert _plan(fresh_chain, "flip") == []
    refused = [at for side, at in writer.results.refused if side == "new"]
    assert refused == [], "nobody on the new primary is bothered"


def test_nobody_writes_at_all_and_it_goes_to_and_fro_all_the_same(fresh_chain: Chain) -> None:
    """A demoted primary that nothing new reached must still know where it stands."""
    pillar = fresh_chain.pillar()
    fresh_chain.old.run("INSERT INTO site.writes VALUES (NULL, 1, 1, 1, 'old', SYSDATE(6))")
    for phase in ("flip", "revert", "flip", "revert", "flip"):
        done = direct.run(pillar, "apply", phase=phase)
        assert done.verdict == "done", done.problem
        happened = done.happened("done")
        ended, began = ("new-db1", "old-db1") if phase == "flip" else ("old-db1", "new-db1")
        if f"source.{ended}" in happened:
            # A ring in between would carry a stray write to the live primary.
            assert happened.index(f"source.{ended}") < happened.index(f"source.{began}")
    _agree(fresh_chain)


def test_a_chain_without_a_relay_goes_over_and_back(fresh_chain: Chain) -> None:
    for name in ("new-db1", "new-db2"):
        fresh_chain[name].run("STOP SLAVE; RESET SLAVE ALL")
        fresh_chain.replicate(fresh_chain[name], fresh_chain.old)
    fresh_chain["relay"].run("STOP SLAVE; RESET SLAVE ALL")
    fresh_chain["relay"].stop()
    pillar = fresh_chain.pillar()
    del pillar["databases"]["new"]["relay"]
    here = [server for server in fresh_chain.servers.values() if server.name != "relay"]
    with Writer(fresh_chain, threads=1) as writer:
        for phase, primary in (("flip", fresh_chain.new), ("revert", fresh_chain.old)):
            time.sleep(0.2)
            done = direct.run(pillar, "apply", phase=phase)
            assert done.verdict == "done", done.problem
            assert fresh_chain.serving() is primary
        time.sleep(0.2)
    verdict = judge(fresh_chain, writer.results)
    assert (verdict.lost, verdict.duplicated) == ([], [])
    place = f"{fresh_chain.old.address}:{fresh_chain.port}"
    followers = {server.name: server.run("SHOW SLAVE STATUS") for server in here}
    found = {
        name: f"{rows[0]['Master_Host']}:{rows[0]['Master_Port']}"
        for name, rows in followers.items()
        if rows
    }
    assert found == dict.fromkeys(("old-db2", "new-db1", "new-db2"), place)


def test_a_site_that_ends_idle_connections_soon_does_not_end_the_run_s(fresh_chain: Chain) -> None:
    for server in fresh_chain.servers.values():
        server.run("SET GLOBAL wait_timeout=1")
    pillar = fresh_chain.pillar()
    # Idle since the plan are those to the replicas, until all is over.
    pillar["notice"]["drain"] = 2500
    done = direct.run(pillar, "apply", phase="flip")
    assert done.verdict == "done", done.problem
