"""The story on a fresh machine, under load: prepare, test, sign-off, flip, revert, flip, soak, clean-up; and a report.

`make demo` runs it. The report of what the product did comes from the product; what users saw comes from judges
outside of it, and what is left in the end is what the clouds and the CDN list themselves. All but the latter stands
in `target/demo/report.json`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema

from tests.lab import cdn, emptied, minions, storage, wiki
from tests.lab.beside import Beside, prepare
from tests.lab.cloud import software
from tests.lab.cloud.building import KEY
from tests.lab.cloud.plane import Plane, kept
from tests.lab.edge.standin import Edge
from tests.lab.hosts import LAB
from tests.lab.network import MACHINE_ADDRESS
from tests.lab.people import People
from tests.lab.rented import STRANGER, Rented
from tests.lab.site import Said, Site
from tests.lab.verdict import Verdict, judge

REPOSITORY = Path(__file__).resolve().parents[1]
STORY = (("flip", "old", "new"), ("revert", "new", "old"), ("flip", "old", "new"))
# Fewer prove nothing.
ENOUGH = {"acknowledged": 1000, "reader_requests": 500}
MUST_BE_ZERO = ("lost", "duplicated", "reader_errors", "editor_errors_other_than_notice")
# Real hours would not fit into a demo.
SOAK_SECONDS, STOPPED_SECONDS = 60, 3
CRON = "/etc/cron.d/wiki-jobs"
SSH_KEYS = "/root/.ssh/authorized_keys"
BACKUP = "/srv/backup/last.sql.gz"
EDIT = {"action": "edit", "format": "json", "title": "Main Page", "text": "x", "token": "+\\"}
# What a wiki's parser tells of itself below each page.
NOISE = (
    *("Cached time:", "CPU time usage:", "Real time usage:", "wgBackendResponseTime"),
    *("Transclusion expansion time report", "-total", "Saved in parser cache"),
)
# What must be left: nothing that was made for the move, nothing of the old side, and everything of strangers.
LEFT = {
    "old cloud, servers": [f"db1 ({STRANGER}) ACTIVE"],
    "new cloud, servers": [
        *(f"{node} ACTIVE" for node in ("app1", "db1", "db2", "memcache1")),
        f"relay ({STRANGER}) ACTIVE",
        "storage1 ACTIVE",
    ],
    "new cloud, ports": ["app1", "db1", "db2", "memcache1", "storage1"],
    "new cloud, volumes": ["db2-backup in-use"],
    "new cloud, security groups": ["default", f"move ({STRANGER})", "site"],
    "new cloud, key pairs": [],
    "CDN, services": ["docs", f"docs-copy-2 ({STRANGER})"],
    "Salt master, minions": [
        "deployment",
        "edge",
        "new-app1",
        "new-db1",
        "new-db2",
        "new-memcache1",
        "new-storage1",
    ],
    "new-db1, replicas": ["new-db2"],
    "new-app1, ssh keys": [STRANGER],
}


def say(line: str) -> None:
    """Tell the person who watches what is going on."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


