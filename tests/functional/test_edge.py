"""The services of the CDN in a flip and a revert: all of them or none, and never somebody else's.

The databases are the loopback chain, the CDN is the stand-in with two points of presence.
"""

from __future__ import annotations

import http.client
import http.server
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import direct, sabotage, world
from tests.lab.cut import Cut
from tests.lab.direct import Done
from tests.lab.edge.standin import Edge
from tests.lab.loopback import Chain

SERVICES = ("blog", "docs", "talk")
ADDRESS = {"old": "127.0.0.13", "new": "127.0.0.23"}
READS = {"GET", "HEAD"}


class _Origin(http.server.ThreadingHTTPServer):
    """An application node that answers its side."""

    daemon_threads = True

    def __init__(self, side: str, port: int) -> None:
        super().__init__((ADDRESS[side], port), _Answer)
        self.side = side
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Answer(http.server.BaseHTTPRequestHandler):
    server: _Origin

    def do_GET(self) -> None:
        body = self.server.side.encode()
        # An error that a misled edge would keep: it is allowed to be cached.
        broken = self.path == "/broken"
        self.send_response(404 if broken else 200)
        kept = broken or self.path == "/cached"
        self.send_header("Cache-Control", "max-age=600" if kept else "no-store")
        self.send_header("Surrogate-Key", "error" if broken else "page")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing: the judges speak."""


class Site:
    """A chain with services in front of it."""

    def __init__(
        self, chain: Chain, edge: Edge, port: int, services: tuple[str, ...] = SERVICES
    ) -> None:
        self.chain, self.edge = chain, edge
        self.ids = {}
        for name in services:
            backend = {"name": "app1", "address": ADDRESS["old"], "port": port, "weight": 70}
            other = {"name": "store", "address": "127.0.0.99", "port": port, "weight": 1}
            self.ids[name] = edge.create_service(name, [f"{name}.example.org"], [backend, other])
        self.pillar: dict[str, Any] = chain.pillar()
        self.pillar["edge"] = {
            "token": edge.token,
            "api": edge.api,
            "services": {name: self._service(name) for name in services},
            "deadlines": {"request": 60_000, "proof": 60_000},
        }

    def _service(self, name: str) -> dict[str, Any]:
        probe = {"url": f"http://{name}.example.org/", "addresses": self.edge.pops}
        return {"id": self.ids[name], "probe": probe, "leave": ["store"], "purge": "all"}

    def proof_within(self, milliseconds: int) -> None:
        """Sets how long the edge may take until it serves what it was told to."""
        self.pillar["edge"]["deadlines"]["proof"] = milliseconds

    def apply(self, phase: str, drill: str | None = None) -> Done:
        return direct.run(self.pillar, "apply", drill, phase=phase)

    def active(self) -> dict[str, int]:
        """Returns the active version of each service."""
        return {
            name: self.edge.must("GET", f"/service/{ident}/details")["active_version"]["number"]
            for name, ident in self.ids.items()
        }

    def served(self, name: str, path: str = "/") -> list[str]:
        """Returns which side answers people, through each point of presence."""
        return [self.ask(pop, name, path) for pop in self.edge.pops]

    def ask(self, pop: str, name: str, path: str = "/") -> str:
        connection = http.client.HTTPConnection(pop, timeout=30)
        try:
            connection.request("GET", path, headers={"Host": f"{name}.example.org"})
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def sent_to(self, name: str) -> str:
        """Returns which side the active version of a service sends people to."""
        version = self.edge.must("GET", f"/service/{self.ids[name]}/details")["active_version"]
        sides = {address: side for side, address in ADDRESS.items()}
        return next(sides[one["address"]] for one in version["backends"] if one["name"] == "app1")

    def serves(self, side: str) -> bool:
        return all(set(self.served(name)) == {side} for name in self.ids)

    def remove(self) -> None:
        """Takes the services out of the account."""
        for ident in self.ids.values():
            self.edge.must("PUT", f"/service/{ident}/version/active/deactivate")
            self.edge.must("DELETE", f"/service/{ident}")

    def comes_to_serve(self, side: str) -> None:
        """Waits: the API's answer is not yet the edge's, points of presence follow when they can."""
        deadline = time.monotonic() + 60
        while not self.serves(side):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge(delay="none", spread=(0, 120), staging="127.0.1.3:0") as running:
        yield running


@pytest.fixture(scope="module")
def origins() -> Iterator[int]:
    first = _Origin("old", 0)
    port = int(first.server_address[1])
    second = _Origin("new", port)
    yield port
    for origin in (first, second):
        origin.shutdown()
        origin.server_close()


@pytest.fixture
def site(fresh_chain: Chain, edge: Edge, origins: int) -> Iterator[Site]:
    edge.settings(spread=[0, 0])
    site = Site(fresh_chain, edge, origins)
    try:
        site.comes_to_serve("old")
        edge.settings(spread=[0, 120])
        edge.clear_log()
        yield site
    finally:
        edge.clear_faults()
        site.remove()


def test_a_plan_only_reads(site: Site) -> None:
    planned = direct.run(site.pillar, "plan", phase="flip")
    assert planned.rc == 0, planned.problem
    assert {f"edge.{name}" for name in SERVICES} <= {
        change["step"] for change in planned.answer["changes"]
    }
    assert {entry["method"] for entry in site.edge.log()} <= READS


def test_every_service_goes_over_and_back_and_nothing_else_of_it_changes(site: Site) -> None:
    before = site.active()
    for phase, side in (("flip", "new"), ("revert", "old"), ("flip", "new")):
        done = site.apply(phase)
        assert done.verdict == "done", done.problem
        assert site.serves(side)
        assert direct.run(site.pillar, "plan", phase=phase).answer["changes"] == []
    for name, ident in site.ids.items():
        backends = {
            backend["name"]: backend
            for backend in site.edge.must("GET", f"/service/{ident}/details")["active_version"][
                "backends"
            ]
        }
        assert backends["app1"]["address"] == ADDRESS["new"]
        assert backends["app1"]["weight"] == 70
        assert backends["store"]["address"] == "127.0.0.99"
        assert site.active()[name] > before[name]


def test_a_version_that_sends_people_to_the_other_side_is_an_alarm(site: Site) -> None:
    before = site.active()
    assert site.apply("flip").verdict == "done"
    assert direct.run(site.pillar, "status").answer["alarms"] == []
    # As a request that was given up for lost, and is carried out after all.
    name, ident = next(iter(site.ids.items()))
    site.edge.activate(ident, before[name])
    (alarm,) = direct.run(site.pillar, "status").answer["alarms"]
    assert alarm.startswith(
        f"edge.{name}: version {before[name]} serves, and sends people to the old"
    )
    assert "salt-run migrate.flip" in alarm
    assert site.apply("flip").verdict == "done"
    site.comes_to_serve("new")
    assert direct.run(site.pillar, "status").answer["alarms"] == []


def test_one_activation_each_and_none_before_the_notice(site: Site) -> None:
    done = site.apply("flip")
    assert done.verdict == "done", done.problem
    activations = [entry for entry in site.edge.log() if entry["path"].endswith("/activate")]
    assert len(activations) == len(SERVICES)
    happened = [(event["happening"], event["step"]) for event in done.events]
    for name in SERVICES:
        assert happened.index(("done", "notice.new")) < happened.index(("started", f"edge.{name}"))
        assert happened.index(("done", f"edge.{name}")) < happened.index(("started", "fence"))


@pytest.mark.parametrize(
    "fault",
    [
        {"effect": "answer", "status": 500},
        {"effect": "answer", "status": 429},
        {"effect": "not-served"},
        {"effect": "lose-reply"},
    ],
    ids=["refuses", "has no write left", "says yes and does nothing", "its answer is lost"],
)
def test_where_one_service_does_not_switch_all_stay_and_no_database_is_touched(
    site: Site, fault: dict[str, Any]
) -> None:
    before, old = site.active(), world.look(site.chain)
    if fault["effect"] == "not-served":
        site.proof_within(3000)
    site.edge.fault(method="PUT", path=f"/service/{site.ids['talk']}/version/.*/activate",
                    times=1, **fault)  # fmt: skip
    done = site.apply("flip")
    assert done.verdict == "aborted", done.problem
    assert site.active() == before
    assert site.serves("old")
    assert world.look(site.chain) == old
    assert "fence" not in done.happened("started")
    site.proof_within(60_000)
    again = site.apply("flip")
    assert again.verdict == "done", again.problem
    assert site.serves("new")


def test_points_of_presence_that_follow_late_are_waited_for(site: Site) -> None:
    site.edge.settings(spread=[0, 1200])
    done = site.apply("flip")
    assert done.verdict == "done", done.problem
    assert site.serves("new")


def test_points_of_presence_that_do_not_follow_in_time_send_everybody_back(site: Site) -> None:
    before = site.active()
    site.edge.settings(spread=[5000, 5000])
    site.proof_within(3000)
    done = site.apply("flip")
    assert done.verdict == "aborted", done.problem
    assert done.problem["kind"] == "deadline"
    assert site.active() == before
    assert world.writable(site.chain) == ["old-db1"]


def test_a_version_that_somebody_activated_in_between_is_left_alone(site: Site) -> None:
    with Cut(site.chain, "new-db1") as cut:
        # The flip stands still between the staging and the window.
        cut.hold(b"INTO saltext_migrate.decision")
        command = direct.Command(cut.pillar(site.pillar), "apply", phase="flip")
        command.until("done", "edge.docs.staged")
        assert cut.passed.wait(60)
        foreign = site.edge.point_backend(site.ids["docs"], "store", weight=2)
        site.edge.activate(site.ids["docs"], foreign)
        cut.release()
        done = command.wait()
    assert done.verdict == "aborted", done.problem
    assert done.problem["kind"] == "drift"
    assert str(foreign) in done.problem["message"]
    assert site.active()["docs"] == foreign
    # Theirs, which nobody proved.
    site.comes_to_serve("old")


def test_a_version_that_somebody_activated_while_the_run_was_dead_is_left_alone(site: Site) -> None:
    """Its predecessor had looked; whoever goes on looks again."""
    for name in ("blog", "talk"):
        del site.pillar["edge"]["services"][name]
    before = site.active()
    # Longer than the test: it dies with its request on the way.
    site.edge.fault("hang", seconds=60, times=1, method="PUT",
                    path=f"/service/{site.ids['docs']}/version/.*/activate")  # fmt: skip
    flip = direct.Command(site.pillar, "apply", phase="flip")
    flip.until("started", "edge.docs")
    flip.process.kill()
    assert flip.wait().rc == sabotage.KILLED
    died = sabotage.journal(site.pillar).read_text()
    assert '"record":"done","step":"edge.docs.unmoved"' in died
    assert site.active() == before
    site.edge.clear_faults()
    foreign = site.edge.point_backend(site.ids["docs"], "store", weight=2)
    site.edge.activate(site.ids["docs"], foreign)
    done = site.apply("flip")
    assert done.verdict == "aborted", done.problem
    assert done.problem["kind"] == "drift"
    assert site.active()["docs"] == foreign
    assert site.apply("flip").verdict == "done"
    active = site.edge.must("GET", f"/service/{site.ids['docs']}/details")["active_version"]
    assert [one["weight"] for one in active["backends"] if one["name"] == "store"] == [2]


def test_a_request_that_is_carried_out_after_the_way_back_is_taken_back_too(site: Site) -> None:
    """As one of a run that died: our own version, and nobody else's doing."""
    for name in ("blog", "talk"):
        del site.pillar["edge"]["services"][name]
    del site.pillar["edge"]["services"]["docs"]["probe"]
    ident, base = site.ids["docs"], site.active()["docs"]

    def active(version: int) -> bool:
        known = site.edge.must("GET", f"/service/{ident}/version")
        return any(one["number"] == version and one["active"] for one in known)

    def gone_back() -> list[int | None]:
        log = site.edge.log()
        return [
            one["status"]
            for one in log
            if one["path"].endswith(f"/{base}/activate") and one["status"]
        ]

    # Whoever goes back looks once more, and hears of its own activation only when the other was carried out.
    site.edge.fault("hold-reply", method="PUT", path=f"/service/{ident}/version/{base}/activate")
    command = direct.Command(site.pillar, "apply", "fail-after:edge.docs", phase="flip")
    deadline = time.monotonic() + 60
    while not gone_back():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    site.edge.activate(ident, base + 1)
    site.edge.release()
    done = command.wait()
    assert done.verdict == "aborted", done.problem
    assert active(base)
    assert gone_back() == [200, 200], "once more"


