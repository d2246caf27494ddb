"""The lab itself: that its parts are what the other tests take them for."""

from __future__ import annotations

import json
import socket
import time
from statistics import median

import pytest

from tests.lab import cdn, database, minions
from tests.lab.hosts import LAB
from tests.lab.icmp import round_trips
from tests.lab.people import People, ask
from tests.lab.site import NOTICE, Site
from tests.lab.verdict import judge
from tests.lab.wiki import PAGES, READONLY_FILE

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def site(lab: Site) -> Site:
    return lab


def until(found: object, wanted: object, seconds: float = 10) -> float:
    """How long it took until a callable returned what is wanted."""
    began = time.monotonic()
    while (seen := found()) != wanted:  # type: ignore[operator]
        assert time.monotonic() - began < seconds, f"{seen!r} instead of {wanted!r}"
        time.sleep(0.01)
    return time.monotonic() - began


def edit(address: str, title: str, text: str) -> dict[str, object]:
    form = {"action": "edit", "format": "json", "title": title, "token": "+\\"}
    status, body = ask(address, "/api.php", form | {"appendtext": text, "summary": text})
    assert status == 200
    return json.loads(body)


def test_the_clouds_are_20_ms_apart(site: Site) -> None:
    seen = [ms for ms in round_trips("lab-old-db1", site["new-db1"].address, 20) if ms]
    print(f"round trip old-db1 to new-db1, ms: {min(seen)} / {median(seen):.2f} / {max(seen)}")
    assert len(seen) == 20
    assert 20 <= median(seen) < 22
    site.network.wan.set("old", "new", delay_ms=0)
    near = [ms for ms in round_trips("lab-old-db1", site["new-db1"].address) if ms]
    site.network.wan.set("old", "new", delay_ms=10)
    print(f"the same without delay: {median(near)}")
    assert median(near) < 2


def test_a_partition_cuts_and_heals(site: Site) -> None:
    for pair in (("old-db1", "relay"), ("old", "new"), ("new-db1", "new-db2")):
        a, b = ("old-db1", "relay") if pair[0] == "old" else pair
        site.partition(*pair)
        assert set(round_trips(site[a].netns, site[b].address, 3)) == {None}
        site.heal(*pair)
        assert None not in round_trips(site[a].netns, site[b].address, 3)


def test_a_write_runs_down_the_chain(site: Site) -> None:
    marker = "saltext_migrate.marker"
    site.sql("old-db1", f"REPLACE INTO {marker} VALUES ('lab', 'lab', 1, NOW(6))")
    wanted = site.sql("old-db1", f"SELECT name, seq, at FROM {marker}")
    for name in ("new-db2", "new-db1", "relay", "old-db2"):
        took = until(
            lambda name=name: site.sql(name, f"SELECT name, seq, at FROM {marker}"), wanted
        )
        print(f"{name} has the row {took * 1000:.0f} ms after it was looked for")
    roles = {name: site.sql(name, "SELECT @@read_only r")[0]["r"] for name in database.SERVER_IDS}
    assert roles == {name: int(name != "old-db1") for name in database.SERVER_IDS}


def test_salt_reaches_every_host(site: Site) -> None:
    began = time.monotonic()
    said = site.salt("*", "test.ping")
    print(f"test.ping of {len(said.data)} minions: {time.monotonic() - began:.2f} s")
    assert said.data == dict.fromkeys(site.hosts, True)
    # By the runner: a minion's answer shows asterisks.
    assert site.salt_run("pillar.show_pillar", "deployment").data == {"migrate": site.pillar()}
    assert site.salt_run("sdb.get", "sdb://migrate/admin").data == site.secrets["admin"]


def test_an_edit_on_the_old_side_arrives_on_the_new(site: Site) -> None:
    answer = edit(site["old-app1"].address, "Seen on both sides", "unmistakable words")
    assert answer["edit"]["result"] == "Success"  # type: ignore[index]
    path = "/index.php?title=Seen_on_both_sides"
    new = site["new-app1"].address
    took = until(lambda: b"unmistakable words" in ask(new, path)[1], True)
    print(f"the edit was readable on the new side after {took * 1000:.0f} ms")