class Story:
    """The site, both clouds and the CDN; each chapter is a method, and leaves the product's report behind."""

    def __init__(self, site: Site, edge: Edge, rented: Rented) -> None:
        self.site, self.edge, self.rented = site, edge, rented
        self.account: dict[str, str] = {}
        self.last: dict[str, Any] = {}
        self.runs: list[dict[str, Any]] = []
        self.refusals: list[str] = []

    # -- the pillar, and the product --------------------------------------------------------------

    def pillar(self, **more: Any) -> None:
        """Writes what the whole move is about; the end of it is said only when it is near."""
        services: dict[str, Any] = self.site.edge["services"]
        services[cdn.SERVICE]["copy"] = {"name": "docs-copy", "domains": ["docs-copy.example.org"]}
        paths = [f"/index.php?title={page.replace(' ', '_')}" for page in wiki.PAGES]
        self.site.write_pillar(
            {
                "clouds": self.rented.clouds(),
                "prepare": {**emptied.PREPARE, **self.rented.servers()},
                "vhosts": {
                    "docs": {"hosts": [wiki.PUBLIC_NAME], "node": "app1", "scheme": "http", "path": paths[0]},
                },
                "test": {"noindex": {"service": "nginx"}},
                "singletons": {"jobs": {"node": "app1", "cron": CRON}},
                "compare": {
                    "ignore": list(NOISE),
                    "paths": {"docs": paths},
                    "edits": [{"vhost": "docs", "path": "/api.php", "form": EDIT, "refused": "readonly"}],
                    "notices": [{"vhost": "docs", "path": f"{paths[0]}&action=edit"}],
                },
                "signoff": {"flip": ["operations", "editors"], "cleanup": ["operations"]},
                **more,
            }
        )  # fmt: skip

    def run(self, phase: str) -> tuple[dict[str, Any], float]:
        """Carries a phase out by its orchestration; returns the product's report of it, and how long it took."""
        began = time.monotonic()
        said = self.site.salt_run("state.orchestrate", f"migrate.{phase}", timeout=500)
        seconds = time.monotonic() - began
        if self.rented.problem:
            raise self.rented.problem
        if said.rc != 0:
            raise RuntimeError(
                f"migrate.{phase} ended with {said.rc}:\n{said.stdout}\n{said.stderr}"
            )
        self.last = self.site.salt_run("migrate.report").data
        run = self.last["runs"][0]
        self.runs.append(run)
        return run, seconds

    def refused(self, phase: str, *words: str) -> None:
        """Shows that a phase that must not be yet does not begin, and why."""
        said = self.site.salt_run(f"migrate.{phase}")
        if said.rc != 1 or not all(word in said.stdout for word in words):
            raise RuntimeError(f"migrate.{phase} was not refused for {words}:\n{said.stdout}")
        self.refusals.append(f"{phase}: {', '.join(words)}")
        say(f"migrate.{phase} is refused: {', '.join(words)}")

    def sign(self, gate: str, *roles: str) -> None:
        """People look at what is there, and say go."""
        said = Said(1, "", "", None)
        for role in roles:
            note = f"note={role} looked at all of it"
            said = self.site.salt_run("migrate.signoff", f"gate={gate}", f"role={role}", note)
        if said.rc != 0:
            raise RuntimeError(f"migrate.signoff ended with {said.rc}:\n{said.stdout}")
        say(f"signed off for the {gate}: {', '.join(roles)}")

    # -- the chapters -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Begins before the beginning: servers that do not exist, and one command that makes and fills them."""
        emptied.empty(self.site)
        self.rented.strip()
        for side in ("old", "new"):
            self.site[f"{side}-app1"].write(CRON, "7 * * * * www-data /usr/bin/true\n")
        self.pillar()
        say("the new side is six servers that nobody made yet; migrate.prepare")
        run, seconds = self.run("prepare")
        say(f"{len(run['servers'])} servers, and copies that follow the old side: {seconds:.0f} s")
        plane = self.rented.cloud.plane
        plane.forget()
        again = self.site.salt_run("state.orchestrate", "migrate.prepare", timeout=500)
        states = next(iter(again.data["data"].values())) if again.rc == 0 else {}
        if not states or any(one["changes"] for one in states.values()) or plane.writes():
            raise RuntimeError(f"a second run changed something:\n{again.stdout}\n{plane.writes()}")
        say("the same command once more changes nothing, in the cloud or on a host")
        self.account = prepare(self.site)
        # What has our names and is not ours must outlive all of it.
        self.rented.strangers(self.edge)

    def test(self) -> None:
        """Makes the mirror that people may try, and compares it with the old side."""
        say("migrate.test: a read-only mirror, its own copies at the CDN, old and new compared")
        _, seconds = self.run("test")
        said = self.site.salt_run("migrate.compare")
        if said.rc != 0:
            raise RuntimeError(f"old and new differ:\n{said.stdout}")
        seen = said.data
        differences = len(seen["differences"])
        say(f"{seen['urls']} pages beside each other, {differences} differences: {seconds:.0f} s")
        self.alone("old")
        if "noindex" not in self.robots("new"):
            raise RuntimeError("search engines are not kept out of the test site")

    def transfer(self, direction: str, source: str, target: str) -> None:
        """Runs one direction under load, and adds what users saw to the product's report."""
        say(f"readers and editors are at work; migrate.{direction}")
        with People(cdn.load(self.site), _record()) as people:
            people.wait_saves(10)
            with Beside(self.site, self.account) as beside:
                run, seconds = self.run(direction)
            people.wait_saves(30)
        databases = beside.judge(source, target)
        saw = judge(people.lines(), self.site[f"{target}-app1"].address)
        users = seen_by(saw)
        users["database_blocked_ms"] = round(databases.database_blocked_ms, 2)
        users["acknowledged"] += databases.acknowledged
        users["lost"] += databases.lost
        users["duplicated"] += databases.duplicated
        run["users"] = users
        self.alone(target)
        if self.robots(target):
            raise RuntimeError(f"search engines are kept out of the {target} side, which serves")
        closed = f"databases were closed for {run['window_ms']:.0f} ms"
        say(f"the site runs on the {target} side, {closed}: {seconds:.0f} s")

    def alone(self, side: str) -> None:
        """Looks that what may run on one side alone runs on that one, and nowhere else."""
        for one in ("old", "new"):
            host, wanted = self.site[f"{one}-app1"], CRON if one == side else f"{CRON}.held"
            found = host.run(["sh", "-c", f"ls -d {CRON}*"], check=False).stdout.split()
            if found != [wanted]:
                raise RuntimeError(f"{host.name} has {found}, and should have {wanted}")

    def robots(self, side: str) -> str:
        """Returns what a side's own web server tells search engines."""
        address = self.site[f"{side}-app1"].address
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/index.php", headers={"Host": wiki.PUBLIC_NAME})
        told = connection.getresponse().getheader("X-Robots-Tag", "")
        connection.close()
        return told

    def soak_and_clean_up(self) -> None:
        """Lets people work on the new side, and takes the old one down under their feet."""
        hours = {"soak_hours": SOAK_SECONDS / 3600, "stopped_hours": STOPPED_SECONDS / 3600}
        allowed = {
            **hours,
            "give_up_revert": "there is no way back",
            "old_nodes": self.rented.old,
            "temporary": {"servers": ["relay"], "security_groups": ["move"], "key_pairs": ["move"]},
            "database_users": ["migrate_marker"],
            "ssh_keys": {"root": [KEY]},
            "backup": {"node": "db2", "path": BACKUP},
        }
        self.pillar(cleanup=allowed | {"soak_hours": 24})
        keys = f"{KEY} the move\n{KEY[:-1]}G {STRANGER}\n"
        self.site["new-app1"].write(SSH_KEYS, keys, 0o600)
        with People(cdn.load(self.site, seconds=400), _record()) as people:
            # Somebody wrote it there after the move, past the notice.
            left = f"{storage.FOLDER}/left-behind.txt"
            self.site["old-storage1"].run(["touch", left])
            self.refused("cleanup", "of 24 hours", "has not signed off", left)
            self.site["old-storage1"].run(["rm", left])
            self.pillar(cleanup=allowed)
            say(f"the soak: {SOAK_SECONDS} s with readers and editors on the new side")
            people.wait_saves(20)
            while self.site.salt_run("migrate.preflight", "cleanup").stdout.count("has served"):
                pass
            self.sign("cleanup", "operations")
            run, seconds = self.run("cleanup")
            gone, kept = len(run["removed"]), len(run["kept"])
            say(f"{gone} things are gone, or on their way out; {kept} are kept: {seconds:.0f} s")
            say(f"their servers are stopped, and so are the hosts: {', '.join(self.rented.obey())}")
            people.wait_saves(20)
            # The last backup would go with its node, so that one still stands.
            allowed["backup"] = {"node": "db2", "path": BACKUP, "carried_to": self.carry()}
            self.pillar(cleanup=allowed)
            for gone in ("all old nodes but that one are deleted", "the last one is deleted"):
                self.sign("cleanup", "operations")
                _, seconds = self.run("cleanup")
                self.rented.obey()
                say(f"the second period is over, {gone}: {seconds:.0f} s")
                people.wait_saves(10)
        run["users"] = seen_by(judge(people.lines(), self.site["new-app1"].address))

    def carry(self) -> str:
        """Carries the last backup from old db2 to the Salt master's host, as people would; returns where it is."""
        master, carried = self.site[minions.MASTER], f"/srv/carried/{Path(BACKUP).name}"
        place = master.root / carried.lstrip("/")
        place.parent.mkdir(parents=True)
        shutil.copyfile(self.site["old-db2"].root / BACKUP.lstrip("/"), place)
        record = json.loads(master.read("/var/lib/saltext-migrate/proofs/last-backup.json"))
        if hashlib.sha256(place.read_bytes()).hexdigest() != record["evidence"]["sha256"]:
            raise RuntimeError("the last backup did not arrive as it was")
        say(f"the last backup was carried away: {place.stat().st_size >> 10} KiB")
        return f"{master.name}:{carried}"

    def left(self) -> dict[str, list[str]]:
        """What the clouds, the CDN, the Salt master and the primary themselves list in the end."""
        keys = self.site["deployment"].run(["ls", "/etc/salt/pki/master/minions"]).stdout.split()
        return {
            **self.rented.listings(self.edge),
            "Salt master, minions": sorted(keys),
            "new-db1, replicas": [
                row["Host"] for row in self.site.sql("new-db1", "SHOW SLAVE HOSTS")
            ],
            "new-app1, ssh keys": [
                line.split(maxsplit=2)[2]
                for line in self.site["new-app1"].read(SSH_KEYS).splitlines()
            ],
        }

    def tell(self) -> None:
        """Tells it from beginning to end."""
        self.prepare()
        self.test()
        for direction, source, target in STORY:
            if direction == "flip":
                # Nobody has said go; and then about a site that was not moved back since.
                back = self.runs[-1]["direction"] == "revert"
                self.refused("flip", "moved the site since" if back else "has not signed off")
                self.sign("flip", "operations", "editors")
            self.transfer(direction, source, target)
        self.soak_and_clean_up()


