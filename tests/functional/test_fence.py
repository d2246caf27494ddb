"""What holds a fence up, what would slip past it, and what happens on a server that is fenced."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.err import OperationalError

from tests.chaos.mending import seed_anew
from tests.lab import direct, world
from tests.lab.cut import Cut
from tests.lab.loopback import Chain
from tests.lab.writer import Writer, judge

ROW = "INSERT INTO site.writes (run,writer,attempt,side,at) VALUES (7,7,{},'old',SYSDATE(6))"
READ_ONLY = 1290


@pytest.fixture
def somebody(fresh_chain: Chain) -> Iterator[pymysql.Connection]:
    """A session of the application on the old primary."""
    app = fresh_chain.app
    connection = fresh_chain.old.connect(app.user, app.password)
    yield connection
    with contextlib.suppress(pymysql.err.Error):
        connection.close()


def pillar(chain: Chain, **deadlines: int) -> dict[str, Any]:
    """The chain's pillar with other limits."""
    found = chain.pillar()
    found["databases"]["deadlines"] |= deadlines
    return found


def test_a_transaction_that_idles_does_not_hold_the_fence_up_and_is_refused(
    fresh_chain: Chain, somebody: pymysql.Connection
) -> None:
    somebody.query("BEGIN")
    somebody.query(ROW.format(1))
    done = direct.run(fresh_chain.pillar(), "apply", phase="flip")
    assert done.verdict == "done", done.problem
    # The flip ends the sessions that still stand on the fenced side, or the commit itself is refused.
    with pytest.raises(OperationalError) as refused:
        somebody.query("COMMIT")
    assert refused.value.args[0] in (READ_ONLY, 2006, 2013)
    fresh_chain.settle()
    assert world.rows(fresh_chain) == {0}


@pytest.mark.parametrize("slow", [True, False], ids=["in time", "never"])
def test_an_edit_in_flight_is_waited_for_up_to_a_limit(fresh_chain: Chain, slow: bool) -> None:
    site = fresh_chain.pillar()
    site["notice"] |= {"drain": 100, "drain_limit": 60_000 if slow else 1500}
    app, node = fresh_chain.app, site["nodes"]["old"]["app1"]["private"]
    with fresh_chain.old.connect(app.user, app.password, bind_address=node) as edit:
        edit.query("BEGIN")
        edit.query(ROW.format(1))
        command = direct.Command(site, "apply", phase="flip")
        command.until("started", "drained")
        if slow:
            # Longer than the timer alone would have given it.
            time.sleep(0.6)
            edit.query("COMMIT")
        drained = command.until("done", "drained")
        if not slow:
            command.until("committed")
            with pytest.raises(OperationalError):
                edit.query("COMMIT")
    done = command.wait()
    assert done.verdict == "done", done.problem
    assert drained["detail"]["left"] == (0 if slow else 1)
    assert drained["milliseconds"] >= (500 if slow else 1500)
    fresh_chain.settle()
    assert world.rows(fresh_chain) == {int(slow)}


@pytest.mark.parametrize(
    "work",
    [
        "UPDATE site.writes SET at = IF(SLEEP(600), at, at)",
        "LOCK TABLES site.writes WRITE",
    ],
    ids=["a long statement", "a table lock"],
)
def test_whoever_holds_the_fence_up_too_long_ends_the_flip_and_nobody_stays_fenced(
    fresh_chain: Chain, somebody: pymysql.Connection, work: str
) -> None:
    fresh_chain.old.run(ROW.format(1))
    fresh_chain.settle()

    def hold() -> None:
        with contextlib.suppress(pymysql.err.Error):
            somebody.query(work)

    holder = threading.Thread(target=hold, daemon=True)
    with Cut(fresh_chain, "new-db1") as cut:
        before = world.look(fresh_chain)
        # After the checks, which would have found it, and before the fence.
        cut.hold(b"INTO saltext_migrate.decision")
        command = direct.Command(cut.pillar(pillar(fresh_chain, fence=500)), "apply", phase="flip")
        assert cut.passed.wait(60)
        holder.start()
        # The lock is held once the server said so, the statement is at work once it sleeps.
        at_work = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE='User sleep'"
        until = time.monotonic() + 60
        while holder.is_alive() and not fresh_chain.old.value(at_work):
            assert time.monotonic() < until
            time.sleep(0.01)
        cut.release()
        done = command.wait()
        fresh_chain.old.run(f"KILL {somebody.thread_id()}")
        holder.join(60)
        assert world.look(fresh_chain) == before
    assert done.verdict == "aborted", done.problem
    assert done.problem["kind"] == "deadline"
    assert "held it up" in done.problem["message"]
    assert done.happened("started")[-1] == "fence"
    assert done.happened("failed") == ["fence"]
    assert fresh_chain.serving() is fresh_chain.old


