"""The new side by one orchestration of a real Salt: plan, keys of new minions, first boot."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import direct
from tests.lab.cloud.building import KEY, Site
from tests.lab.cloud.configuration import PASSWORD
from tests.lab.cloud.furnished import Furnished
from tests.lab.loopback import MINION
from tests.lab.overheard import Overheard, written
from tests.lab.salt import SaltMaster

WANTED = {
    "db1": {"vcpus": 4, "ram": 8192, "disk": 80},
    "app1": {"vcpus": 2, "ram": 2048, "disk": 20},
}


@pytest.fixture
def site(cloud: Furnished, tmp_path: Path) -> Site:
    site = Site(cloud, str(tmp_path / "state"), WANTED)
    site.prepare["masters"] = ["127.0.0.1"]
    return site


@pytest.fixture(scope="module")
def running_master() -> Iterator[SaltMaster]:
    with SaltMaster({}) as running:
        yield running


@pytest.fixture
def master(running_master: SaltMaster, site: Site) -> Iterator[SaltMaster]:
    """A Salt master whose pillar is the site's, and which knows no new minion."""
    running_master.set_pillar(site.pillar)
    yield running_master
    for path in accepted(running_master).iterdir():
        if path.name != MINION:
            path.unlink()


def accepted(master: SaltMaster) -> Path:
    return master.config / "pki" / "master" / "minions"


def first_boot(site: Site, node: str) -> dict[str, Any]:
    """What a server runs at its first boot, as Nova keeps it."""
    (server,) = [found for found in site.cloud.new.servers() if found["name"] == node]
    shown = site.cloud.admin.get("compute", f"/servers/{server['id']}")["server"]
    text = base64.b64decode(shown["OS-EXT-SRV-ATTR:user_data"]).decode()
    assert text.startswith("#cloud-config\n")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def test_the_new_side_by_one_orchestration(site: Site, master: SaltMaster) -> None:
    orchestrate = ("state.orchestrate", "migrate.prepare")
    before = {path.name for path in accepted(master).iterdir()}

    planned = master.run(*orchestrate, "test=True")
    assert planned.rc == 0, planned.stdout
    state = planned.states["prepare"]
    assert state["result"] is None
    assert state["changes"]["server.db1"]["new"]["flavor"] == "lightspeed"
    assert site.cloud.plane.writes() == []
    assert {path.name for path in accepted(master).iterdir()} == before

    with Overheard(master) as overheard:
        ran = master.run(*orchestrate, "-l", "debug")
    assert ran.rc == 0, ran.stdout
    assert ran.states["prepare"]["result"] is True
    private = {entry["path"]: entry for entry in first_boot(site, "db1")["write_files"]}
    key = private["/etc/salt/pki/minion/minion.pem"]["content"].splitlines()[5]
    folders = (master.config / "cache", Path(site.pillar["state_dir"]))
    everything = ran.stdout + ran.stderr + overheard.all + written(*folders)
    assert "migrate/prepare-" in overheard.events
    for secret in (key, PASSWORD, "never-used-17"):
        assert secret not in everything
    site.stands()

    again = master.run(*orchestrate)
    assert again.rc == 0, again.stdout
    assert again.states["prepare"]["changes"] == {}

    # A real minion that boots with it is heard by the master, and knows it.
    config = first_boot(site, "db1")
    assert config["runcmd"][-1] == ["sh", "-c", "systemctl restart salt-minion.service"]
    files = {entry["path"]: entry for entry in config["write_files"]}
    private = files["/etc/salt/pki/minion/minion.pem"]
    assert private["permissions"] == "0400"
    minion = json.loads(files["/etc/salt/minion.d/90-saltext-migrate.conf"]["content"])
    assert minion["master_finger"].count(":") == 31
    known = (master.config / "pki" / "master" / "master.pub").read_text()
    assert files["/etc/salt/pki/minion/minion_master.pub"]["content"] == known
    with master.another_minion(minion, private["content"]):
        assert master.answers("new-db1")
    with master.another_minion({**minion, "master_finger": "00:" * 31 + "00"}, private["content"]):
        assert not master.answers("new-db1", timeout=8)

    # Nothing of it is anywhere else.
    said = planned.stdout + again.stdout
    for secret in (key, PASSWORD, "never-used-17"):
        assert secret not in said


def test_a_key_that_somebody_accepted_is_not_replaced(site: Site, master: SaltMaster) -> None:
    theirs = accepted(master) / "new-db1"
    theirs.write_text("their key")
    ran = master.run("migrate.prepare")
    assert ran.rc == 1
    assert "a key of this minion is accepted already" in ran.stdout
    assert theirs.read_text() == "their key"
    assert site.cloud.plane.writes() == []
    theirs.unlink()
    assert master.run("migrate.prepare").rc == 0
    site.stands()