def _record() -> Path:
    return LAB / "run" / f"people-{time.monotonic_ns()}.jsonl"


def seen_by(people: Verdict) -> dict[str, Any]:
    """What readers and editors saw, in the words of the report."""
    for example in people.reader_error_examples + people.editor_error_examples:
        say(f"  seen by people: {example}")
    return {
        "write_unavailable_ms": people.write_unavailable_ms,
        "database_blocked_ms": None,
        "acknowledged": people.saved,
        "lost": len(people.lost) + len(people.missing_from_text) + len(people.uploads_without_file),
        "duplicated": len(people.duplicated),
        "reader_requests": people.reader_requests,
        "reader_errors": people.reader_errors,
        "editor_errors_other_than_notice": people.editor_errors_other_than_notice,
    }


def totals(runs: list[dict[str, Any]]) -> dict[str, int]:
    """Add up what outside judges counted over all runs."""
    judged = [run["users"] for run in runs if run["users"]]
    return {key: sum(users[key] for users in judged) for key in (*ENOUGH, *MUST_BE_ZERO)}


def show(story: Story, left: dict[str, list[str]]) -> None:
    """Print the report as a person reads it at a glance."""
    whole = totals(story.runs)
    print(
        "\nrun      result  steps  seconds  databases closed   floor  predicted  by writers  editors waited at most"
    )
    for run in story.runs:
        spans = [(step["started"], step["started"] + step["seconds"]) for step in run["steps"]]
        seconds = max(end for _, end in spans) - min(start for start, _ in spans)
        line = f"{run['direction']:<9}{run['result']:<8}{len(spans):>5}{seconds:>9.1f}"
        if run["window_ms"] is not None:
            users = run["users"]
            line += (
                f"{run['window_ms']:>15.1f} ms{run['floor_ms']:>8.1f}{run['predicted_ms']:>11.1f}"
                f"{users['database_blocked_ms']:>12.1f}  "
                + ", ".join(f"{pop} {ms / 1000:.2f} s" for pop, ms in users["write_unavailable_ms"].items())
            )  # fmt: skip
        print(line)
    print("\neach step, in ms (those that took less than 5 are left out):")
    for run in story.runs:
        told = ", ".join(
            f"{step['id']} {step['seconds'] * 1000:.0f}"
            for step in run["steps"]
            if step["seconds"] >= 0.005
        )
        print(f"  {run['direction']}: {told}")
    print(
        f"\nwrites acknowledged {whole['acknowledged']}, pages read {whole['reader_requests']}; "
        + ", ".join(f"{key.replace('_', ' ')}: {whole[key]}" for key in MUST_BE_ZERO)
    )
    for refusal in story.refusals:
        print(f"refused: {refusal}")
    for run in story.runs:
        said = ", ".join(f"{one['role']} ({one['who']})" for one in run.get("signoffs", []))
        if said:
            print(f"signed for the {run['direction']}: {said}")
    print("\nleft in the end, as each lists it itself:")
    for place, names in left.items():
        wrong = "" if names == LEFT[place] else f"   NOT as it should be: {LEFT[place]}"
        print(f"  {place}: {', '.join(names) or 'none'}{wrong}")


