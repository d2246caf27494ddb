"""The tripwire, by the real packet filter, between two network namespaces of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saltext.migrate import _native
from tests.lab import direct
from tests.lab.loopback import MINION, Chain

NEW, OLD = "saltext-addr-new", "saltext-addr-old"
QUIET, LONG = 2, 600

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"),
    reason="network namespaces need root",
)


def inside(
    namespace: str, *command: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", namespace, *command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
    )


def do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[None]:
    """Two hosts on one link: the new one has two addresses of the new side and one of neither."""

    def remove() -> None:
        for namespace in (NEW, OLD):
            with contextlib.suppress(subprocess.CalledProcessError):
                do("ip", "netns", "del", namespace)

    remove()
    try:
        for namespace in (NEW, OLD):
            do("ip", "netns", "add", namespace)
        do(
            "ip",
            "link",
            "add",
            "sxa-new",
            "netns",
            NEW,
            "type",
            "veth",
            "peer",
            "name",
            "sxa-old",
            "netns",
            OLD,
        )
        for namespace, link, addresses in (
            (NEW, "sxa-new", ["10.99.2.11", "10.99.2.21", "10.99.3.3"]),
            (OLD, "sxa-old", ["10.99.1.11"]),
        ):
            for address in addresses:
                inside(namespace, "ip", "address", "add", f"{address}/16", "dev", link)
            inside(namespace, "ip", "link", "set", "lo", "up")
            inside(namespace, "ip", "link", "set", link, "up")
        yield
    finally:
        remove()


def pillar() -> dict[str, Any]:
    accounts = {
        name: {"user": name, "password": "x"} for name in ("admin", "marker", "replication")
    }
    return {
        "nodes": {
            "old": {
                "db1": {"private": "10.99.1.11", "minion": "old-db1"},
                "app1": {"private": "10.99.1.21"},
            },
            "new": {
                "db1": {"private": "10.99.2.11", "minion": "new-db1"},
                "app1": {"private": "10.99.2.21"},
            },
        },
        "databases": {
            "old": {"primary": "db1"},
            "new": {"primary": "db1"},
            "accounts": accounts,
        },
        "notice": {"text": "Migration in progress", "nodes": {"old": [], "new": []}},
        "tripwire": {"quiet": QUIET},
    }


def minions(where: dict[str, str]) -> Callable[[str], str]:
    """Minions that run what they are asked in their namespaces."""

    def ask(question: str) -> str:
        asked = json.loads(question)
        if asked["ask"] == "accepted":
            return "[]"
        answers = {}
        for host in asked["hosts"]:
            said = []
            for call in asked["calls"]:
                if call["function"] == "cmd.run_all":
                    ran = inside(where[host], *call["keywords"]["cmd"])
                    value: Any = {
                        "stdout": ran.stdout,
                        "stderr": ran.stderr,
                        "retcode": ran.returncode,
                    }
                else:
                    value = True
                said.append({"return": value, "retcode": 0})
            answers[host] = said
        return json.dumps(answers)

    return ask


HOSTS = minions({"new-db1": NEW, "old-db1": OLD})


def run(
    command: str, settings: dict[str, Any], ask: Callable[[str], str] = HOSTS, **arguments: Any
) -> Any:
    answer = _native.run(
        command, json.dumps(settings), json.dumps(arguments), ask, lambda event: None, lambda: False
    )
    return json.loads(answer)


def load(settings: dict[str, Any], where: dict[str, str]) -> None:
    for minion, watch in run("addresses.tripwire", settings).items():
        loaded = inside(where[minion], "nft", "-f", "-", stdin=watch["rules"])
        assert loaded.returncode == 0, loaded.stderr


def until_quiet(settings: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    deadline = time.monotonic() + QUIET + 60
    while True:
        told = run("addresses.crossings", settings, **arguments)
        if told["quiet"]:
            return dict(told)
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


SEND = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind((sys.argv[1], 0))
s.sendto(b"x", (sys.argv[2], int(sys.argv[3])))
"""
# A connection from the old side, which the new side answers.
TALK = """
import socket, subprocess, sys
s = socket.create_server(("10.99.2.11", 8080))
c = subprocess.Popen(["ip", "netns", "exec", sys.argv[1], sys.executable, "-c",
    "import socket; s = socket.create_connection(('10.99.2.11', 8080), 5); assert s.recv(9) == b'hello'"])
a, _ = s.accept(); a.sendall(b"hello"); a.close()
sys.exit(c.wait())
"""