def test_the_checks_by_the_execution_module(site: Site, master: SaltMaster) -> None:
    ran = master.run("salt.cmd", "migrate_openstack.check")
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert ran.answer == {"findings": [], "refused": False, "looked_at": "everything"}
    site.cloud.quota(instances=1)
    assert "instances" in master.run("salt.cmd", "migrate_openstack.check").stdout
    assert master.run("migrate.preflight", "prepare").rc == 1
    best = master.run("salt.cmd", "migrate_openstack.flavors").answer
    assert [candidate["flavor"] for candidate in best["db1"]["best"]] == ["lightspeed", "warp"]
    assert {miss["flavor"] for miss in best["db1"]["near_misses"]} == {
        "subsonic",
        "supersonic",
        "fat",
    }


def test_minions_tell_of_themselves_where_the_old_cloud_is_gone(
    site: Site, master: SaltMaster
) -> None:
    gone = site.cloud.access("old")
    gone["auth"]["auth_url"] = "http://127.0.0.1:9/v3"
    site.pillar["clouds"]["old"] = gone
    site.pillar["nodes"]["old"]["db1"] = {"private": "10.70.0.11", "minion": MINION}
    master.set_pillar(site.pillar)
    ran = master.run("salt.cmd", "migrate_openstack.inventory")
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert ran.answer["nodes"]["db1"]["vcpus"] == os.cpu_count()
    assert ran.answer["pillar"]["prepare"]["servers"]["db1"]["ram"] > 1000
    assert "old cloud, login" in ran.answer["problems"][0]


# -- the inventory ------------------------------------------------------------------------------


def test_the_old_side_is_proposed_as_pillar(site: Site) -> None:
    site.cloud.boot("db1.old.example.org", "lightspeed", "10.70.0.11")
    site.cloud.boot("app1", "supersonic", "10.70.0.21")
    site.cloud.boot("stray", "subsonic", "10.70.0.99")
    site.pillar["clouds"]["old"] = site.cloud.access("old")
    site.pillar["prepare"]["leave"] = ["stray"]
    site.pillar["nodes"]["old"] = {
        "db1": {"private": "10.70.0.12", "minion": "old-db1"},
        "gone": {"private": "10.70.0.50"},
    }
    site.pillar["nodes"]["new"] = {"db1": {"private": "10.80.0.33", "minion": "n-db1"}}
    found = direct.run(site.pillar, "cloud.inventory").answer
    assert found["left"] == ["stray"]
    assert found["problems"] == ["these minions did not answer: old-db1"]
    assert found["disagreements"] == [
        "app1: known by the API, not by the pillar",
        "db1: private address is 10.70.0.11 by the API, 10.70.0.12 by the pillar",
        "gone: known by the pillar, not by the API",
    ]
    proposed = found["pillar"]
    assert proposed["nodes"]["old"]["db1"] == {"private": "10.70.0.11", "minion": "old-db1"}
    assert proposed["nodes"]["new"]["db1"] == {"private": "10.80.0.33", "minion": "n-db1"}
    assert proposed["nodes"]["new"]["app1"] == {"private": "10.80.0.21", "minion": "new-app1"}
    assert proposed["prepare"]["servers"]["db1"] == {"vcpus": 4, "ram": 8192, "disk": 80}
    assert "stray" not in proposed["nodes"]["new"]


