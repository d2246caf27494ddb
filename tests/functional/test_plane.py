"""The control plane itself: what the tests of the cloud stand on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.cloud.account import Refused
from tests.lab.cloud.furnished import Furnished
from tests.lab.salt import REPOSITORY


def test_a_server_becomes_active_with_the_address_of_its_port(cloud: Furnished) -> None:
    fixed = [{"ip_address": "10.80.0.77"}]
    body = {"port": {"network_id": cloud.networks["new"], "fixed_ips": fixed}}
    port = cloud.new.post("network", "/ports", body)["port"]
    server = {"name": "one", "imageRef": cloud.image, "flavorRef": cloud.flavors["subsonic"],
              "networks": [{"port": port["id"]}]}  # fmt: skip
    cloud.new.post("compute", "/servers", {"server": server})
    deadline = time.monotonic() + 60
    while (found := cloud.new.servers()[0])["status"] == "BUILD":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert found["status"] == "ACTIVE", found
    (address,) = next(iter(found["addresses"].values()))
    assert address["addr"] == "10.80.0.77"
    assert not cloud.old.servers(), "a project sees only its own"


def test_a_quota_is_kept(cloud: Furnished) -> None:
    cloud.quota(instances=0)
    server = {"name": "one", "imageRef": cloud.image, "flavorRef": cloud.flavors["subsonic"],
              "networks": "none"}  # fmt: skip
    with pytest.raises(Refused, match="Quota exceeded") as refused:
        cloud.new.post("compute", "/servers", {"server": server})
    assert refused.value.status == 403


def test_doors_remember_and_fail_on_order(cloud: Furnished) -> None:
    cloud.plane.fault(
        "nova", {"path": "/v2.1/flavors", "effect": "answer", "status": 503, "times": 1}
    )
    with pytest.raises(Refused) as refused:
        cloud.new.get("compute", "/flavors")
    assert refused.value.status == 503
    assert cloud.new.get("compute", "/flavors")["flavors"]
    assert [entry["status"] for entry in cloud.plane.requests("nova")] == [503, 200]
    lost = {"method": "POST", "path": "/v2.0/security-groups", "effect": "lose-reply", "times": 1}
    cloud.plane.fault("neutron", lost)
    with pytest.raises(Refused, match="502"):
        cloud.new.post("network", "/security-groups", {"security_group": {"name": "lost"}})
    found = cloud.new.get("network", "/security-groups?name=lost")["security_groups"]
    assert len(found) == 1, "the service had acted"


def test_no_process_of_a_plane_outlives_a_killed_test_run(furnished: Furnished) -> None:
    # The snapshot is there: the shared plane was made from it.
    program = (
        "import pathlib, sys, tempfile, time; from tests.lab.cloud.plane import Plane\n"
        "with Plane(pathlib.Path(tempfile.mkdtemp()), '127.0.0.42') as plane:\n"
        "    print(plane.place.home, *plane.pids().values(), flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as run:
        home, *pids = run.stdout.readline().split()
        run.kill()
    assert len(pids) == 6
    deadline = time.monotonic() + 60
    while any(Path("/proc", pid).exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    subprocess.run(["rm", "-rf", str(Path(home))], check=True)
