"""The flip of a whole site under load: what people saw, what stays after reboots and highstates."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.functional.test_plan import READS, SETTINGS
from tests.lab import cdn, database, minions
from tests.lab.beside import Beside, prepare
from tests.lab.edge.standin import Edge
from tests.lab.hosts import LAB
from tests.lab.people import People, ask
from tests.lab.site import NODES, NOTICE, POPS, Site
from tests.lab.verdict import Verdict, judge
from tests.lab.wiki import READONLY_FILE, fpm_unit

pytestmark = pytest.mark.lab

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text()
)
BREAK_GLASS = "/var/lib/saltext-migrate/break-glass.txt"
# What a page of the wiki takes to be saved, and a saver's pause: the resolution of the judge.
SLACK_MS = 300
DRAIN_MS = 250
SIDES = {"flip": ("old", "new"), "revert": ("new", "old")}


@dataclass
class World:
    """The site, its edge, and the account of the writers beside its databases."""

    site: Site
    edge: Edge
    account: dict[str, str]


@dataclass
class Seen:
    """One transfer: what the product says, and what outside judges saw."""

    report: dict[str, Any]
    people: Verdict
    databases: Any
    activations: list[dict[str, Any]]
    progress: str

    def step(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(s for s in self.report["steps"] if s["id"] == name)
        return found


@pytest.fixture(scope="module")
def world(lab: Site) -> Iterator[World]:
    with cdn.serving(lab) as edge:
        # As who tries the new side behind `migrate.test`: the files that saving needs came from the disk once.
        refused_an_edit(lab["new-app1"].address)
        yield World(lab, edge, prepare(lab))


def refused_an_edit(address: str) -> None:
    """An editor is told that the wiki is read-only, and that is no error of its database."""
    form = {"action": "edit", "format": "json", "title": "Warm", "token": "+\\", "text": "here"}
    answer = json.loads(ask(address, "/api.php", form, timeout=60)[1])
    assert answer["error"]["code"] == "readonly", answer


def transfer(world: World, phase: str) -> Seen:
    """Carries a phase out while people read, edit and upload, and writers write."""
    site, (source, target) = world.site, SIDES[phase]
    before = len(world.edge.activations())
    record = LAB / "run" / f"people-{time.monotonic_ns()}.jsonl"
    with People(cdn.load(site), record) as people:
        people.wait_saves(8)
        with Beside(site, world.account) as beside:
            said = site.salt_run("state.orchestrate", f"migrate.{phase}")
        people.wait_saves(8)
    assert said.rc == 0, said.stdout + said.stderr
    report = site.salt_run("migrate.report").data
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    verdict = judge(people.lines(), site[f"{target}-app1"].address)
    databases = beside.judge(source, target)
    activations = world.edge.activations()[before:]
    return Seen(report["runs"][0], verdict, databases, activations, said.stderr)


def nobody_lost_anything(seen: Seen) -> None:
    people, databases = seen.people, seen.databases
    print(f"\n{seen.report['direction']}: window {seen.report['window_ms']:.1f} ms, "
          f"blocked {databases.database_blocked_ms:.1f} ms, editors {people.write_unavailable_ms} ms "
          f"(else {people.other_gap_ms}), notice {people.notice_ms}")  # fmt: skip
    assert (databases.lost, databases.duplicated) == (0, 0)
    assert (people.lost, people.duplicated, people.missing_from_text) == ([], [], [])
    assert people.uploads_without_file == []
    assert people.reader_errors == 0, people.reader_error_examples
    assert people.editor_errors_other_than_notice == 0, people.editor_error_examples
    assert people.reader_requests > 50
    assert databases.acknowledged > 500
    assert people.saw_notice > 0


def editors_waited_no_longer_than_they_must(seen: Seen) -> None:
    """The longest of drain, edge, and edge with databases; the notice's own way on and off, and some slack.

    Where the same machine brings about longer pauses between two saves without any notice, nobody can see
    more sharply than that: the last save before the notice may be one such pause old, and the first one behind
    it may come as late.
    """
    edge = seen.step("edge.docs")["seconds"] * 1000
    on = max(seen.step(f"notice.{side}")["seconds"] for side in ("old", "new")) * 1000
    off = float(re.findall(r"released +notice\.\w+ +([\d.]+) ms", seen.progress)[0])
    (activation,) = seen.activations
    for pop, followed in zip(sorted(POPS), activation["pops"].values(), strict=True):
        late = (followed - activation["accepted"]) * 1000
        longest = max(DRAIN_MS, edge + late, edge + seen.report["window_ms"])
        other = seen.people.other_gap_ms[pop]
        bound = longest + on + off + max(SLACK_MS, 2 * other)
        waited = seen.people.write_unavailable_ms[pop]
        print(f"{pop}: editors waited {waited:.0f} ms of {bound:.0f} (notice {on:.0f} and {off:.0f})"
              f", else {other:.0f}")  # fmt: skip
        assert waited <= bound


def settled(world: World, target: str) -> None:
    """One primary writes, everybody follows, editors may save, the plan is empty."""
    site = world.site
    roles = {n: site.sql(n, "SELECT @@global.read_only r")[0]["r"] for n in database.SERVER_IDS}
    assert roles == {name: int(name != f"{target}-db1") for name in database.SERVER_IDS}
    phase = "flip" if target == "new" else "revert"
    planned = site.salt_run("migrate.plan", phase)
    assert planned.rc == 0, planned.stdout
    assert [change["step"] for change in planned.data["changes"]] == []
    status = site.salt_run("migrate.status")
    assert status.rc == 0, status.stdout
    marker = f"Settled {time.monotonic_ns()}"
    form = {"action": "edit", "format": "json", "title": marker, "token": "+\\", "text": "here"}
    for address in POPS.values():
        answer = json.loads(ask(address, "/api.php", form)[1])
        assert answer.get("edit", {}).get("result") == "Success", answer


def sent_by_the_tool(log: str) -> list[str]:
    """The statements of every session that the tool's account opened."""
    lines = re.findall(r"(\d+) (Connect|Query)\t(.*)", log)
    ours = {number for number, kind, text in lines if kind == "Connect" and "migrate@" in text}
    return [text for number, kind, text in lines if kind == "Query" and number in ours]