def test_an_address_that_no_node_owns_is_found_before_anybody_is_bothered(site: Site) -> None:
    del site.pillar["edge"]["services"]["docs"]["leave"]
    done = site.apply("flip")
    assert done.problem["kind"] == "refused"
    assert "127.0.0.99" in done.problem["message"]
    assert {entry["method"] for entry in site.edge.log()} <= READS


def test_what_nobody_proves_and_what_nobody_purges_is_said(site: Site) -> None:
    for key in ("probe", "purge"):
        del site.pillar["edge"]["services"]["docs"][key]
    planned = direct.run(site.pillar, "plan", phase="flip")
    told = {(note["subject"], note["found"], note["blocking"])
            for note in planned.answer["findings"] if note["subject"] == "docs"}  # fmt: skip
    assert told == {
        ("docs", "it has no probe, so the API's word is taken for the edge's", False),
        ("docs", "nothing is purged, so pages cached before the switch live on", False),
    }


def test_a_staging_that_died_is_finished_and_not_doubled(site: Site) -> None:
    drafts = len(site.edge.must("GET", f"/service/{site.ids['docs']}/version"))
    site.edge.fault("answer", status=500, method="PUT", path=".*/backend/app1", times=3)
    done = site.apply("flip")
    assert done.verdict == "aborted", done.problem
    done = site.apply("flip")
    assert done.verdict == "done", done.problem
    assert len(site.edge.must("GET", f"/service/{site.ids['docs']}/version")) == drafts + 1


