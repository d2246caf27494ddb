"""Copies and staging as Salt offers them: states of an orchestration, and an execution module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.test_edge_copy import Account
from tests.lab.edge.standin import Edge
from tests.lab.loopback import Chain
from tests.lab.overheard import Overheard, written
from tests.lab.salt import SaltMaster

SHIMS = Path(__file__).resolve().parents[2] / "src" / "saltext" / "migrate"


@pytest.fixture
def account(salt_master: SaltMaster, chain: Chain, tmp_path: Path) -> Iterator[Account]:
    with Edge(("127.0.1.1:0",), delay="none", spread=(0,), unrunnable="hollow",
              staging="127.0.1.3:0") as edge:  # fmt: skip
        account = Account(edge, tmp_path)
        edge.clear_log()
        salt_master.set_pillar(account.pillar)
        yield account
        salt_master.set_pillar(chain.pillar())
        for path in salt_master.states.iterdir():
            path.unlink()


def test_a_copy_is_a_state_of_an_orchestration(salt_master: SaltMaster, account: Account) -> None:
    sls = "docs:\n  migrate_fastly.service_copy: []\n"
    (salt_master.states / "copied.sls").write_text(sls)
    gone = "gone:\n  migrate_fastly.service_copy_absent:\n    - service: '*'\n"
    (salt_master.states / "uncopied.sls").write_text(gone)

    planned = salt_master.run("state.orchestrate", "copied", "test=True")
    assert planned.rc == 0, planned.stdout
    state = planned.states["docs"]
    assert state["result"] is None
    assert state["changes"] == {"edge.docs.copy": {"old": False, "new": True}}
    assert re.search(r"needs \d+ writes", str(state["comment"]))
    assert account.copies() == []
    done = salt_master.run("state.orchestrate", "copied")
    assert done.rc == 0, done.stdout
    assert done.states["docs"]["changes"] == state["changes"]
    assert len(account.copies()) == 1
    again = salt_master.run("state.orchestrate", "copied").states["docs"]
    assert (again["result"], again["changes"]) == (True, {})
    assert salt_master.run("state.orchestrate", "uncopied").rc == 0
    assert account.copies() == []


def test_a_refusal_is_words_in_a_state_and_in_a_function(
    salt_master: SaltMaster, account: Account
) -> None:
    account.declared["domains"] = ["docs.example.org"]
    salt_master.set_pillar(account.pillar)
    (salt_master.states / "copied.sls").write_text("docs:\n  migrate_fastly.service_copy: []\n")
    for ran in (
        salt_master.run("state.orchestrate", "copied"),
        salt_master.run("salt.cmd", "migrate_fastly.copy", "with_pillar=True"),
    ):
        assert "which people use" in ran.stdout + ran.stderr
        assert ran.rc != 0
    ran = salt_master.run("salt.cmd", "migrate_fastly.copy", "nobody", "with_pillar=True")
    assert "one of docs" in ran.stdout + ran.stderr
    assert account.writes() == []


def test_the_token_is_nowhere_though_it_fails_with_every_word_logged(
    salt_master: SaltMaster, account: Account
) -> None:
    (salt_master.states / "copied.sls").write_text("docs:\n  migrate_fastly.service_copy: []\n")
    account.edge.fault("answer", status=500, method="POST", path=".*", times=20)
    with Overheard(salt_master) as overheard:
        ran = salt_master.run("state.orchestrate", "copied", "-l", "debug")
    assert ran.rc == 1, ran.stdout
    assert "copied" in overheard.processes and "migrate/" in overheard.events
    folders = (salt_master.config / "cache", Path(account.pillar["state_dir"]))
    everything = ran.stdout + ran.stderr + overheard.all + written(*folders)
    assert account.edge.token not in everything


def test_the_functions_do_what_their_examples_say(
    salt_master: SaltMaster, account: Account
) -> None:
    text = (SHIMS / "modules" / "migrate_fastly.py").read_text()
    examples = re.findall(r"salt-run salt\.cmd (migrate_fastly\.\w+[^\n]*)", text)
    assert len(examples) >= 9
    for example in examples:
        ran = salt_master.run("salt.cmd", *example.split())
        assert ran.rc == 0, f"{example}: {ran.stdout}{ran.stderr}"
    shown = salt_master.run("salt.cmd", "migrate_fastly.status", "with_pillar=True").data
    assert shown["docs"]["id"] == account.source
    assert len(shown["docs"]["ours"]) == 1