def send(namespace: str, source: str, to: str, port: int) -> None:
    sent = inside(namespace, sys.executable, "-c", SEND, source, to, str(port))
    assert sent.returncode == 0, sent.stderr


def test_a_crossing_is_counted_named_and_forgotten(network: None) -> None:
    settings = pillar()
    told = run("addresses.crossings", settings)
    assert [f["found"].split(",")[0] for f in told["findings"]] == ["its rules are not loaded"] * 2
    # Where something must not be over yet, it takes longer than any machine.
    long = settings | {"tripwire": {"quiet": LONG}}
    load(settings, {"new-db1": NEW, "old-db1": OLD})
    told = run("addresses.crossings", long)
    assert {f["found"] for f in told["findings"]} == {f"it has not been watched for {LONG} s yet"}
    until_quiet(settings)

    # What is meant to be, and answers, are no crossings.
    send(NEW, "10.99.2.11", "10.99.1.11", 3306)
    talked = inside(NEW, sys.executable, "-c", TALK, OLD)
    assert talked.returncode == 0, talked.stderr
    told = run("addresses.crossings", settings)
    assert told["quiet"], told
    assert [host["crossings"] for host in told["hosts"].values()] == [0, 0]

    send(NEW, "10.99.2.11", "10.99.1.11", 11211)
    told = run("addresses.crossings", long)
    assert not told["quiet"]
    new, old = told["hosts"]["new-db1"], told["hosts"]["old-db1"]
    crossing = {"protocol": "udp", "port": 11211, "packets": 1, "seconds_ago": 0}
    assert [one | {"seconds_ago": one["seconds_ago"] // LONG} for one in new["recent"]] == [
        {"address": "10.99.1.11", **crossing}
    ]
    assert [one["address"] for one in old["recent"]] == ["10.99.2.11"]
    assert any("10.99.1.11 (udp port 11211, 1 packets)" in f["found"] for f in told["findings"])

    # An address of an old range that no node has is one as well; nobody answers there.
    inside(NEW, "ip", "neigh", "add", "10.99.1.77", "lladdr", "02:00:00:00:00:77", "dev", "sxa-new")
    send(NEW, "10.99.2.11", "10.99.1.77", 53)
    assert run("addresses.crossings", settings)["hosts"]["new-db1"]["crossings"] == 2

    told = until_quiet(settings)
    assert told["hosts"]["new-db1"]["crossings"] == 2, "the count stays"


def test_whoever_still_comes_to_an_old_host_is_named(network: None) -> None:
    settings = pillar()
    load(settings, {"new-db1": NEW, "old-db1": OLD})
    until_quiet(settings, deserted=True)
    send(NEW, "10.99.3.3", "10.99.1.11", 443)
    settings["tripwire"] = {"quiet": LONG}
    told = run("addresses.crossings", settings, deserted=True)
    old = told["hosts"]["old-db1"]
    assert (old["crossings"], old["arrivals"]) == (0, 1)
    assert [a["address"] for a in old["recent_arrivals"]] == ["10.99.3.3"]
    assert any("somebody still comes: 10.99.3.3" in f["found"] for f in told["findings"])
    # Before the flip people do come.
    findings = run("addresses.crossings", settings)["findings"]
    assert not [f for f in findings if "still comes" in f["found"]]


def test_rules_older_than_the_pillar_do_not_count(network: None) -> None:
    settings = pillar()
    load(settings, {"new-db1": NEW, "old-db1": OLD})
    settings["nodes"]["new"]["app2"] = {"private": "10.99.2.31"}
    found = run("addresses.crossings", settings)["findings"]
    assert {f["subject"] for f in found if "older than the pillar" in f["found"]} == {"old-db1"}


def test_the_flip_waits_for_quiet(network: None, fresh_chain: Chain) -> None:
    settings = fresh_chain.pillar()
    settings["tripwire"] = {"quiet": QUIET}
    ask = minions({MINION: NEW})

    def tripwire(phase: str = "flip") -> list[str]:
        findings = run("plan", settings, ask, phase=phase)["findings"]
        return [f["found"] for f in findings if f["topic"] == "tripwire" and f["blocking"]]

    def host_files(question: str) -> str:
        asked = json.loads(question)
        if asked["calls"][0]["function"].startswith("file."):
            refused = {"return": "No such file or directory", "retcode": 1}
            return json.dumps({h: [refused for _ in asked["calls"]] for h in asked["hosts"]})
        return ran(question)

    ran, ask = ask, host_files
    assert tripwire() == ["its rules are not loaded, or are older than the pillar"]
    assert tripwire("revert") == [], "going back is never held up by it"
    load(settings, {MINION: NEW})
    settings["tripwire"] = {"quiet": LONG}
    assert tripwire() == [f"it has not been watched for {LONG} s yet"]
    settings["tripwire"] = {"quiet": QUIET}
    deadline = time.monotonic() + QUIET + 60
    while tripwire():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    shown = run("status", settings, ask)
    assert shown["tripwire"][MINION]["whole"]
    assert not [alarm for alarm in shown["alarms"] if "talk" in alarm]


def test_clean_up_asks_whether_anybody_came_since_the_flip(
    network: None, fresh_chain: Chain
) -> None:
    settings = fresh_chain.pillar()
    cleanup: dict[str, Any] = {"soak_hours": 0, "give_up_revert": "there is no way back"}
    settings |= {"tripwire": {"quiet": QUIET}, "cleanup": cleanup}
    settings["nodes"]["old"]["db1"]["minion"] = "old-db1"
    where = {MINION: NEW, "old-db1": OLD}
    ask = minions(where)
    load(settings, where)
    assert direct.run(fresh_chain.pillar(), "apply", phase="flip").verdict == "done"

    def found() -> dict[str, str]:
        findings = run("plan", settings, ask, phase="cleanup")["findings"]
        return {
            f["id"]: f"{f['topic']} {f['subject']}: {f['found']}" for f in findings if f["blocking"]
        }

    def until(words: str) -> dict[str, str]:
        """Waits for the one finding that begins so; without words, until there is none."""
        deadline = time.monotonic() + QUIET + 60
        while True:
            told = found()
            if len(told) == bool(words) and all(one.startswith(words) for one in told.values()):
                return told
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    # What was open when the site moved has its time to close.
    time.sleep(QUIET + 1)
    until("")
    send(NEW, "10.99.3.3", "10.99.1.11", 443)
    with pytest.raises(_native.MigrateError) as refused:
        run("apply", settings | {"tripwire": {"quiet": LONG}}, ask, phase="cleanup")
    assert "[tripwire] old-db1: somebody " in str(refused.value)
    assert "10.99.3.3 (udp port 443, 1 packets)" in str(refused.value)
    assert fresh_chain.old.run("SHOW SLAVE STATUS")[0]["Slave_SQL_Running"] == "Yes"

    # Long gone, and still somebody who would miss the node; unless people ask for the last hours alone.
    (came,) = until("tripwire old-db1: somebody came ").values()
    assert came.endswith(" min after the flip: 10.99.3.3 (udp port 443, 1 packets)")
    cleanup["quiet_hours"] = QUIET / 3600
    assert found() == {}
    del cleanup["quiet_hours"]

    # A reboot forgets: nobody is known, and that is told and can be taken on.
    rules = run("addresses.tripwire", settings)["old-db1"]["rules"]
    assert inside(OLD, "nft", "-f", "-", stdin=rules).returncode == 0
    settings["tripwire"] = {"quiet": LONG}
    assert f"tripwire old-db1: it has not been watched for {LONG} s yet" in found().values()
    settings["tripwire"] = {"quiet": QUIET}
    (gap,) = until("tripwire old-db1: it was not watched all the time since the flip")
    cleanup["quiet_hours"] = 1
    assert any(
        "old-db1: it has not been watched for 1 hours yet" in one for one in found().values()
    )
    del cleanup["quiet_hours"]
    done = run("apply", settings, ask, phase="cleanup", force=gap, reason="the host was rebooted")
    assert done["verdict"] == "done", done["error"]
    assert fresh_chain.old.run("SHOW SLAVE STATUS") == []
