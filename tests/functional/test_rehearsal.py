"""The rehearsal: the CDN's part on copies, the databases' on a throw-away replica; and a budget."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.functional.test_edge import ADDRESS, SERVICES, Site, edge, origins, site
from tests.functional.test_plan import logged, statements, writes
from tests.lab import direct, world
from tests.lab.cut import Cut
from tests.lab.loopback import Chain
from tests.lab.mariadb import MariaDB
from tests.lab.writer import Writer, judge

__all__ = ["edge", "logged", "origins", "site"]

ROUNDS = 9


def test_the_switch_is_rehearsed_on_copies_and_its_time_becomes_the_flips_budget(
    site: Site,
) -> None:
    for name in SERVICES:
        site.pillar["edge"]["services"][name]["copy"] = {
            "name": f"{name}-copy",
            "domains": [f"{name}-copy.example.org"],
        }
    refused = direct.run(site.pillar, "rehearse")
    assert "a copy of a service to rehearse on" in refused.problem["message"]
    assert direct.run(site.pillar, "edge.apply", phase="copy").verdict == "done"
    services = {s["name"]: s["id"] for s in site.edge.must("GET", "/service?per_page=100")}
    copies = {services[f"{name}-copy"] for name in SERVICES}
    try:
        before = site.active()
        site.edge.settings(spread=[0, 0])
        site.edge.clear_log()
        done = direct.run(site.pillar, "rehearse")
        assert done.verdict == "done", done.problem
        assert done.answer["seen"].keys() == {f"rehearsed.{name}" for name in SERVICES}
        for seen in done.answer["seen"].values():
            assert 0 < seen["activated_ms"] <= seen["everywhere_ms"]

        # Production was neither written nor asked: by the CDN's own log.
        paths = [entry["path"] for entry in site.edge.log()]
        assert any(ident in path for path in paths for ident in copies)
        assert not [path for path in paths for ident in site.ids.values() if ident in path]
        assert site.active() == before
        assert ADDRESS["old"]
        # A second one is as good.
        assert direct.run(site.pillar, "rehearse").verdict == "done"

        # The edge is slower than it was: the flip does not wait for what the pillar would allow.
        site.pillar["edge"]["deadlines"]["proof"] = 60_000
        site.edge.settings(spread=[30_000, 30_000])
        proof = Path(site.pillar["state_dir"], "proofs", "rehearsal.json")
        budget = json.loads(proof.read_text())["evidence"]["foretold"]["edge"]["budget_ms"]
        assert 0 < budget < 30_000
        late = site.apply("flip")
        assert late.verdict == "aborted", late.problem
        assert late.problem["kind"] == "deadline"
        assert f"not within {int(budget)} ms" in late.problem["message"]
        assert site.active() == before
        assert world.writable(site.chain) == ["old-db1"]
    finally:
        site.edge.settings(spread=[0, 0])
        direct.run(site.pillar, "edge.apply", phase="remove-copies")
    assert Path(site.pillar["state_dir"], "proofs", "rehearsal.json").exists()


def throw_away(chain: Chain, **deadlines: int) -> dict[str, Any]:
    """The pillar of the chain, with new-db2 to rehearse on."""
    settings = chain.pillar() | {"rehearsal": {"replica": "db2"}}
    settings["databases"]["deadlines"] |= deadlines
    return settings


def test_the_databases_part_is_rehearsed_on_a_replica_and_costs_production_nothing(
    logged: Chain,
) -> None:
    settings, stray = throw_away(logged), logged["new-db2"]
    # It is nobody's: the chain does without.
    settings["databases"]["new"]["replicas"] = []
    state = "SELECT @@gtid_binlog_state"
    before, states = world.look(logged), {n: s.value(state) for n, s in logged.servers.items()}
    heard = statements(logged)
    done = direct.run(settings, "rehearse")
    assert done.verdict == "done", done.problem
    sent = {name: lines[len(heard[name]) :] for name, lines in statements(logged).items()}

    # By the servers' own logs: production was only read, the others not even asked.
    assert writes(logged).keys() == {"new-db2"}
    assert sent["old-db1"]
    assert not sent["old-db2"] + sent["relay"] + sent["new-db1"]
    # The flip's own packets, on the replica.
    assert sum("SET state='promote'" in line for line in sent["new-db2"]) == ROUNDS
    assert sum("SET STATEMENT max_statement_time" in line for line in sent["new-db2"]) == ROUNDS
    # It is as it was, and what it wrote is its own.
    assert world.look(logged) == before
    assert {n: s.value(state) for n, s in logged.servers.items()} == states
    rows = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME='decision'"
    assert {n for n, s in logged.servers.items() if s.value(rows)} == {"new-db2"}

    foretold = done.answer["foretold"]
    assert foretold.keys() == {"fence", "promotion"}
    for part in foretold.values():
        assert 0 < part["predicted_ms"] <= part["budget_ms"]
    shown = direct.run(settings, "status").answer["health"]["proofs"]["rehearsal"]
    assert shown["foretold"] == foretold

    # Under load, and from where a command that was killed may have left it.
    stray.run("SET GLOBAL read_only=0")
    with Writer(logged, threads=1, period=0.005, retry=0.002) as writer:
        again = direct.run(settings, "rehearse")
    assert again.verdict == "done", again.problem
    assert "read-only.new-db2" in again.happened("done")
    assert world.writable(logged) == ["old-db1"]
    verdict = judge(logged, writer.results)
    assert verdict.acknowledged > 10
    assert (verdict.lost, verdict.duplicated) == ([], [])
    logged.settle()
    assert len(set(logged.checksums().values())) == 1
    assert direct.run(logged.pillar(), "plan", phase="flip").answer["refused"] is False


def test_the_flip_keeps_to_the_budget_of_the_rehearsal(fresh_chain: Chain) -> None:
    settings = throw_away(fresh_chain, fence=30_000, catch_up=30_000)
    foretold = direct.run(settings, "rehearse").answer["foretold"]
    budget, catch_up = (foretold[part]["budget_ms"] for part in ("fence", "promotion"))
    assert max(budget, catch_up) < 10_000
    with Cut(fresh_chain, "new-db1") as cut:
        # After the checks, which would have found it, and before the fence.
        cut.hold(b"INTO saltext_migrate.decision")
        command = direct.Command(cut.pillar(settings), "apply", phase="flip")
        assert cut.passed.wait(60)
        app = fresh_chain.app
        with fresh_chain.old.connect(app.user, app.password) as somebody:
            somebody.query("LOCK TABLES site.writes WRITE")
            cut.release()
            late = command.wait()
    assert late.verdict == "aborted", late.problem
    assert f"held it up): not within {int(budget)} ms" in late.problem["message"]
    assert world.writable(fresh_chain) == ["old-db1"]

    # What was written just before the fence does not arrive.
    with Cut(fresh_chain, "old-db1") as cut:
        there = cut.pillar(settings)
        cut.hold(b"SET STATEMENT max_statement_time")
        command = direct.Command(there, "apply", phase="flip")
        assert cut.passed.wait(60)
        with fresh_chain.new.root() as somebody:
            somebody.query("LOCK TABLES site.writes WRITE")
            fresh_chain.old.run("INSERT INTO site.writes VALUES (NULL, 1, 1, 1, 'old', SYSDATE(6))")
            cut.release()
            late = command.wait()
        assert late.verdict == "aborted", late.problem
        assert "new-db1: receiving everything up to " in late.problem["message"]
        assert f"not within {int(catch_up)} ms" in late.problem["message"]
        assert world.writable(fresh_chain) == ["old-db1"]
        # And one that is not held up is not what the budget is about.
        Path(settings["state_dir"], "proofs", "rehearsal.json").unlink()
        done = direct.run(there, "apply", phase="flip")
    assert done.verdict == "done", done.problem
    moved = direct.run(settings, "rehearse").problem["message"]
    assert "[rehearsal] old-db1: it refuses writes, so there is no flip to rehearse" in moved


def test_a_replica_is_not_opened_for_others_and_is_closed_whatever_happens(
    fresh_chain: Chain,
) -> None:
    settings, stray, app = (
        # Long enough to be seen by whoever looks between two looks of others.
        throw_away(fresh_chain, fence=3000),
        fresh_chain["new-db2"],
        fresh_chain.app,
    )

    def refused() -> str:
        done = direct.run(settings, "rehearse")
        assert done.problem["kind"] == "refused"
        return done.problem["message"]

    with stray.connect(app.user, app.password):
        assert "[rehearsal] new-db2: app has 1 connections open" in refused()
    stray.run("STOP SLAVE SQL_THREAD")
    assert "[rehearsal] new-db2: its replication from" in refused()
    stray.run("START SLAVE")
    fresh_chain.wait_replicating()

    # Somebody's table lock holds the fence up there, while it is open.
    before = world.look(fresh_chain)
    command = direct.Command(settings, "rehearse")
    with stray.root() as somebody:
        somebody.query("LOCK TABLES site.writes WRITE")
        wait_for_close(stray)
        # It was open; from now on the last word gets through.
        assert stray.value("SELECT @@global.read_only") == 0
    done = command.wait()
    assert done.verdict == "aborted", done.problem
    assert "held it up" in done.problem["message"]
    assert world.look(fresh_chain) == before
    assert not Path(settings["state_dir"], "proofs", "rehearsal.json").exists()

    stray.run(stray.FORGET)
    assert "[rehearsal] new-db2: it follows nobody, and may be the primary" in refused()


def wait_for_close(server: MariaDB) -> None:
    """Returns once the fence has failed, and another connection is closing the replica."""
    closing = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO='SET GLOBAL read_only=1'"
    fencing: set[int] = set()
    deadline = time.monotonic() + 60
    while not (found := {row["ID"] for row in server.run(closing)}) - fencing or not fencing:
        fencing = fencing or found
        assert time.monotonic() < deadline
        time.sleep(0.01)