def test_what_was_cached_before_the_switch_does_not_live_on(site: Site) -> None:
    assert site.served("docs", "/cached") == ["old", "old"]
    assert site.apply("flip").verdict == "done"
    assert site.served("docs", "/cached") == ["new", "new"]


def test_the_token_stands_nowhere(site: Site) -> None:
    site.edge.fault("answer", status=500, method="PUT", path=".*/activate", times=1)
    done = site.apply("flip")
    assert site.edge.token not in str(done.answer) + str(done.events)
    for path in Path(site.pillar["state_dir"]).rglob("*"):
        assert not path.is_file() or site.edge.token not in path.read_text()


def test_only_what_carries_a_key_is_dropped_where_keys_are_given(site: Site) -> None:
    site.pillar["edge"]["services"]["docs"]["purge"] = {"keys": ["error"]}
    for path in ("/cached", "/broken"):
        assert site.served("docs", path) == ["old", "old"]
    for phase, side in (("flip", "new"), ("revert", "old")):
        assert site.apply(phase).verdict == "done"
        assert site.served("docs", "/broken") == [side, side]
        assert site.served("docs", "/cached") == ["old", "old"]


def test_what_was_cached_in_the_window_does_not_survive_an_abort(site: Site) -> None:
    # One whose activation is refused at last, so that the others serve the new side until then.
    site.edge.fault("hold", method="PUT", status=500,
                    path=f"/service/{site.ids['talk']}/version/.*/activate")  # fmt: skip
    command = direct.Command(site.pillar, "apply", phase="flip")
    command.until("done", "edge.docs")
    deadline = time.monotonic() + 60
    while site.served("docs") != ["new", "new"]:
        assert time.monotonic() < deadline
    assert site.served("docs", "/broken") == ["new", "new"]
    site.edge.release()
    assert command.wait().verdict == "aborted"
    assert site.served("docs", "/broken") == ["old", "old"]