def test_each_side_keeps_its_rendered_pages_in_its_own_cache(site: Site) -> None:
    def asked(side: str, command: str) -> str:
        with socket.create_connection((site[f"{side}-memcache1"].address, 11211), 5) as cache:
            cache.sendall(f"{command}\r\nquit\r\n".encode())
            return b"".join(iter(lambda: cache.recv(65536), b"")).decode()

    def kept(side: str) -> int:
        return int(asked(side, "stats").split("STAT total_items ")[1].split()[0])

    # Somebody may have read the page before.
    for side in ("old", "new"):
        assert asked(side, "flush_all") == "OK\r\n"
    for side, other in (("old", "new"), ("new", "old")):
        before = kept(side), kept(other)
        assert (
            ask(site[f"{side}-app1"].address, f"/index.php?title={PAGES[-1]}".replace(" ", "_"))[0]
            == 200
        )
        assert kept(side) > before[0]
        assert kept(other) == before[1]


def test_the_read_only_file_shows_the_notice(site: Site) -> None:
    app = site["old-app1"]
    app.write(READONLY_FILE, NOTICE)
    answer = edit(app.address, "Refused", "refused")
    assert answer["error"]["readonlyreason"] == NOTICE  # type: ignore[index]
    form = ask(app.address, "/index.php?title=Refused&action=edit")
    assert form[0] == 200
    assert NOTICE.encode() in form[1]
    app.run(["rm", READONLY_FILE])
    assert "edit" in edit(app.address, "Accepted", "accepted")


def test_people_come_through_the_edge(site: Site) -> None:
    with cdn.serving(site, delay="none") as edge:
        with People(cdn.load(site, seconds=60), LAB / "run" / "people.jsonl") as people:
            people.wait_saves(20)
            site["old-app1"].write(READONLY_FILE, NOTICE)
            time.sleep(0.5)
            site["old-app1"].run(["rm", READONLY_FILE])
            people.wait_saves(20)
        verdict = judge(people.lines(), site["old-app1"].address)
        assert edge.pops
    print(json.dumps(verdict.as_dict(), indent=1))
    assert verdict.saw_notice > 0
    assert verdict.reader_requests > 20
    problems = ("reader_errors", "editor_errors_other_than_notice", "lost", "duplicated")
    assert not any(getattr(verdict, name) for name in problems)
    # The same edits, as the other side has them.
    until(lambda: judge(people.lines(), site["new-app1"].address).lost, [])


@pytest.mark.parametrize("how", ["reboot", "kill"])
def test_a_database_keeps_its_role_and_its_place(site: Site, how: str) -> None:
    host = site["new-db1"]
    began = time.monotonic()
    if how == "kill":
        host.kill()
        host.start()
        host.wait()
    else:
        host.reboot()
    print(f"{how}: {time.monotonic() - began:.2f} s")
    assert site.sql("new-db1", "SELECT @@read_only r") == [{"r": 1}]
    database.wait_following([host], site.secrets["admin"])
    here = edit(site["old-app1"].address, f"After the {how}", "x")["edit"]
    count = f"SELECT COUNT(*) n FROM wiki.revision WHERE rev_id = {here['newrevid']}"  # type: ignore[index]
    until(lambda: site.sql("new-db1", count), [{"n": 1}])


def crossings(site: Site) -> list[str]:
    """What the tripwires found, in words."""
    told = site.salt_run("migrate.crossings").data
    return [f"{x['subject']}: {x['found']}" for x in told.get("data", told)["findings"]]


def test_tripwires_are_put_onto_real_hosts_count_what_crosses_and_outlive_a_reboot(
    site: Site,
) -> None:
    # The controller stands on the new side and talks to the old databases.
    allowed = [{"from": "deployment", "to": name, "port": 3306} for name in ("db1", "db2")]
    nodes = site.pillar()["nodes"]
    nodes["new"]["deployment"] = {"private": site["deployment"].address, "minion": "deployment"}
    told = {"nodes": nodes, "addresses": {"allowed": allowed}, "tripwire": {"quiet": 4}}
    site.write_pillar(told)
    try:
        laid = site.salt_run("state.orchestrate", "migrate.tripwire")
        assert laid.rc == 0, laid.stdout
        until(lambda: crossings(site), [], 30)
        # Somebody on the new side still asks an old node.
        site["new-app1"].run(["bash", "-c", f": > /dev/tcp/{site['old-app1'].address}/80"])
        assert any("new-app1" in x and site["old-app1"].address in x for x in crossings(site))
        until(lambda: crossings(site), [], 30)
        site["new-app1"].reboot()
        minions.wait_all(site[minions.MASTER], ["new-app1"])
        until(lambda: crossings(site), [], 30)
        again = site.salt_run("state.orchestrate", "migrate.tripwire")
        assert again.rc == 0, again.stdout
    finally:
        site.write_pillar()