def wrongs(story: Story, left: dict[str, list[str]]) -> list[str]:
    """Say what is not as promised."""
    counted = totals(story.runs)
    wrong = [f"{key}: {counted[key]}" for key in MUST_BE_ZERO if counted[key]]
    wrong += [
        f"{key}: only {counted[key]}" for key, least in ENOUGH.items() if counted[key] < least
    ]
    return wrong + [f"{place}: {names}" for place, names in left.items() if names != LEFT[place]]


def main() -> int:
    """Bring the lab up, tell the story, take the lab down; 0 only where nobody lost anything."""
    if not kept():
        say(
            "a control plane of OpenStack is installed, and its tables are made: once, some minutes"
        )
    software.install()
    began = time.monotonic()
    say(
        "bringing the lab up: two clouds of hosts, a 20 ms wide-area network, databases, a wiki, a CDN"
    )
    with Site.running() as site, cdn.serving(site) as edge:
        say("and what rents them out: Keystone, Glance, Placement, Nova, Neutron, Cinder")
        with (
            Plane(LAB / "run" / "plane", MACHINE_ADDRESS, metadata=True) as plane,
            Rented(site, plane) as rented,
        ):
            story = Story(site, edge, rented)
            story.tell()
            left = story.left()
            say("taking the lab down")
    folder = REPOSITORY / "target" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**story.last, "runs": story.runs}
    (folder / "report.json").write_text(json.dumps(whole, indent=1) + "\n")
    jsonschema.validate(whole, json.loads((REPOSITORY / "docs/report.schema.json").read_text()))
    show(story, left)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    report = (folder / "report.json").relative_to(REPOSITORY)
    print(f"\nall of it in {minutes} min {seconds} s; the whole report: {report}")
    wrong = wrongs(story, left)
    if wrong:
        print(f"NOT as promised: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
