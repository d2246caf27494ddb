"""The rows of the matrix, as data: what is broken, when, how it is healed, and where it may end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.chaos.case import ABORTED, FLIP, OVER, REVERT, STOPPED, Break, Case, ends
from tests.lab.cut import BOTH, CONTROL, REPLICATION

BACK_OR_OVER = ends(ABORTED, OVER)
ANY = ends(ABORTED, OVER, STOPPED)
READERS, EDITORS = "readers", "editors"
ALL = frozenset({READERS, EDITORS})
# The states of a transfer that matter to a broken link or server, by the moment at which it breaks.
MOMENTS = {
    "before": "before",
    "draining": "started:drained",
    "at the fence": "held:fence",
    "fenced": "held:promotion",
    "promoted": "held:promoted",
    "committed": "committed",
}
# A drain that is long enough for something to happen in it.
DRAIN = {"notice": {"drain": 800}}


def _statements() -> Iterator[Case]:
    """A database connection that is cut in mid-statement."""
    for name, server, text in (
        ("fence", "source", "SET GLOBAL read_only=1"),
        ("promotion", "target", "SET state='promote'"),
        ("decision to go back", "target", "SET state='unfence', decided=NOW(6) WHERE run="),
        ("unfence", "source", "ON DUPLICATE KEY UPDATE state='lifted'"),
    ):
        back = name in ("decision to go back", "unfence")
        for reply in (False, True):
            what = "its answer" if reply else "the statement"
            told = {"server": server, "statement": text, "reply": reply}
            yield Case(
                f"connection cut at the {name}: {what} is lost",
                (Break("cut_at", told=told),),
                ends(ABORTED) if back else BACK_OR_OVER,
                drill="fail-before:promotion" if back else None,
                fast=("" if name != "promotion" else REVERT if reply else FLIP),
            )


def _links() -> Iterator[Case]:
    """Each link of the chain, and the controller's own, cut, silent or slow, at each state."""
    for state, moment in MOMENTS.items():
        refused = state == "before"
        over = state in ("promoted", "committed")
        for place in ("source", "relay", "target"):
            for kind in ("cut", "silence"):
                told = {"server": place, "whose": (REPLICATION,)}
                yield Case(
                    f"link below the {place} {'cut' if kind == 'cut' else 'silent'}: {state}",
                    (Break(kind, moment, None, told),),
                    ends(STOPPED, ABORTED, OVER) if refused or over else ANY,
                    pillar=DRAIN,
                    fast=FLIP if (kind, place, state) == ("silence", "relay", "fenced") else "",
                )
            yield Case(
                f"link below the {place} slow: {state}",
                (Break("slow", moment, None, {"server": place, "seconds": 0.4}),),
                ANY, pillar=DRAIN,
            )  # fmt: skip
        for place in ("source", "target"):
            slow = {"server": place, "seconds": 0.4, "whose": (CONTROL,)}
            yield Case(
                f"the controller's link to the {place} slow: {state}",
                (Break("slow", moment, None, slow),),
                ANY, pillar=DRAIN, unreachable=True,
            )  # fmt: skip
            for kind in ("cut", "silence"):
                told = {"server": place, "whose": (CONTROL,)}
                yield Case(
                    f"the controller's link to the {place} {'cut' if kind == 'cut' else 'silent'}: {state}",
                    (Break(kind, moment, 4.0 if state in ("at the fence", "fenced", "promoted") else None, told),),
                    ANY, pillar=DRAIN, unreachable=True,
                )  # fmt: skip
    yield Case(
        "partition for two seconds between fence and promotion",
        (Break("silence", "held:promotion", 2.0, {"server": "target", "whose": BOTH}),),
        BACK_OR_OVER, unreachable=True, fast=REVERT,
    )  # fmt: skip


