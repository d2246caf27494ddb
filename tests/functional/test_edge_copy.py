"""Copies of CDN services: like their service in everything but what is meant to differ, and never an orphan.

The judge reads both services from the stand-in by itself, and compares what it reads.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import direct
from tests.lab.direct import Done
from tests.lab.edge import samples
from tests.lab.edge.kinds import KINDS
from tests.lab.edge.standin import Edge

OLD, NEW = "127.0.0.13", "127.0.0.23"
READS = {"GET", "HEAD"}
PLACE = {"service_id", "version", "id", "created_at", "updated_at", "deleted_at", "locked",
         "ipv4", "ipv6", "hostname", "dictionary_id", "acl_id"}  # fmt: skip


class Account:
    """A CDN account with one service that uses every kind of object, and the pillar that copies it."""

    def __init__(self, edge: Edge, state: Path) -> None:
        self.edge = edge
        self.source = samples.every_kind(edge, "docs", ["docs.example.org"], OLD)
        self.pillar: dict[str, Any] = {
            "state_dir": str(state),
            "nodes": {
                "old": {"db1": {"private": "127.0.0.11"}, "app1": {"private": OLD}},
                "new": {"db1": {"private": "127.0.0.21"}, "app1": {"private": NEW}},
            },
            "databases": {
                "old": {"primary": "db1"},
                "new": {"primary": "db1"},
                "accounts": {
                    who: {"user": who, "password": "x"}
                    for who in ("admin", "marker", "replication")
                },
            },
            "notice": {"text": "wait", "nodes": {"old": [], "new": []}},
            "edge": {
                "token": edge.token,
                "api": edge.api,
                "services": {
                    "docs": {
                        "id": self.source,
                        "leave": ["store"],
                        "copy": {"name": "docs-copy", "domains": ["docs-copy.example.org"]},
                    }
                },
                "deadlines": {"request": 60_000, "proof": 60_000},
            },
        }

    @property
    def declared(self) -> dict[str, Any]:
        copy: dict[str, Any] = self.pillar["edge"]["services"]["docs"]["copy"]
        return copy

    def apply(self, phase: str, drill: str | None = None) -> Done:
        return direct.run(self.pillar, "edge.apply", drill, phase=phase)

    def plan(self, phase: str) -> Any:
        planned = direct.run(self.pillar, "edge.plan", phase=phase)
        assert planned.rc == 0, planned.problem
        return planned.answer

    def services(self) -> dict[str, Any]:
        found = self.edge.must("GET", "/service?per_page=100")
        return {item["name"]: item for item in found}

    def copies(self) -> list[str]:
        return [item["id"] for item in self.services().values() if item["id"] != self.source]

    def writes(self) -> list[dict[str, Any]]:
        return [entry for entry in self.edge.log() if entry["method"] not in READS]

    def held(self, ident: str) -> dict[str, Any]:
        """Everything the active version of a service holds, by kind and name; as the judge reads it."""
        edge = self.edge
        number = edge.must("GET", f"/service/{ident}/version/active")["number"]
        version = f"/service/{ident}/version/{number}"
        found: dict[str, Any] = {"settings": edge.must("GET", f"{version}/settings")}
        found["settings"] = _bare(found["settings"])
        found["http3"] = edge.ask("GET", f"{version}/http3")[0]
        for kind in KINDS:
            for item in edge.must("GET", f"{version}/{kind}"):
                shown = _bare(item)
                if kind == "dictionary" and not item["write_only"]:
                    path = f"/service/{ident}/dictionary/{item['id']}/items?per_page=5000"
                    shown["items"] = {
                        i["item_key"]: i["item_value"] for i in edge.must("GET", path)
                    }
                if kind == "acl":
                    path = f"/service/{ident}/acl/{item['id']}/entries?per_page=5000"
                    entries = [_bare(entry) for entry in edge.must("GET", path)]
                    shown["entries"] = sorted(map(json.dumps, entries))
                if kind == "snippet" and item["dynamic"] == "1":
                    body = edge.must("GET", f"/service/{ident}/snippet/{item['id']}")
                    shown["content"] = body["content"]
                found[f"{kind} {item['name']}"] = shown
        return found


def _bare(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in PLACE}


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge(
        ("127.0.1.1:0",), delay="none", spread=(0,), unrunnable="hollow", quota=100000
    ) as running:
        yield running


@pytest.fixture
def account(edge: Edge, tmp_path: Path) -> Iterator[Account]:
    account = Account(edge, tmp_path)
    edge.clear_log()
    yield account
    edge.clear_faults()
    edge.settings(remaining=100000)
    for item in edge.must("GET", "/service?per_page=100"):
        edge.ask("PUT", f"/service/{item['id']}/version/active/deactivate")
        edge.must("DELETE", f"/service/{item['id']}")
    for item in edge.must("GET", "/domain-management/v1/domains?limit=100")["data"]:
        edge.must("DELETE", f"/domain-management/v1/domains/{item['id']}")


def test_a_copy_is_like_its_service_in_everything_but_what_is_meant_to_differ(
    account: Account,
) -> None:
    before = account.held(account.source)
    planned = account.plan("copy")
    assert {entry["method"] for entry in account.edge.log()} <= READS
    done = account.apply("copy")
    assert done.verdict == "done", done.problem
    (copy,) = account.copies()
    assert account.held(account.source) == before
    wanted = {key: value for key, value in before.items() if not key.startswith("logging/")}
    del wanted["domain docs.example.org"]
    held = account.held(copy)
    assert held.pop("domain docs-copy.example.org")
    for backend in ("backend app1", "backend app1 backup"):
        assert wanted[backend].pop("address") == OLD
        assert held[backend].pop("address") == NEW
    assert held.keys() == wanted.keys()
    for key, value in wanted.items():
        assert held[key] == value, key
    assert [entry for entry in map(json.loads, held["acl office"]["entries"])
            if str(entry["negated"]) == "1"]  # fmt: skip
    # What cannot be there is named before, and after.
    left_out = done.answer["seen"]["edge.docs.copy"]["left_out"]
    for missing in ("logging/syslog central", "logging/s3 bucket", "secrets"):
        assert any(missing in words for words in left_out), missing
        assert missing in str(planned["findings"])
    # As many writes as were foretold, each accepted.
    foretold = int(re.search(r"needs (\d+) writes", str(planned["findings"]))[1])  # type: ignore[index]
    writes = account.writes()
    assert len(writes) == foretold
    assert {entry["status"] for entry in writes} == {200}
    assert account.source not in {entry["service"] for entry in writes}
    # And then there is nothing to do.
    account.edge.clear_log()
    assert account.plan("copy")["changes"] == []
    assert account.apply("copy").verdict == "unchanged"
    assert account.writes() == []


def test_no_secret_of_a_service_is_told(account: Account) -> None:
    account.declared["logs"] = {"central": {"address": "test-logs.example.org"}}
    account.edge.fault("answer", method="POST", path="/logging/", status=400,
                       body={"msg": "Bad request"}, times=1)  # fmt: skip
    for _ in range(2):
        done = account.apply("copy")
        told = json.dumps([done.answer, done.error, done.events])
        assert samples.SECRET not in told
        assert account.edge.token not in told
    assert done.verdict == "done", done.problem
    for path in Path(account.pillar["state_dir"]).rglob("*"):
        assert not path.is_file() or samples.SECRET not in path.read_text()


def test_a_log_endpoint_is_pointed_elsewhere_where_that_is_said(account: Account) -> None:
    account.declared["logs"] = {"central": {"address": "test-logs.example.org", "port": 1514}}
    assert account.apply("copy").verdict == "done"
    held = account.held(account.copies()[0])
    assert held["logging/syslog central"]["address"] == "test-logs.example.org"
    assert held["logging/syslog central"]["format"] == "%h"
    assert "logging/s3 bucket" not in held
    account.declared["logs"] = {}
    assert account.apply("copy").verdict == "done"
    assert "logging/syslog central" not in account.held(account.copies()[0])


def test_domains_that_no_version_holds_are_copied_in_their_own_way(account: Account) -> None:
    edge, ident = account.edge, account.source
    edge.must("PUT", f"/service/{ident}/version/2/clone")
    edge.must("DELETE", f"/service/{ident}/version/3/domain/docs.example.org")
    edge.must("PUT", f"/service/{ident}/version/3/activate")
    base = "/domain-management/v1/domains"
    edge.must("POST", base, {"fqdn": "docs.example.org", "service_id": ident})
    account.declared["domains"] = ["docs-copy.example.org", "docs-too.example.org"]
    done = account.apply("copy")
    assert done.verdict == "done", done.problem
    copy = account.copies()[0]
    shown = edge.must("GET", f"{base}?service_id={copy}")["data"]
    assert {item["fqdn"] for item in shown} == set(account.declared["domains"])
    assert not [key for key in account.held(copy) if key.startswith("domain ")]
    assert account.apply("remove-copies").verdict == "done"
    shown = edge.must("GET", base)["data"]
    assert [item["fqdn"] for item in shown] == ["docs.example.org"]


def test_what_changed_at_the_service_is_brought_to_its_copy(account: Account) -> None:
    assert account.apply("copy").verdict == "done"
    edge, ident = account.edge, account.source
    edge.must("PUT", f"/service/{ident}/version/2/clone")
    version = f"/service/{ident}/version/3"
    edge.must("PUT", f"{version}/backend/app1", {"weight": 60, "shield": ""})
    edge.must("DELETE", f"{version}/header/strip")
    edge.must("DELETE", f"{version}/http3")
    edge.must("DELETE", f"{version}/director/all/backend/store")
    edge.must("POST", f"{version}/gzip", {"name": "js", "extensions": "js"})
    edge.must("PUT", f"{version}/vcl/more/main")
    (limiter,) = edge.must("GET", f"{version}/rate-limiters")
    edge.must("PUT", f"/rate-limiters/{limiter['id']}", {"rps_limit": 20})
    edge.must("PUT", f"{version}/activate")
    table = edge.must("GET", f"{version}/dictionary/table")["id"]
    changes = [
        {"op": "delete", "item_key": "k1"},
        {"op": "upsert", "item_key": "n", "item_value": "1"},
    ]
    edge.must("PATCH", f"/service/{ident}/dictionary/{table}/items", {"items": changes})
    office = edge.must("GET", f"{version}/acl/office")["id"]
    first = edge.must("GET", f"/service/{ident}/acl/{office}/entries")[0]["id"]
    edge.must("DELETE", f"/service/{ident}/acl/{office}/entry/{first}")
    (body,) = [s for s in edge.must("GET", f"{version}/snippet") if s["dynamic"] == "1"]
    edge.must("PUT", f"/service/{ident}/snippet/{body['id']}", {"content": "# another"})
    named = str(account.plan("copy")["findings"])
    for words in ("header strip as a whole", "backend app1: weight", "dictionary table: items"):
        assert words in named
    done = account.apply("copy")
    assert done.verdict == "done", done.problem
    (copy,) = account.copies()
    wanted, held = account.held(ident), account.held(copy)
    for key, value in wanted.items():
        if key.startswith("backend "):
            value["address"] = held[key]["address"]
        if not key.startswith(("logging/", "domain ")):
            assert held[key] == value, key
    assert "header strip" not in held


def test_a_copy_that_was_interrupted_after_any_write_is_finished_and_never_doubled(
    account: Account,
) -> None:
    planned = str(account.plan("copy")["findings"])
    # Each run does one write more, and hears nothing of it.
    runs = 0
    while True:
        account.edge.fault("lose-reply", method="POST|PUT|PATCH|DELETE", times=1)
        done = account.apply("copy")
        account.edge.clear_faults()
        assert len(account.copies()) == 1
        if done.verdict != "stopped":
            break
        runs += 1
    assert done.verdict in ("done", "unchanged"), done.problem
    # As many as were foretold: no write was done twice.
    assert f"needs {runs} writes" in planned
    assert account.plan("copy")["changes"] == []


@pytest.mark.parametrize("passed", [3, 60, 150, 260, 290, 310, 330])
def test_a_copy_that_was_interrupted_at_a_call_is_finished(account: Account, passed: int) -> None:
    account.edge.fault("hang", times=passed)
    account.edge.fault("answer", status=500, times=None)
    done = account.apply("copy")
    account.edge.clear_faults()
    # Aborted where it died of a read, before anything was made.
    ends = ("stopped", "aborted", None)
    assert done.verdict in ends, "it came to its end: the numbers are too high"
    assert len(account.copies()) <= 1
    done = account.apply("copy")
    assert done.verdict == "done", done.problem
    assert len(account.copies()) == 1
    assert account.plan("copy")["changes"] == []


def test_a_read_that_a_gateway_dropped_is_sent_again_and_a_write_never(account: Account) -> None:
    account.edge.fault("answer", method="GET", path="/details", status=503, times=2)
    assert account.apply("copy").verdict == "done"
    assert account.apply("remove-copies").verdict == "done"
    account.edge.clear_log()
    account.edge.fault("answer", method="POST", status=503, times=1)
    assert account.apply("copy").verdict == "stopped"
    assert [entry["status"] for entry in account.writes()] == [503]


def test_a_copy_whose_process_was_killed_is_finished(account: Account) -> None:
    for record in range(1, 5):
        done = account.apply("copy", f"crash-after:{record}")
        assert done.rc == -9 or done.verdict in ("done", "unchanged")
    done = account.apply("copy")
    assert done.verdict in ("done", "unchanged"), done.problem
    assert len(account.copies()) == 1
    assert account.plan("copy")["changes"] == []


def test_only_what_carries_our_mark_is_deleted(account: Account) -> None:
    edge = account.edge
    other = edge.create_service("docs-copy-2", ["other.example.org"], activate=False)
    foreign = edge.must("POST", "/service", {"name": "theirs",
                        "comment": "saltext-migrate: copy of another"})["id"]  # fmt: skip
    assert account.apply("copy").verdict == "done"
    (copy,) = set(account.copies()) - {other, foreign}
    edge.must("PUT", f"/service/{copy}", {"name": "renamed by somebody"})
    assert account.plan("copy")["changes"] == []
    done = account.apply("remove-copies")
    assert done.verdict == "done", done.problem
    assert done.answer["seen"]["edge.docs.no-copy"] == [copy]
    assert set(account.copies()) == {other, foreign}
    assert account.apply("remove-copies").verdict == "unchanged"


def test_a_copy_whose_mark_was_taken_away_is_nobody_s_to_delete(account: Account) -> None:
    assert account.apply("copy").verdict == "done"
    (copy,) = account.copies()
    account.edge.must("PUT", f"/service/{copy}", {"comment": "mine now"})
    assert account.apply("remove-copies").verdict == "unchanged"
    assert account.copies() == [copy]
    done = account.apply("copy")
    assert done.problem["kind"] == "refused"
    assert copy in done.problem["message"]


@pytest.mark.parametrize("effect", ["answer", "lose-reply"])
def test_a_removal_that_was_interrupted_is_finished(account: Account, effect: str) -> None:
    assert account.apply("copy").verdict == "done"
    for _ in range(2):
        account.edge.fault(effect, method="PUT|DELETE", times=1)
        account.apply("remove-copies")
    account.edge.clear_faults()
    assert account.apply("remove-copies").verdict in ("done", "unchanged")
    assert account.copies() == []


def test_a_production_domain_is_never_taken(account: Account) -> None:
    account.declared["domains"] = ["Docs.example.org"]
    done = account.apply("copy")
    assert done.problem["kind"] == "refused"
    assert "which people use" in done.problem["message"]
    assert account.writes() == []


def test_a_backend_that_no_node_owns_stops_the_copy(account: Account) -> None:
    del account.pillar["edge"]["services"]["docs"]["leave"]
    done = account.apply("copy")
    assert done.problem["kind"] == "refused"
    assert "127.0.0.99" in done.problem["message"]
    assert account.writes() == []


def test_products_are_named_and_not_skipped_in_silence(account: Account) -> None:
    account.edge.must("PUT", f"/enabled-products/v1/image_optimizer/services/{account.source}")
    assert "the product image_optimizer" in str(account.plan("copy")["findings"])


def test_a_copy_waits_for_the_next_hour_s_writes_and_goes_on(account: Account) -> None:
    account.edge.settings(remaining=20, ends=3)
    done = account.apply("copy")
    assert done.verdict == "done", done.problem
    assert [event for event in done.events if event["happening"] == "warning"]
    assert [entry for entry in account.writes() if entry["status"] == 429]
    assert account.plan("copy")["changes"] == []


def test_a_wait_that_is_too_long_ends_with_the_moment(account: Account) -> None:
    account.pillar["edge"]["deadlines"]["quota"] = 2000
    account.edge.settings(remaining=20, resets=time.time() + 600)
    done = account.apply("copy")
    assert done.verdict == "stopped"
    assert done.problem["kind"] == "deadline"
    account.edge.settings(remaining=100000)
    assert account.apply("copy").verdict == "done"
    assert len(account.copies()) == 1
