"""Old and new compared through the CDN: by way of the copied service, and of the version on its staging network."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.test_edge import Site, origins, site
from tests.lab import direct
from tests.lab.edge.standin import Edge

__all__ = ["origins", "site"]

STAGING = ("127.0.1.3", 80)


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    # The API tells the staging network's address without a port, so it is the scheme's own.
    with socket.socket() as probe:
        try:
            probe.bind(STAGING)
        except OSError as why:
            pytest.skip(f"port 80: {why}")
    with Edge(delay="none", spread=(0, 0), staging="{}:{}".format(*STAGING)) as running:
        yield running


def compared(settings: dict[str, Any]) -> dict[str, Any]:
    done = direct.run(settings, "compare")
    assert done.rc == 0, done.problem
    answer: dict[str, Any] = done.answer
    return answer


def test_each_way_shows_the_new_side_beside_the_live_service(site: Site) -> None:
    settings = site.pillar
    docs = {"hosts": ["docs.example.org"], "node": "app1", "scheme": "http", "path": "/"}
    # The probe's header, which names the version, is left out; the staging network has a point of presence of its own.
    compare = {"ways": ["copy", "staged"], "ignore_headers": ["x-pop"]}
    settings |= {"vhosts": {"docs": docs}, "compare": compare}
    copy = {"name": "docs-copy", "domains": ["docs-copy.example.org"]}
    settings["edge"]["services"]["docs"]["copy"] = copy
    missing = direct.run(settings, "compare").problem
    assert missing["kind"] == "not-yet"
    assert "a version of docs on the staging network" in missing["message"]

    assert direct.run(settings, "edge.apply", phase="copy").verdict == "done"
    try:
        assert direct.run(settings, "edge.apply", phase="trial").verdict == "done"
        asked = [*((pop, "docs-copy") for pop in site.edge.pops), (site.edge.staging, "docs")]
        deadline = time.monotonic() + 60
        while {site.ask(*one) for one in asked} != {"new"}:
            assert time.monotonic() < deadline
        seen = compared(settings)
        found = {(d["way"], d["url"], d["what"], d["old"], d["new"]) for d in seen["differences"]}
        assert found == {
            ("copy", "http://docs-copy.example.org/", "body", "old", "new"),
            ("staged", "http://docs.example.org/", "body", "old", "new"),
        }
        assert seen["urls"] == 2
        assert seen["latency"].keys() == {"copy docs", "staged docs"}
        # A page that is the same by either way; and the live service is where it was.
        settings["compare"]["ignore"] = ["old", "new"]
        assert compared(settings)["differences"] == []
        assert site.serves("old")
    finally:
        direct.run(settings, "edge.apply", phase="remove-copies")