def test_a_scheduled_event_of_root_writes_nothing_past_the_fence(fresh_chain: Chain) -> None:
    old = fresh_chain.old
    old.run(
        "SET GLOBAL event_scheduler=ON;"
        "CREATE DEFINER=root@localhost EVENT site.tick ON SCHEDULE EVERY 1 SECOND"
        " ON COMPLETION PRESERVE DO " + ROW.format(9)
    )
    fresh_chain.settle()
    done = direct.run(fresh_chain.pillar(), "apply", phase="flip")
    assert done.verdict == "done", done.problem
    time.sleep(2.5)
    domain = str(fresh_chain.pillar()["databases"].get("quarantine_domain", 99))
    state = old.value("SELECT @@gtid_binlog_state")
    assert not [gtid for gtid in state.split(",") if gtid.startswith(f"{domain}-{old.server_id}-")]
    back = direct.run(fresh_chain.pillar(), "apply", phase="revert")
    assert back.verdict == "done", back.problem
    assert old.value("SELECT @@global.event_scheduler") == "ON"


def test_admin_work_on_the_fenced_server_is_seen_and_does_not_end_the_way_back(
    fresh_chain: Chain,
) -> None:
    site = fresh_chain.pillar()
    # Not on what is written: replicas with parallel threads carry two domains out side by side, and
    # one's table may wait for the other's commit for ever (README).
    fresh_chain.old.run("CREATE TABLE site.idle (id INT PRIMARY KEY)")
    # It has the domain that it began with, for as long as it lives.
    early = fresh_chain.old.root()
    with Writer(fresh_chain, threads=1) as writer:
        assert direct.run(site, "apply", phase="flip").verdict == "done"
        with pytest.raises(pymysql.err.MySQLError):
            early.query("FLUSH TABLES")
        for statement in (
            "FLUSH TABLES site.idle",
            "FLUSH STATUS",
            "FLUSH PRIVILEGES",
            "ANALYZE TABLE site.idle",
            "OPTIMIZE TABLE site.idle",
        ):
            fresh_chain.old.run(statement)
        alarms = direct.run(site, "status").answer["alarms"]
        assert [alarm for alarm in alarms if "somebody wrote on it while it was fenced" in alarm]
        time.sleep(0.3)
        back = direct.run(site, "apply", phase="revert")
        assert back.verdict == "done", back.problem
        time.sleep(0.2)
        again = direct.run(site, "apply", phase="flip")
        assert again.verdict == "done", again.problem
        time.sleep(0.2)
    verdict = judge(fresh_chain, writer.results)
    assert (verdict.lost, verdict.duplicated) == ([], [])
    fresh_chain.settle()
    assert len(set(fresh_chain.checksums().values())) == 1


