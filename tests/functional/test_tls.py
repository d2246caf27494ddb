"""Verified TLS to the servers and between them; what cannot be verified is refused in words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.functional.conftest import Certified, Certify
from tests.lab import direct, world
from tests.lab.authority import Authority
from tests.lab.loopback import Chain
from tests.lab.writer import Writer, judge


@pytest.fixture
def secured(certify: Certify) -> Certified:
    """A chain whose servers show certificates, and whose accounts want TLS."""
    found = certify("mariadb-10.11")
    found.chain.reset()
    found.chain.secure(found.authority.certificate)
    return found


@pytest.fixture
def chain(secured: Certified) -> Chain:
    return secured.chain


def pillar(chain: Chain, authority: Authority, **tls: Any) -> dict[str, Any]:
    found = chain.pillar()
    found["databases"]["tls"] = {"ca": str(authority.certificate), **tls}
    return found


def test_a_flip_and_a_revert_over_verified_tls(chain: Chain, secured: Certified) -> None:
    site = pillar(chain, secured.authority)
    with Writer(chain, threads=1) as writer:
        for phase in ("flip", "revert"):
            time.sleep(0.2)
            done = direct.run(site, "apply", phase=phase)
            assert done.verdict == "done", done.problem
            for server in chain.servers.values():
                for channel in server.run("SHOW ALL SLAVES STATUS"):
                    assert channel["Master_SSL_Allowed"] == "Yes"
                    assert channel["Master_SSL_Verify_Server_Cert"] == "Yes"
    verdict = judge(chain, writer.results)
    assert (verdict.lost, verdict.duplicated) == ([], [])
    assert world.sources(chain) == world.declared(chain)


def test_without_tls_in_the_pillar_accounts_that_want_it_refuse(chain: Chain) -> None:
    site = chain.pillar()
    del site["databases"]["tls"]
    done = direct.run(site, "plan", phase="flip")
    assert done.rc == 1
    assert "Access denied" in done.problem["message"]


def test_a_certificate_of_another_authority_is_refused(
    chain: Chain, secured: Certified, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger", "somebody else")
    done = direct.run(pillar(chain, stranger), "plan", phase="flip")
    assert done.rc == 1
    assert "certificate" in done.problem["message"].lower()
    assert "127.0.0." in done.problem["message"]


def test_a_certificate_of_another_server_is_refused_unless_names_are_given_up(
    chain: Chain, secured: Certified
) -> None:
    server, authority = chain.new, secured.authority
    certificate, key = authority.sign("elsewhere", "192.0.2.1")
    own = server.conf_d / "60-elsewhere.cnf"
    own.write_text(f"[mysqld]\nssl_cert={certificate}\nssl_key={key}\n")
    server.restart()
    chain.wait_replicating()
    done = direct.run(pillar(chain, authority), "plan", phase="flip")
    assert done.rc == 1
    assert "new-db1" in done.problem["message"]
    lax = pillar(chain, authority, verify_hostname=False)
    assert direct.run(lax, "plan", phase="flip").rc == 0
    assert direct.run(lax, "apply", phase="flip").verdict == "done"


def test_a_ca_that_is_not_there_is_named(chain: Chain, tmp_path: Path) -> None:
    site = chain.pillar()
    site["databases"]["tls"] = {"ca": str(tmp_path / "nowhere.pem")}
    done = direct.run(site, "plan", phase="flip")
    assert done.rc == 1
    assert (
        f"migrate:databases:tls:ca, {tmp_path / 'nowhere.pem'}: No such file"
        in (done.problem["message"])
    )