def _servers() -> Iterator[Case]:
    """A server that dies, reboots or stands still."""
    for state, moment in MOMENTS.items():
        yield Case(
            f"relay killed: {state}",
            (Break("kill", moment, None, {"server": "relay"}),),
            ANY,
            pillar=DRAIN,
        )
        yield Case(
            f"target killed: {state}",
            (Break("kill", moment, None, {"server": "target"}),),
            ANY, pillar=DRAIN, harms=frozenset() if state == "before" else ALL, unreachable=True,
            fast=FLIP if state == "fenced" else "",
        )  # fmt: skip
        yield Case(
            f"source killed: {state}",
            (Break("kill", moment, None, {"server": "source"}),),
            ANY, pillar=DRAIN, harms=ALL,
        )  # fmt: skip
        yield Case(
            f"a replica killed: {state}",
            (Break("kill", moment, None, {"server": "target's replica"}),),
            ANY, pillar=DRAIN,
        )  # fmt: skip
    for state in ("draining", "at the fence", "fenced", "promoted", "committed"):
        yield Case(
            f"source restarted: {state}",
            (Break("restart", MOMENTS[state], None, {"server": "source"}),),
            ANY, pillar=DRAIN, harms=ALL,
            fast=REVERT if state == "fenced" else "",
        )  # fmt: skip
    for state in ("fenced", "promoted"):
        yield Case(
            f"target stands still: {state}",
            (Break("freeze", MOMENTS[state], 3.0, {"server": "target"}),),
            ANY, harms=ALL, unreachable=True,
        )  # fmt: skip
    yield Case(
        "the new primary's machine reboots right behind the commit point",
        (Break("restart", "committed", None, {"server": "target"}),),
        ANY, harms=ALL, unreachable=True,
    )  # fmt: skip


def _replication() -> Iterator[Case]:
    """Replication that stands, lags, or has what it should not have."""
    for state in ("before", "draining", "fenced", "committed"):
        for place in ("relay", "target"):
            if (state, place) == ("committed", "target"):
                # It follows nobody then.
                continue
            yield Case(
                f"applier error on the {place}: {state}",
                (Break("applier_error" if state in ("before", "draining") else "stop_applier",
                       MOMENTS[state], None, {"server": place}),),
                ANY, pillar={"notice": {"drain": 2500}} if state == "draining" else DRAIN,
                fast=FLIP if (state, place) == ("draining", "relay") else "",
            )  # fmt: skip
    for state in ("before", "draining", "fenced"):
        yield Case(
            f"a replica behind: {state}",
            (Break("behind", MOMENTS[state], None, {"server": "target"}),),
            ANY, pillar=DRAIN,
        )  # fmt: skip
    yield Case(
        "a replica thirty seconds behind",
        (Break("behind", "before", None, {"server": "target", "seconds": 30}),),
        # One that has caught up when its turn comes is in nobody's way.
        ANY, pillar=DRAIN,
    )  # fmt: skip
    for place in ("relay", "target", "source's replica", "target's replica"):
        for state in ("before", "draining"):
            yield Case(
                f"errant transaction on the {place}: {state}",
                (Break("errant", MOMENTS[state], None, {"server": place}),),
                ANY, pillar=DRAIN, leaks=True,
            )  # fmt: skip
    yield Case(
        "errant transaction on the fenced source",
        (Break("errant", "held:promotion", None, {"server": "source"}),),
        ANY, leaks=True,
    )  # fmt: skip


