"""A plan writes nothing: judged by the servers' own logs, and by the files of the controller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import world
from tests.lab.loopback import Chain
from tests.lab.salt import Ran, SaltMaster

# What a client may send that changes nothing; `SET SESSION` ends with its connection.
READS = re.compile(r"(?i)^(SELECT|SHOW|DO 0|XA RECOVER|SET SESSION|SET autocommit|SET NAMES)\b")
SETTINGS = re.compile(r"(?i)\bSET\s+(GLOBAL|PERSIST)\b|@@global\.\w+\s*:?=(?!=)")


@pytest.fixture
def logged(fresh_chain: Chain) -> Iterator[Chain]:
    """The chain with every statement that a client sends on record."""
    for server in fresh_chain.servers.values():
        server.log_queries()
    yield fresh_chain
    for server in fresh_chain.servers.values():
        server.log_queries(on=False)


def statements(chain: Chain) -> dict[str, list[str]]:
    """What the tool sent to each server; our own switching of the log is left out."""
    found: dict[str, list[str]] = {}
    for name, server in chain.servers.items():
        text = server.general_log.read_text(errors="replace")
        sent = re.findall(r"\t\s*\d+ (?:Query|Execute)\t(.*)", text)
        found[name] = [line for line in sent if "general_log" not in line]
    return found


def writes(chain: Chain) -> dict[str, list[str]]:
    """What among it is no read."""
    found = {
        name: [line for line in sent if not READS.match(line) or SETTINGS.search(line)]
        for name, sent in statements(chain).items()
    }
    return {name: lines for name, lines in found.items() if lines}


def files(chain: Chain) -> dict[str, str]:
    """The files that the controller keeps."""
    state = chain.state / "migrate"
    return {str(path): path.read_text() for path in state.rglob("*") if Path(path).is_file()}


def asked(master: SaltMaster, how: str, phase: str) -> Ran:
    """Asks for the plan of a phase."""
    if how == "orchestrate":
        return master.run("state.orchestrate", f"migrate.{phase}", "test=True")
    return master.run(f"migrate.{how}", phase)


@pytest.mark.parametrize("how", ["plan", "preflight", "orchestrate"])
@pytest.mark.parametrize("phase", ["flip", "revert"])
def test_looking_changes_nothing(
    logged: Chain, salt_master: SaltMaster, how: str, phase: str
) -> None:
    before, kept = world.look(logged), files(logged)
    positions = {name: s.value("SELECT @@gtid_binlog_state") for name, s in logged.servers.items()}
    ran = asked(salt_master, how, phase)
    sent = statements(logged)
    assert all(sent.values()), "every server was asked"
    assert writes(logged) == {}
    assert world.look(logged) == before
    assert files(logged) == kept
    assert positions == {
        name: s.value("SELECT @@gtid_binlog_state") for name, s in logged.servers.items()
    }
    # Nothing flipped yet: a revert refuses nothing, and only writes roles down.
    assert ran.rc == 0, ran.stdout + ran.stderr


def test_the_judge_sees_a_write(logged: Chain) -> None:
    logged.old.run("SET GLOBAL read_only=1")
    logged.new.run("FLUSH TABLES")
    assert set(writes(logged)) == {"old-db1", "new-db1"}


def test_the_plan_is_shown_as_changes_of_a_state(
    fresh_chain: Chain, salt_master: SaltMaster
) -> None:
    ran = salt_master.run("state.orchestrate", "migrate.flip", "test=True")
    assert ran.rc == 0, ran.stdout
    state = ran.states["flip"]
    assert state["result"] is None
    assert state["changes"]["fence"] == {"old": False, "new": True}
    planned = salt_master.run("migrate.plan").answer
    assert list(state["changes"]) == [change["step"] for change in planned["changes"]]
    assert fresh_chain.serving() is fresh_chain.old


def test_what_stands_against_a_flip_is_in_its_plan_and_in_the_exit_code(
    fresh_chain: Chain, salt_master: SaltMaster
) -> None:
    fresh_chain["new-db2"].run("SET GLOBAL read_only=0")
    shown = salt_master.run("migrate.preflight")
    assert shown.rc == 1
    found = [(note["subject"], note["blocking"]) for note in shown.answer]
    assert ("new-db2", True) in found
    tried = salt_master.run("state.orchestrate", "migrate.flip", "test=True")
    assert tried.states["flip"]["result"] is False
    refused = salt_master.run("state.orchestrate", "migrate.flip")
    assert refused.rc == 1
    assert "new-db2: it accepts writes beside the primary" in refused.states["flip"]["comment"]
    assert fresh_chain.serving() is fresh_chain.old