def test_a_version_is_tried_on_the_staging_network_before_it_serves_anybody(site: Site) -> None:
    done = direct.run(site.pillar, "edge.apply", phase="trial")
    assert done.verdict == "done", done.problem
    trial = done.answer["seen"]["edge.docs.trial"]
    assert trial["addresses"] == {"docs.example.org": "127.0.1.3"}
    assert site.edge.staging
    assert site.ask(site.edge.staging, "docs") == "new"
    assert site.serves("old")
    assert direct.run(site.pillar, "edge.plan", phase="trial").answer["changes"] == []
    # A flip takes the version that was tried, and one write asks how many are left.
    planned = str(direct.run(site.pillar, "plan", phase="flip").answer["findings"])
    site.edge.clear_log()
    versions = len(site.edge.must("GET", f"/service/{site.ids['docs']}/version"))
    assert site.apply("flip").verdict == "done"
    writes = [entry for entry in site.edge.log() if entry["method"] not in READS]
    assert f"needs {len(writes)} writes" in planned
    assert site.active()["docs"] == trial["version"]
    assert len(site.edge.must("GET", f"/service/{site.ids['docs']}/version")) == versions


def test_a_draft_of_somebody_else_is_named_and_left_alone(site: Site) -> None:
    draft = site.edge.point_backend(site.ids["docs"], "store", weight=2)
    planned = direct.run(site.pillar, "plan", phase="flip").answer
    assert f"version {draft} is somebody's draft" in str(planned["findings"])
    assert site.apply("flip").verdict == "done"
    path = f"/service/{site.ids['docs']}/version/{draft}"
    assert site.edge.must("GET", path)["locked"] is False
    assert site.edge.must("GET", f"{path}/backend/app1")["address"] == ADDRESS["old"]
    # A clone of what the flip activated carries its comment, and is theirs all the same.
    draft = site.edge.point_backend(site.ids["docs"], "store", weight=3)
    planned = direct.run(site.pillar, "plan", phase="revert").answer
    assert f"version {draft} is somebody's draft" in str(planned["findings"])