def _work() -> Iterator[Case]:
    """What is at work on the source when the fence comes."""
    yield Case(
        "DDL at the fence",
        (Break("session", "started:drained", None, {"sql": "CREATE TABLE site.long_ddl AS SELECT SLEEP(4) AS s"}),),
        BACK_OR_OVER, pillar={"notice": {"drain": 800, "drain_limit": 900}}, fast=REVERT,
    )  # fmt: skip
    yield Case(
        "somebody holds LOCK TABLES WRITE at the fence",
        (Break("session", "started:drained", None,
               {"sql": "CREATE TABLE IF NOT EXISTS site.held (i INT); LOCK TABLES site.held WRITE"}),),
        BACK_OR_OVER, pillar={"notice": {"drain": 800, "drain_limit": 900}},
    )  # fmt: skip
    yield Case("XA PREPARE before", (Break("prepared"),), ends(STOPPED))
    yield Case(
        "XA PREPARE at the drain", (Break("prepared", "started:drained"),), ANY, pillar=DRAIN
    )
    semisync = {
        "sql": "SET GLOBAL rpl_semi_sync_master_timeout=6000, GLOBAL rpl_semi_sync_master_wait_no_slave=ON,"
        " GLOBAL rpl_semi_sync_master_enabled=ON",
        "mend": "SET GLOBAL rpl_semi_sync_master_enabled=OFF",
    }
    yield Case(
        "a semisync wait at the fence",
        (Break("sql", "started:drained", None, semisync),),
        ANY, pillar=DRAIN, harms=ALL,
    )  # fmt: skip
    beat = "REPLACE INTO beside.beats VALUES (1, SYSDATE(6))"
    yield Case("a heartbeat without special rights", (Break("beside", told={"sql": beat, "grants": ""}),),
               ends(OVER))  # fmt: skip
    for right in ("READ_ONLY ADMIN", "SUPER, READ_ONLY ADMIN"):
        grant = f"GRANT {right} ON *.* TO beside"
        name = right.partition(",")[0]
        yield Case(
            f"a writer with {name}: before",
            (Break("beside", told={"sql": beat, "grants": grant}),),
            ends(STOPPED), fast=FLIP if right == "READ_ONLY ADMIN" else "",
        )  # fmt: skip
        yield Case(
            f"a writer with {name}: at the fence",
            (Break("beside", "started:drained", None, {"sql": beat, "grants": grant, "period": 0.002}),),
            ANY, pillar=DRAIN, leaks=True,
        )  # fmt: skip
    event = {
        "sql": "CREATE DATABASE IF NOT EXISTS beside; CREATE TABLE IF NOT EXISTS beside.events (at DATETIME(6));"
        " CREATE EVENT beside.beat ON SCHEDULE EVERY 1 SECOND DO INSERT INTO beside.events VALUES (SYSDATE(6));"
        " SET GLOBAL event_scheduler=ON",
    }
    yield Case("the event scheduler is on", (Break("sql", told=event),), ends(OVER))


def _going_back() -> Iterator[Case]:
    """What strikes while a run goes back, as it decides so and as it opens the source again; and a guard that dies."""
    faults: tuple[tuple[str, Break, dict[str, Any]], ...] = (
        ("SIGKILL", Break("signal", told={"name": "SIGKILL"}), {}),
        ("SIGINT", Break("signal", told={"name": "SIGINT"}), {}),
        ("the source killed", Break("kill", told={"server": "source"}), {"harms": ALL}),
        ("the target killed", Break("kill", told={"server": "target"}), {"unreachable": True, "harms": ALL}),
        ("the target silent", Break("silence", heal=3.0, told={"server": "target", "whose": (CONTROL,)}),
         {"unreachable": True}),
        ("the source silent", Break("silence", heal=3.0, told={"server": "source", "whose": (CONTROL,)}),
         {"unreachable": True}),
    )  # fmt: skip
    for state, moment in (("decides", "held:deciding"), ("opens", "held:lifting")):
        for name, fault, more in faults:
            yield Case(
                f"{name} while the way back {state}",
                (replace(fault, at=moment),),
                ends(ABORTED, STOPPED), drill="fail-before:promotion", **more,
            )  # fmt: skip
        yield Case(
            f"the disk of the journal is full while the way back {state}",
            (Break("small_disk"), Break("full_disk", moment)),
            ends(ABORTED, STOPPED), drill="fail-before:promotion",
        )  # fmt: skip
    yield Case(
        "the guard dies at the drain",
        (Break("guard_dies", "started:drained"),),
        ends(OVER),
        pillar=DRAIN,
    )