def test_a_plan_only_reads(world: World) -> None:
    site = world.site
    world.edge.clear_log()
    for name in database.SERVER_IDS:
        site.sql(name, "SET GLOBAL general_log_file='/tmp/general.log'")
        site.sql(name, "SET GLOBAL general_log=1")
    for command in (["state.orchestrate", "migrate.flip", "test=True"], ["migrate.plan"]):
        ran = site.salt_run(*command)
        assert ran.rc == 0, ran.stdout
    for name in database.SERVER_IDS:
        log = site[name].run(["cat", "/tmp/general.log"]).stdout
        site.sql(name, "SET GLOBAL general_log=0")
        sent = sent_by_the_tool(log)
        assert sent, f"{name} was asked"
        assert [text for text in sent if not READS.match(text) or SETTINGS.search(text)] == []
    assert {entry["method"] for entry in world.edge.log()} == {"GET"}


def test_a_flip_under_load(world: World) -> None:
    # Nobody read there since: it is the flip itself that has to warm it.
    world.site["new-app1"].run(f"systemctl restart {fpm_unit()}")
    seen = transfer(world, "flip")
    nobody_lost_anything(seen)
    editors_waited_no_longer_than_they_must(seen)
    settled(world, "new")
    assert world.site["old-app1"].read(READONLY_FILE).strip() == NOTICE
    for name in ("old-db1", "new-db1"):
        page = world.site[name].read(BREAK_GLASS)
        assert "old-db1" in page and "new-db1" in page, f"the page on {name}"


def test_reboots_and_highstates_leave_a_flip_as_it_is(world: World) -> None:
    site = world.site
    hosts = [f"{side}-{node}" for side in ("old", "new") for node in NODES]
    for name in hosts:
        site[name].reboot()
    for name in database.SERVER_IDS:
        site[name].wait("mariadb.service")
    replicas = [site[name] for name in database.SERVER_IDS if name != "new-db1"]
    database.wait_following(replicas, site.secrets["admin"])
    minions.wait_all(site[minions.MASTER], hosts)
    # The second finds nothing left to do; neither may undo the flip.
    for _ in range(2):
        said = site.salt("*-*", "state.apply")
        assert said.rc == 0, said.stdout
        assert set(said.data) == set(hosts)
    settled(world, "new")
    # A node that was just booted has read no file of the wiki yet, and the first editor would wait for that.
    for _ in range(5):
        refused_an_edit(site["old-app1"].address)


def test_a_revert_under_load_after_the_reboots(world: World) -> None:
    seen = transfer(world, "revert")
    nobody_lost_anything(seen)
    editors_waited_no_longer_than_they_must(seen)
    settled(world, "old")
    declared = {name: world.site[source].address for name, source in database.CHAIN.items()}
    found = {name: world.site.sql(name, "SHOW SLAVE STATUS")[0]["Master_Host"] for name in declared}
    assert found == declared
