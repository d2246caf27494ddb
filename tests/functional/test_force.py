"""A finding is taken on one by one, with a reason; what breaks a promise never is."""

from __future__ import annotations

import json
from typing import Any

from tests.lab import direct, world
from tests.lab.loopback import Chain
from tests.lab.salt import SaltMaster


def blocking(pillar: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = direct.run(pillar, "plan", phase="flip").answer["findings"]
    return {note["id"]: note for note in found if note["blocking"]}


def test_a_finding_is_forced_by_its_id_and_stands_in_journal_and_report(
    fresh_chain: Chain, salt_master: SaltMaster
) -> None:
    fresh_chain.old.run("GRANT READ_ONLY ADMIN ON *.* TO app@'%'")
    fresh_chain.settle()
    ids = list(blocking(fresh_chain.pillar()))
    # One on each primary: each is a finding of its own.
    assert len(ids) == 2
    assert salt_master.run("migrate.flip").rc == 1
    half = salt_master.run("migrate.flip", f"force={ids[0]}", "reason='it only reads'")
    assert half.rc == 1
    assert ids[0] not in half.stdout.partition("refused")[2]
    assert fresh_chain.serving() is fresh_chain.old
    done = salt_master.run("migrate.flip", f"force={json.dumps(ids)}", "reason='it only reads'")
    assert done.rc == 0, done.stdout
    assert fresh_chain.serving() is fresh_chain.new
    forced = salt_master.run("migrate.report").answer["runs"][0]["forced"]
    assert forced == [{"finding": ident, "reason": "it only reads"} for ident in ids]
    (journal,) = (fresh_chain.state / "migrate" / "runs").glob("*.jsonl")
    assert journal.read_text().count("it only reads") == 2


def test_force_wants_a_reason_and_a_finding_that_is_there(fresh_chain: Chain) -> None:
    fresh_chain.old.run("GRANT READ_ONLY ADMIN ON *.* TO app@'%'")
    fresh_chain.settle()
    pillar = fresh_chain.pillar()
    ids = list(blocking(pillar))
    for order, words in (
        ({"force": ids}, "a reason"),
        ({"force": ids, "reason": "  "}, "a reason"),
        ({"force": "privileges/old-db1/0000", "reason": "x"}, ids[0]),
    ):
        done = direct.run(pillar, "apply", phase="flip", **order)
        assert done.problem["kind"] == "settings"
        assert words in done.problem["message"]
    assert world.writable(fresh_chain) == ["old-db1"]


def test_what_breaks_a_promise_cannot_be_forced(fresh_chain: Chain) -> None:
    pillar = fresh_chain.pillar()
    fresh_chain["new-db2"].run("SET GLOBAL read_only=0")
    (ident,) = blocking(pillar)
    done = direct.run(pillar, "apply", phase="flip", force=ident, reason="trust me")
    assert done.problem["kind"] == "settings"
    assert "breaks a promise" in done.problem["message"]