def _edge() -> Iterator[Case]:
    """The CDN refuses, is slow, lies, or is changed by somebody else."""
    for name, fault in {
        "429": {"effect": "answer", "status": 429},
        "500": {"effect": "answer", "status": 500, "times": 3},
        "says yes and does nothing": {"effect": "not-served", "times": 1},
        "its answer is lost": {"effect": "lose-reply", "times": 1},
        "slow": {"effect": "hang", "seconds": 1.0, "times": 4},
        "hangs": {"effect": "hang", "seconds": 4.0, "times": 4},
    }.items():
        yield Case(
            f"the CDN at the activation of one service of two: {name}",
            (Break("fastly", told={"service": "docs", "what": ".*/activate", **fault}),),
            # Where it hangs on the way back too, the run says so and stops.
            ANY if name == "hangs" else BACK_OR_OVER,
            fast=REVERT if name == "says yes and does nothing" else "",
        )
        yield Case(
            f"the CDN while staging: {name}",
            (Break("fastly", told={"what": ".*", "method": "PUT|POST", **fault}),),
            ANY,
        )
    yield Case(
        "points of presence seconds apart",
        (Break("spread", told={"milliseconds": 1500}),),
        ends(OVER),
    )
    yield Case(
        "somebody activates a version between staging and activation",
        (Break("drift", "held:ready"),), ends(ABORTED), directions=(FLIP,), fast=FLIP,
    )  # fmt: skip


def _controller() -> Iterator[Case]:
    """The process that carries the run: signals, a second one, its disk, its clock."""
    for state in ("at the fence", "fenced", "promoted"):
        for name in ("SIGINT", "SIGTERM", "SIGKILL"):
            yield Case(
                f"{name}: {state}", (Break("signal", MOMENTS[state], None, {"name": name}),), BACK_OR_OVER,
                fast=REVERT if (name, state) == ("SIGKILL", "promoted") else "",
            )  # fmt: skip
    # The first is held for as long as the second takes, which is not what its limits are about.
    patient = {"databases": {"deadlines": {"window": 60_000, "catch_up": 60_000}}}
    yield Case(
        "two at once", (Break("another", "held:fence"),), ends(OVER), pillar=patient, fast=FLIP,
    )  # fmt: skip
    for state, moment in MOMENTS.items():
        yield Case(
            f"the disk of the journal is full: {state}",
            (Break("small_disk"), Break("full_disk", moment)), ANY, pillar=DRAIN,
            fast=REVERT if state == "fenced" else "",
        )  # fmt: skip
    for seconds in (3600, -3600):
        word = "forward" if seconds > 0 else "back"
        for state in ("draining", "fenced"):
            yield Case(
                f"the controller's clock jumps an hour {word}: {state}",
                (Break("clock", MOMENTS[state], None, {"seconds": seconds}),),
                BACK_OR_OVER, pillar=DRAIN,
            )  # fmt: skip
    yield Case(
        "the controller's clock jumps an hour back, and the run hangs with the source fenced",
        (Break("clock", "held:promotion", None, {"seconds": -3600}), Break("hang", "held:promotion")),
        ends(ABORTED), pillar=DRAIN, fast=FLIP,
    )  # fmt: skip


def _steps() -> Iterator[Case]:
    """Every signal at every step of a flip's plan that is shown as it starts.

    Fence and promotion are not: their start is told after the commit. `_controller` has signals there, on the wire.
    Nor are tables and the target's domain, which an earlier run may have left as they shall be.
    """
    for name in ("SIGINT", "SIGTERM", "SIGKILL"):
        for step in STEPS:
            yield Case(
                f"{name} as {step} starts",
                (Break("signal", f"started:{step}", None, {"name": name}),), BACK_OR_OVER,
            )  # fmt: skip


STEPS = (
    "edge.docs.staged", "edge.budget", "way-back-tried", "decision", "chain-timed", "break-glass", "guard-ready",
    "fence.announced", "fence.liftable", "role-at-boot.{source}-db1", "notice.{target}", "edge.docs.unmoved",
    "edge.docs", "notice.{source}", "drained", "caught-up", "edge.docs.everywhere", "edge.docs.purged",
    "role-at-boot.{target}-db1", "domain.{source}-db1", "source.{target}-db1",
    "source.{source}-db1", "source.new-db2", "arrived-everywhere",
)  # fmt: skip