def test_a_draft_of_ours_that_somebody_edited_is_not_activated(site: Site) -> None:
    # The first point fails, so that our draft stays open; then somebody puts a header into it.
    site.edge.fault("answer", status=500, method="PUT", path=".*/backend/app1", times=3)
    assert site.apply("flip").verdict == "aborted"
    before = site.active()
    draft = site.edge.must("GET", f"/service/{site.ids['docs']}/version")[-1]["number"]
    header = {"name": "theirs", "type": "response", "action": "set", "dst": "http.X", "src": '"x"'}
    site.edge.must("POST", f"/service/{site.ids['docs']}/version/{draft}/header", header)
    done = site.apply("flip")
    assert done.verdict == "aborted"
    assert done.problem["kind"] == "drift"
    assert "header theirs" in done.problem["message"]
    assert site.active() == before


def test_names_beside_the_cdn_are_listed_with_what_to_set(site: Site) -> None:
    site.pillar["names"] = {
        "example.org": {"values": {"old": "203.0.113.21", "new": "198.51.100.21"}, "ttl": 3600}
    }
    for phase, old, new in (
        ("flip", "203.0.113.21", "198.51.100.21"),
        ("revert", "198.51.100.21", "203.0.113.21"),
    ):
        if phase == "revert":
            assert site.apply("flip").verdict == "done"
        planned = direct.run(site.pillar, "plan", phase=phase).answer
        (found,) = [item for item in planned["findings"] if item["topic"] == "names"]
        assert (found["subject"], found["blocking"]) == ("example.org", False)
        assert f"A {old}" in found["found"] and "3600 s" in found["found"]
        assert f"set A {new}" in found["mend"]


def test_a_budget_that_is_used_up_is_waited_for_before_anybody_is_bothered(site: Site) -> None:
    site.edge.settings(remaining=5, ends=3)
    done = site.apply("flip")
    site.edge.settings(remaining=1000)
    assert done.verdict == "done", done.problem
    happened = [event["happening"] for event in done.events]
    steps = [event["step"] for event in done.events]
    assert "no write is left this hour" in str(done.events[happened.index("warning")]["detail"])
    assert happened.index("warning") < steps.index("notice.new")
    refused = [entry for entry in site.edge.log() if entry["status"] == 429]
    assert refused and all("/activate" not in entry["path"] for entry in refused)
    assert site.serves("new")


def test_the_way_back_is_kept_for(site: Site) -> None:
    # Enough to stage and to switch, and not enough to go back as well: so the next hour is waited for.
    staging, switch = 3 * 4, 3 * 2
    hour = 6
    site.edge.settings(remaining=staging + switch + 3, ends=hour, left=switch + 3)
    done = site.apply("flip")
    site.edge.settings(remaining=1000)
    assert done.verdict == "done", done.problem
    assert "warning" in [event["happening"] for event in done.events]
    log = site.edge.log()
    assert 429 not in {entry["status"] for entry in log}
    locks = [entry["t_monotonic"] for entry in log if entry["path"].endswith("/lock")]
    activations = [entry["t_monotonic"] for entry in log if entry["path"].endswith("/activate")]
    # The hour ended so long after the last one that was staged. The header has whole seconds.
    assert max(locks) + hour - 1 < min(activations)


def test_a_signal_ends_the_wait_for_the_next_hour(site: Site) -> None:
    site.edge.settings(remaining=5, resets=time.time() + 600)
    command = direct.Command(site.pillar, "apply", phase="flip")
    command.until("warning")
    began = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    done = command.wait()
    site.edge.settings(remaining=1000)
    assert time.monotonic() - began < 60
    assert done.verdict == "aborted"
    assert done.problem["kind"] == "interrupted"
    assert site.serves("old")


def test_a_clone_that_cannot_be_found_at_once_is_waited_for(site: Site) -> None:
    path = f"/service/{site.ids['docs']}/version/2$"
    site.edge.fault("answer", method="GET", path=path, status=404, times=2)
    done = site.apply("flip")
    assert done.verdict == "done", done.problem
    assert site.active()["docs"] == 2
