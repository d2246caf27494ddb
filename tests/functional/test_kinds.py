"""The main promise on every kind of server, in clear and over TLS: there, back, there again, nothing lost."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.functional.conftest import Certified, Certify
from tests.lab import direct, world
from tests.lab.kinds import KINDS
from tests.lab.loopback import Chain
from tests.lab.writer import Writer, judge

SAME = [kind for kind in KINDS if "-to-" not in kind]


def to_and_fro(chain: Chain) -> list[dict[str, Any]]:
    """Flips, reverts, flips and reverts under two writers; returns the findings of the first."""
    pillar = chain.pillar()
    findings: list[dict[str, Any]] = []
    # Enough to lose something; five servers of a kind carry it on two busy processors.
    with Writer(chain, threads=2, period=0.005, retry=0.002) as writer:
        for phase in ("flip", "revert", "flip", "revert"):
            time.sleep(0.3)
            done = direct.run(pillar, "apply", phase=phase)
            assert done.verdict == "done", done.problem
            assert chain.serving() is (chain.new if phase == "flip" else chain.old)
            # Nobody signs here, and that is told.
            told = [note for note in done.answer["findings"] if note["topic"] != "signoff"]
            findings = findings or told
            planned = direct.run(pillar, "plan", phase=phase)
            assert planned.answer["changes"] == [], planned.problem
            if phase == "revert":
                assert world.sources(chain) == world.declared(chain)
        time.sleep(0.3)
    verdict = judge(chain, writer.results)
    assert verdict.acknowledged > 500
    assert (verdict.lost, verdict.duplicated) == ([], [])
    chain.settle()
    sums = chain.checksums()
    assert len(set(sums.values())) == 1, sums
    assert 0 not in sums.values()
    assert direct.run(pillar, "status").answer["alarms"] == []
    return findings


def ready(certify: Certify, kind: str) -> Certified:
    """The servers of a kind, in the declared chain."""
    found = certify(kind)
    if kind == "mysql-9":
        # Other tests share these servers.
        found.chain.home()
    assert found.chain.serving() is found.chain.old
    return found


@pytest.mark.parametrize("way", ["in clear", "over TLS"])
@pytest.mark.parametrize("kind", SAME)
def test_flip_revert_flip_lose_nothing(certify: Certify, kind: str, way: str) -> None:
    certified = ready(certify, kind)
    chain = certified.chain
    chain.secure(certified.authority.certificate if way == "over TLS" else None)
    assert to_and_fro(chain) == []
    for server in chain.servers.values():
        for channel in server.channels():
            assert channel["Master_SSL_Allowed"] == ("Yes" if chain.ca else "No")
            assert chain.ca is None or channel["Master_SSL_Verify_Server_Cert"] == "Yes"


@pytest.mark.parametrize("kind", ["mariadb-10.11", "mysql-9"])
def test_a_password_that_was_rotated_since_the_servers_were_pointed_is_used(
    certify: Certify, kind: str
) -> None:
    certified = ready(certify, kind)
    chain = certified.chain
    chain.secure(certified.authority.certificate)
    pillar = chain.pillar()
    accounts = {
        name: dict(pillar["databases"]["accounts"][name])
        for name in ("admin", "marker", "replication")
    }

    def rotate(passwords: dict[str, str]) -> None:
        for name, password in passwords.items():
            user = accounts[name]["user"]
            chain.old.run(f"ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'")
            pillar["databases"]["accounts"][name]["password"] = password
        # What is connected stays connected; whoever is pointed anew uses the new one.
        chain.settle()

    rotate(dict.fromkeys(accounts, "another one"))
    try:
        for phase in ("flip", "revert"):
            done = direct.run(pillar, "apply", phase=phase)
            assert done.verdict == "done", done.problem
    finally:
        # The tests to come know the first ones.
        rotate({name: account["password"] for name, account in accounts.items()})
        chain.attach()


def test_newer_servers_on_the_new_side_take_over_and_the_plan_says_what_the_vendor_does_not_support(
    certify: Certify,
) -> None:
    chain = certify("mariadb-10.11-to-11.8").chain
    findings = to_and_fro(chain)
    skewed = [finding for finding in findings if finding["topic"] == "versions"]
    assert [finding["subject"] for finding in skewed] == ["new-db1"]
    assert "old-db1 has 10.11" in skewed[0]["found"]
    assert "the vendor does not support the way back" in skewed[0]["mend"]
    assert skewed[0]["blocking"] is False


def test_an_older_server_on_the_new_side_is_refused(certify: Certify) -> None:
    chain = certify("mariadb-10.11-to-11.8").chain
    pillar = chain.pillar()
    assert direct.run(pillar, "apply", phase="flip").verdict == "done"
    # The newer side serves: to go to the older one as if it were new is what is refused.
    for part in ("nodes", "databases"):
        pillar[part]["old"], pillar[part]["new"] = pillar[part]["new"], pillar[part]["old"]
    pillar["databases"]["old"].pop("relay")
    pillar["nodes"]["old"].pop("relay")
    planned = direct.run(pillar, "plan", phase="flip")
    found = [finding for finding in planned.answer["findings"] if finding["topic"] == "versions"]
    # Its primary, and whoever is to follow beside it.
    assert {finding["subject"] for finding in found} == {"new-db1", "new-db2"}
    assert all(finding["blocking"] for finding in found)
    assert "cannot follow a newer one" in found[0]["mend"]
