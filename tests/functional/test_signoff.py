"""People say go about what is there: a sign-off that is missing, old or about something else stops the flip."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import salt.utils.user

from tests.lab import direct, world
from tests.lab.loopback import Chain
from tests.lab.salt import SaltMaster


def pillar(chain: Chain, **signoff: Any) -> dict[str, Any]:
    return chain.pillar() | {"signoff": {"flip": ["operations", "editors"]} | signoff}


def sign(settings: dict[str, Any], *roles: str) -> direct.Done:
    for role in roles:
        done = direct.run(settings, "signoff", role=role, who="alice", note=f"{role} looked")
        assert done.rc == 0, done.problem
    return done


def findings(settings: dict[str, Any]) -> dict[str, str]:
    planned = direct.run(settings, "plan", phase="flip").answer
    return {f["subject"]: f["found"] for f in planned["findings"] if f["topic"] == "signoff"}


def test_a_flip_asks_for_every_role_and_goes_once_all_have_signed(fresh_chain: Chain) -> None:
    settings = pillar(fresh_chain)
    refused = direct.run(settings, "apply", phase="flip").problem
    assert refused["kind"] == "refused"
    assert "operations: has not signed off" in refused["message"]
    assert "salt-run migrate.signoff role=editors note=" in refused["message"]
    assert sign(settings, "operations").answer["missing"] == ["editors"]
    assert "editors: has not" in direct.run(settings, "apply", phase="flip").problem["message"]
    assert world.writable(fresh_chain) == ["old-db1"]
    assert sign(settings, "editors").answer["missing"] == []

    done = direct.run(settings, "apply", phase="flip")
    assert done.verdict == "done", done.problem
    signed = done.answer["report"]["runs"][0]["signoffs"]
    assert {one["role"]: (one["who"], one["note"]) for one in signed} == {
        "operations": ("alice", "operations looked"),
        "editors": ("alice", "editors looked"),
    }
    # Its own plan is empty: nobody is asked any more.
    again = direct.run(settings, "plan", phase="flip").answer
    assert (again["changes"], again["findings"]) == ([], [])
    # The way back asks nobody, and a second flip asks everybody anew.
    assert direct.run(settings, "apply", phase="revert").verdict == "done"
    stale = findings(settings)["editors"]
    assert re.search(r"is stale: revert-\d+ moved the site since", stale)


def test_the_command_line_signs_as_whoever_typed_it(
    fresh_chain: Chain, salt_master: SaltMaster
) -> None:
    salt_master.set_pillar(pillar(fresh_chain, flip=["operations"]))
    try:
        signed = salt_master.run("migrate.signoff", "role=operations", "note='all pages read'")
        assert signed.rc == 0, signed.stdout
        (one,) = signed.answer["signoffs"]
        assert one["note"] == "all pages read"
        assert one["who"] == salt.utils.user.get_specific_user()
    finally:
        salt_master.set_pillar(fresh_chain.pillar())


def test_a_change_makes_it_stale_and_is_named(fresh_chain: Chain) -> None:
    settings = pillar(fresh_chain)
    sign(settings, "operations", "editors")
    assert findings(settings) == {}

    # Of the plan: somebody changed a file that the flip writes.
    role_file = fresh_chain.old.role_file
    role_file.write_text("[mysqld]\nread_only=0\n")
    found = findings(settings)
    assert (
        found["editors"]
        == "the sign-off of alice is stale: the plan changed in role-at-boot.old-db1"
    )
    refused = direct.run(settings, "apply", phase="flip")
    assert refused.problem["kind"] == "refused"
    assert "the plan changed in role-at-boot.old-db1" in refused.problem["message"]
    role_file.unlink()
    assert findings(settings) == {}

    # Of the pillar.
    other = settings | {"notice": settings["notice"] | {"drain": 7}}
    assert findings(other)["operations"].endswith("is stale: the pillar changed")
    # Of the comparison.
    proofs = Path(settings["state_dir"]) / "proofs"
    record = {"subject": "comparison", "hash": "x", "at": time.time(), "evidence": {}}
    (proofs / "comparison.json").write_text(json.dumps(record))
    assert "the comparison of old and new shows something else" in findings(settings)["editors"]


def test_a_sign_off_has_an_end(fresh_chain: Chain) -> None:
    settings = pillar(fresh_chain, hours=0.0005)
    sign(settings, "operations")
    deadline = time.monotonic() + 60
    while "its time is over" not in findings(settings).get("operations", ""):
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"role": "janitor", "note": "x"}, "expected one of operations, editors"),
        ({"role": "editors", "note": "  "}, "expected what was looked at"),
        ({"role": "editors", "note": "x", "gate": "dance"}, "expected flip or cleanup"),
        ({"role": "editors", "note": "x", "gate": "cleanup"}, "which names none"),
    ],
)
def test_what_is_no_sign_off_is_refused(chain: Chain, order: dict[str, str], words: str) -> None:
    done = direct.run(pillar(chain), "signoff", who="alice", **order)
    assert done.problem["kind"] == "settings"
    assert words in done.problem["message"]


def test_one_can_be_taken_on_with_a_reason_and_that_is_in_the_report(fresh_chain: Chain) -> None:
    settings = pillar(fresh_chain)
    sign(settings, "operations")
    (note,) = [
        f for f in direct.run(settings, "plan", phase="flip").answer["findings"] if f["blocking"]
    ]
    done = direct.run(settings, "apply", phase="flip", force=note["id"], reason="they are asleep")
    assert done.verdict == "done", done.problem
    run = done.answer["report"]["runs"][0]
    assert run["forced"] == [{"finding": note["id"], "reason": "they are asleep"}]
    assert [one["role"] for one in run["signoffs"]] == ["operations"]