ON_LOOPBACK: tuple[Case, ...] = tuple(
    case
    for family in (
        _statements,
        _links,
        _servers,
        _replication,
        _work,
        _going_back,
        _edge,
        _controller,
        _steps,
    )  # fmt: skip
    for case in family()
)


def _clouds() -> Iterator[Case]:
    """What needs whole hosts, and a network between them."""

    def case(name: str, kind: str, at: str, heal: float | None = None, *, told: dict[str, Any] | None = None,
             words: frozenset[str] = ANY, **more: Any) -> Case:  # fmt: skip
        return Case(name, (Break(kind, at, heal, told or {}),), words, bench="clouds", **more)

    yield case(
        "the line between the clouds is slow (150 ms each way)",
        "line",
        "before",
        told={"delay_ms": 150.0},
    )
    yield case(
        "the line between the clouds loses two packets of a hundred",
        "line",
        "before",
        told={"loss": 0.02},
    )
    yield case(
        "the line between the clouds loses ten packets of a hundred",
        "line",
        "before",
        told={"loss": 0.1},
    )
    # What happens in the window is told behind it, for nobody is to wait for a line.
    last = "done:edge.docs"
    for moment in ("started:chain-timed", "started:drained", last, "committed"):
        when = "right before the fence" if moment == last else moment.rpartition(":")[2]
        yield case(
            f"the line between the clouds loses five packets of a hundred: {when}", "line", moment,
            told={"loss": 0.05},
        )  # fmt: skip
    for moment in ("started:chain-timed", "started:drained", last, "committed"):
        when = "right before the fence" if moment == last else moment.rpartition(":")[2]
        yield case(
            f"the clouds are apart for six seconds: {when}", "line", moment, 6.0,
            told={"down": True}, unreachable=True, harms=ALL,
        )  # fmt: skip
    yield case(
        "controller and target do not hear each other: right before the fence", "hosts_apart", last, 6.0,
        told={"a": "deployment", "b": "old-db1"}, directions=(REVERT,), unreachable=True,
    )  # fmt: skip
    yield case(
        "a minion does not answer: before",
        "minion",
        "before",
        told={"host": "old-app1"},
        words=ends(STOPPED),
    )
    yield case(
        "a minion does not answer: at the notice",
        "minion",
        "started:drained",
        told={"host": "new-app1"},
    )
    for moment in ("started:chain-timed", "started:drained", "committed"):
        yield case(f"Salt master restarted: {moment.rpartition(':')[2]}", "salt_master", moment)
    yield case(
        "a highstate on the database hosts in the middle", "highstate", "started:chain-timed",
        # The first one there is restarts the databases; a site's freeze would keep it from being.
        told={"hosts": ("old-db1", "new-db1")}, harms=ALL,
    )  # fmt: skip
    yield case(
        "the relay's host loses its power: at the drain",
        "kill",
        "started:drained",
        told={"server": "relay"},
    )
    yield case(
        "the target's host loses its power: behind the commit point", "kill", "committed",
        told={"server": "target"}, unreachable=True, harms=ALL,
    )  # fmt: skip
    yield case(
        "the source's host reboots: right before the fence",
        "restart",
        last,
        told={"server": "source"},
        harms=ALL,
    )
    # People's files: at each state at which they are looked at or carried.
    carried = {
        "before": "before",
        "on their way": "started:uploads.wiki.ahead",
        "behind the commit point": "committed",
    }
    for state, moment in carried.items():
        for part in ("source", "target"):
            yield case(
                f"the {part}'s storage loses its power: {state}",
                "power",
                moment,
                told={"part": part, "node": "storage1"},
                words=ends(STOPPED) if state == "before" else ANY,
            )
        yield case(
            f"the two storages do not hear each other: {state}",
            "hosts_apart",
            moment,
            told={"a": "old-storage1", "b": "new-storage1"},
        )


ON_CLOUDS: tuple[Case, ...] = tuple(_clouds())
