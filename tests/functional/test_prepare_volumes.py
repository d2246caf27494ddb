"""A server's volumes are made on a real Cinder and attached by a real Nova: once, whatever happens in between."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.lab import direct
from tests.lab.cloud.building import Site
from tests.lab.cloud.furnished import TYPE, Furnished

SERVER = {"vcpus": 1, "ram": 1024, "disk": 10}
MARK = {"saltext-migrate": "lab", "saltext-migrate-node": "db1", "saltext-migrate-volume": "data"}
BLANK = {"saltext-migrate-blank": "yes"}


@pytest.fixture
def site(cloud: Furnished, tmp_path: Any) -> Site:
    """One server with one volume, and nothing beside it."""
    site = Site(cloud, str(tmp_path / "state"), {"db1": SERVER | {"volumes": {}}})
    site.prepare.update({"security_groups": {}, "key_pairs": {}})
    site.prepare["deadlines"]["tick"] = 50
    volumes(site)["data"] = {"gigabytes": 20, "type": TYPE}
    return site


def volumes(site: Site) -> dict[str, Any]:
    """What the pillar asks for."""
    return site.prepare["servers"]["db1"]["volumes"]


def stands(site: Site) -> None:
    """The cloud itself has exactly what the pillar asks for, on the one server that there is."""
    site.stands()
    (server,) = site.cloud.new.servers()
    found = {volume["name"]: volume for volume in site.cloud.new.volumes()}
    assert len(found) == len(site.cloud.new.volumes())
    assert found.keys() == {f"db1-{name}" for name in volumes(site)}
    for name, wanted in volumes(site).items():
        volume = found[f"db1-{name}"]
        assert volume["status"] == "in-use"
        assert [at["server_id"] for at in volume["attachments"]] == [server["id"]]
        assert volume["size"] == wanted["gigabytes"]
        assert volume["volume_type"] == wanted.get("type", "__DEFAULT__")
        assert volume["metadata"] == MARK | {"saltext-migrate-volume": name}


def test_volumes_are_made_once_and_attached_and_then_never_changed(site: Site) -> None:
    volumes(site)["logs"] = {"gigabytes": 5}
    planned = {change["step"]: change["new"] for change in site.plan().answer["changes"]}
    assert planned["volume.db1.data"] == {"gigabytes": 20, "type": TYPE, "ready": True}
    assert planned["volume.db1.logs"] == {"gigabytes": 5, "type": None, "ready": True}
    assert planned["volume.db1.data.attached"] is True
    assert site.cloud.plane.writes() == []
    done = site.apply()
    assert done.verdict == "done", done.problem
    stands(site)
    site.cloud.plane.forget()
    assert site.apply().verdict == "unchanged"
    volumes(site)["data"] = {"gigabytes": 30, "type": "__DEFAULT__"}
    assert site.plan().answer["changes"] == []
    (told,) = direct.run(site.pillar, "cloud.check").answer["findings"]
    assert (told["topic"], told["subject"], told["blocking"]) == ("fleet", "db1:data", False)
    assert f"20 GiB of type {TYPE}, and would get 30 of type __DEFAULT__" in told["found"]
    assert site.cloud.plane.writes() == []


def test_what_no_quota_bears_is_found_before_anything_is_made(site: Site) -> None:
    site.cloud.volume_quota(
        volumes=2, gigabytes=24, **{f"volumes_{TYPE}": 0}, per_volume_gigabytes=19
    )
    volumes(site)["logs"] = {"gigabytes": 5, "type": "slow"}
    volumes(site)["tmp"] = {"gigabytes": 1, "availability_zone": "mars"}
    site.cloud.plane.forget()
    found = site.findings()
    assert found.keys() == {"fleet volumes", "fleet gigabytes", f"fleet volumes_{TYPE}",
                            "fleet per_volume_gigabytes", "fleet db1:logs", "fleet db1:tmp"}  # fmt: skip
    assert "the project may have 24," in found["fleet gigabytes"]
    assert "26 more are asked for" in found["fleet gigabytes"]
    assert site.apply().problem["kind"] == "refused"
    assert site.cloud.plane.writes() == []


def test_killed_again_and_again_the_same_command_ends_with_one_of_each(site: Site) -> None:
    deaths = 0
    for records in range(2, 30, 3):
        done = site.apply(f"crash-after:{records}")
        if done.rc != -9:
            break
        deaths += 1
    assert deaths >= 2, done
    assert done.verdict in ("done", "unchanged"), done.problem
    stands(site)
    assert site.plan().answer["changes"] == []
    # What the cloud makes of a request long after whoever sent it was killed.
    (ours,) = [volume["id"] for volume in site.cloud.new.volumes()]
    site.cloud.volume(site.cloud.new, "db1-data", 20, metadata=MARK | BLANK)
    assert [change["step"] for change in site.plan().answer["changes"]] == ["volume.db1.data"]
    settled = site.apply()
    assert settled.verdict == "done", settled.problem
    stands(site)
    assert [volume["id"] for volume in site.cloud.new.volumes()] == [ours]


def test_lost_replies_and_a_failed_volume_make_no_double_and_strangers_stay(site: Site) -> None:
    cloud = site.cloud
    theirs = cloud.volume(cloud.new, "db1-data", 20)
    failed = cloud.volume(cloud.new, "x", 20, metadata=MARK | BLANK)
    state = {"os-reset_status": {"status": "error"}}
    cloud.admin.post("volumev3", f"/volumes/{failed}/action", state)
    lose = {"method": "POST", "effect": "lose-reply", "times": 1}
    cloud.plane.fault("cinder", lose | {"path": "/v3/[^/]+/volumes"})
    cloud.plane.fault("nova", lose | {"path": "/v2.1/servers/[^/]+/os-volume_attachments"})
    done = site.apply()
    assert done.verdict == "done", done.problem
    found = {volume["id"]: volume for volume in cloud.new.volumes()}
    assert found.pop(theirs)["status"] == "available"
    assert failed not in found
    cloud.new.call("DELETE", "volumev3", f"/volumes/{theirs}")
    while len(cloud.new.volumes()) > 1:
        time.sleep(0.1)
    stands(site)


def test_a_volume_with_something_on_it_is_never_deleted(site: Site) -> None:
    cloud = site.cloud
    full = cloud.volume(cloud.new, "db1-data", 20, metadata=MARK)
    state = {"os-reset_status": {"status": "error"}}
    cloud.admin.post("volumev3", f"/volumes/{full}/action", state)
    done = site.apply()
    assert done.verdict == "stopped"
    assert f"{full} is in error, and stays to be looked at" in done.problem["message"]
    assert "volume.db1.data" in {entry["step"] for entry in done.answer["left"]}
    assert [volume["id"] for volume in cloud.new.volumes()] == [full]