def test_what_old_servers_name_is_proposed_with_them_and_prepare_takes_it(site: Site) -> None:
    cloud, old = site.cloud, site.cloud.old
    groups = {
        name: old.post("network", "/security-groups", {"security_group": {"name": name}})
        for name in ("data", "front")
    }
    ids = {name: made["security_group"]["id"] for name, made in groups.items()}
    for rule in (
        {"security_group_id": ids["data"], "protocol": "tcp", "port_range_min": 3306, "port_range_max": 3306,
         "remote_group_id": ids["front"]},
        {"security_group_id": ids["front"], "protocol": "tcp", "port_range_min": 80, "port_range_max": 443},
        {"security_group_id": ids["front"], "remote_ip_prefix": "10.70.0.0/24"},
    ):  # fmt: skip
        old.post("network", "/security-group-rules",
                 {"security_group_rule": {"direction": "ingress", "ethertype": "IPv4", **rule}})  # fmt: skip
    pair = {"name": "crew", "public_key": KEY}
    old.post("compute", "/os-keypairs", {"keypair": pair})
    other = cloud.add_image("debian-11")
    try:
        cloud.boot(
            "db1", "lightspeed", "10.70.0.11", key_name="crew", security_groups=[{"name": "data"}]
        )
        cloud.boot(
            "app1",
            "supersonic",
            "10.70.0.21",
            security_groups=[{"name": "front"}, {"name": "default"}],
        )
        cloud.boot("app2", "subsonic", "10.70.0.22", imageRef=other)
        pillar = {"clouds": {"new": cloud.access("new"), "old": cloud.access("old")}}
        pillar["prepare"] = {"network": "new-net"}
        found = direct.run(pillar, "cloud.inventory", grains=False).answer
        proposed = found["pillar"]["prepare"]
        assert proposed["image"] == "debian-12"
        assert proposed["key_pairs"] == {"crew": KEY}
        rules = {name: group["rules"] for name, group in proposed["security_groups"].items()}
        assert rules["data"] == [{"protocol": "tcp", "ports": 3306, "from": "front"}]
        assert {"protocol": "tcp", "ports": "80-443", "from": "0.0.0.0/0"} in rules["front"]
        assert {"from": "10.70.0.0/24"} in rules["front"]
        assert any("10.70.0.0/24, where old nodes are" in told for told in found["problems"])
        servers = proposed["servers"]
        assert (servers["db1"]["key_pair"], servers["db1"]["security_groups"]) == ("crew", ["data"])
        assert sorted(servers["app1"]["security_groups"]) == ["default", "front"]
        assert "image" not in servers["db1"] and servers["app2"]["image"] == "debian-11"
        # What is proposed is built as it is.
        site.pillar["nodes"]["new"] = found["pillar"]["nodes"]["new"]
        site.pillar["prepare"] = site.pillar["prepare"] | proposed
        done = site.apply()
        assert done.verdict == "done", done.problem
        assert site.apply().verdict == "unchanged"
        built = cloud.new.get("network", "/security-groups")["security_groups"]
        (data,) = [group for group in built if group["name"] == "data"]
        ingress = [r for r in data["security_group_rules"] if r["direction"] == "ingress"]
        assert [(r["port_range_min"], r["protocol"]) for r in ingress] == [(3306, "tcp")]
    finally:
        cloud.clear()
        cloud.admin.call("DELETE", "image", f"/images/{other}")


def test_an_old_cloud_that_is_gone_stops_nobody(site: Site) -> None:
    gone = site.cloud.access("old")
    gone["auth"]["auth_url"] = "http://127.0.0.1:9/v3"
    site.pillar["clouds"]["old"] = gone
    found = direct.run(site.pillar, "cloud.inventory", grains=False).answer
    assert "login" in found["problems"][0]
    assert found["pillar"]["nodes"]["old"] == {"db1": {"private": "10.70.0.11"}}
    checked = direct.run(site.pillar, "cloud.check").answer
    assert not checked["refused"]
    # What hangs on its servers cannot be known, and that is said too.
    subjects = [(finding["topic"], finding["subject"]) for finding in checked["findings"]]
    assert subjects == [("cloud", "old cloud: login"), ("volumes", "the old cloud")]


def test_a_cloud_is_asked_before_the_rest_of_the_site_is_described(site: Site) -> None:
    pillar = {"clouds": {"new": site.cloud.access("new")}}
    checked = direct.run(pillar, "cloud.check").answer
    assert checked == {"findings": [], "refused": False, "looked_at": "access"}
    assert direct.run({}, "cloud.check").problem["message"].startswith("migrate:clouds: found")


# -- a certificate of one's own authority -------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A private authority, and a certificate of it for the plane's address."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=lab authority", "-days", "2")  # fmt: skip
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "api.key", "-out", "api.csr",
            "-subj", "/CN=keystone")  # fmt: skip
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.41\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "api.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
            "-CAcreateserial", "-out", "api.pem", "-extfile", "names")  # fmt: skip
    return tmp_path


def test_a_private_authority_is_believed_where_it_is_named(site: Site, authority: Path) -> None:
    with site.cloud.plane.second_keystone(authority / "api.pem", authority / "api.key") as url:
        access = site.pillar["clouds"]["new"]
        access["auth"]["auth_url"] = f"{url}/v3"
        found = site.findings()
        assert "certificate" in found["cloud new cloud: login"], found
        access["cacert"] = str(authority / "ca.pem")
        assert site.findings() == {}
        access["cacert"] = str(authority / "names")
        done = direct.run(site.pillar, "cloud.check")
        assert done.problem["kind"] == "settings"
        assert "cacert" in done.problem["message"]