def test_sessions_of_before_end_though_the_run_died_before_it_knew_them(fresh_chain: Chain) -> None:
    early = fresh_chain.old.root()
    with Cut(fresh_chain, "old-db1") as cut:
        site = cut.pillar(fresh_chain.pillar())
        # The other domain is set, and nobody hears of it.
        cut.hold(b"SET GLOBAL gtid_domain_id=", reply=True)
        command = direct.Command(site, "apply", phase="flip")
        assert cut.passed.wait(60)
        command.process.kill()
        command.wait()
        assert direct.run(site, "apply", phase="flip").verdict == "done"
        with pytest.raises(pymysql.err.MySQLError):
            early.query("FLUSH TABLES")


def test_a_flush_between_the_fence_and_the_end_keeps_the_flip_and_says_how_the_way_back_is_mended(
    fresh_chain: Chain,
) -> None:
    old, new = fresh_chain.old, fresh_chain.new
    with Cut(fresh_chain, "new-db1") as cut:
        site = cut.pillar(fresh_chain.pillar())
        cut.hold(b"SET state='promote'", reply=True)
        command = direct.Command(site, "apply", phase="flip")
        assert cut.passed.wait(60)
        until = time.monotonic() + 60
        while world.writable(fresh_chain) != ["new-db1"]:
            assert time.monotonic() < until
        # Somebody is served already, so that the place in the history is taken.
        new.run(ROW.format(1))
        old.run("FLUSH TABLES")
        cut.release()
        done = command.wait()
        assert (done.verdict, done.problem["kind"]) == ("stopped", "apart"), done.problem
        assert f"0-{old.server_id}-" in done.problem["message"]
        assert "seed old-db1 and those below it anew from new-db1" in done.problem["hint"]
        # All else is done, and people work.
        assert world.writable(fresh_chain) == ["new-db1"]
        assert not fresh_chain.notice_path("new").exists()
        assert {"role-at-boot.new-db1", "domain.old-db1", "source.new-db1"} <= set(
            done.happened("done")
        )
        assert any("was not finished" in alarm for alarm in alarms(site))
        again = direct.run(site, "apply", phase="flip")
        assert again.problem["kind"] == "apart"
        seed_anew(fresh_chain, old)
        assert direct.run(site, "apply", phase="flip").verdict == "done"
        assert alarms(site) == []
        assert direct.run(site, "apply", phase="revert").verdict == "done"
        fresh_chain.settle()
        assert len(set(fresh_chain.checksums().values())) == 1
        assert world.rows(fresh_chain) == {1}


def alarms(site: dict[str, Any]) -> list[str]:
    """What the status is alarmed about."""
    return list(direct.run(site, "status").answer["alarms"])


def test_a_way_back_lifts_only_the_fence_of_its_own_run(fresh_chain: Chain) -> None:
    site = pillar(fresh_chain, abort=1500)
    # The engine breaks behind the fence, so that nothing goes back by itself.
    broken = direct.run(site, "apply", "panic-after:fence", phase="flip")
    assert broken.problem["kind"] == "defect"
    assert world.writable(fresh_chain) == []
    fresh_chain.old.run(
        "INSERT INTO saltext_migrate.fence VALUES ('flip-of-others', 'fenced', NOW(6))"
    )
    taken = direct.run(site, "abort")
    assert taken.verdict == "stopped"
    assert "fence" in taken.problem["message"]
    assert world.writable(fresh_chain) == []
    fresh_chain.old.run(
        "UPDATE saltext_migrate.fence SET state='lifted' WHERE run='flip-of-others'"
    )
    assert direct.run(site, "abort").verdict == "aborted"
    assert fresh_chain.serving() is fresh_chain.old


def test_nobody_finds_a_password_in_a_general_log(fresh_chain: Chain) -> None:
    for server in fresh_chain.servers.values():
        server.log_queries()
    for phase in ("flip", "revert"):
        assert direct.run(fresh_chain.pillar(), "apply", phase=phase).verdict == "done"
    for server in fresh_chain.servers.values():
        server.log_queries(on=False)
        text = server.general_log.read_text(errors="replace")
        assert "SHOW ALL SLAVES STATUS" in text
        for account in (fresh_chain.admin, fresh_chain.marker, fresh_chain.replication):
            assert account.password not in text
