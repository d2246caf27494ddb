"""Fifty servers, by the product and by a plain script of openstacksdk, in interleaved pairs.

    python -m tests.bench.fleet [--servers 50] [--pairs 2]

Both make the same ports and servers on the same plane, and end when every server is ACTIVE.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.lab import direct
from tests.lab.cloud import software
from tests.lab.cloud.configuration import PASSWORD, REGION
from tests.lab.cloud.furnished import Furnished
from tests.lab.cloud.plane import Plane

# What somebody writes who has openstacksdk at hand: ask for all, then wait for each.
SCRIPT = """
import json, sys, openstack
given = json.load(sys.stdin)
cloud = openstack.connect(**given["login"])
network = cloud.network.find_network("new-net")
image = cloud.image.find_image("debian-12")
flavor = cloud.compute.find_flavor("subsonic")
servers = []
for name, address in given["nodes"].items():
    port = cloud.network.create_port(
        name=name, network_id=network.id, fixed_ips=[{"ip_address": address}])
    servers.append(cloud.compute.create_server(
        name=name, image_id=image.id, flavor_id=flavor.id, networks=[{"port": port.id}]))
for server in servers:
    cloud.compute.wait_for_server(server, wait=600)
"""


def nodes(count: int) -> dict[str, str]:
    return {f"n{number:02}": f"10.80.0.{number + 10}" for number in range(count)}


def by_product(cloud: Furnished, count: int, at_once: int) -> float:
    account = {"password": "unused"}
    with tempfile.TemporaryDirectory() as state:
        pillar: dict[str, Any] = {
            "state_dir": state,
            "nodes": {
                "old": {"db1": {"private": "10.70.0.11"}},
                "new": {
                    name: {"private": address, "minion": name}
                    for name, address in nodes(count).items()
                },
            },
            "databases": {
                "old": {"primary": "db1"},
                "new": {"primary": "n00"},
                "accounts": {
                    "admin": account | {"user": "a"},
                    "marker": account | {"user": "b"},
                    "replication": account | {"user": "c"},
                },
            },
            "notice": {"text": "x", "nodes": {"old": [], "new": []}},
            "clouds": {"new": cloud.access("new")},
            "prepare": {
                "network": "new-net",
                "image": "debian-12",
                "servers": dict.fromkeys(nodes(count), {"vcpus": 1, "ram": 1024, "disk": 10}),
                "at_once": at_once,
            },
        }
        began = time.monotonic()
        done = direct.run(pillar, "apply", phase="prepare", timeout=900)
        took = time.monotonic() - began
        assert done.verdict == "done", done.problem
        return took


def by_script(cloud: Furnished, count: int) -> float:
    login = {
        "auth_url": f"{cloud.plane.keystone}/v3",
        "username": "new",
        "password": PASSWORD,
        "project_name": "new",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": REGION,
    }
    began = time.monotonic()
    subprocess.run(
        [str(software.PYTHON), "-c", SCRIPT],
        input=json.dumps({"login": login, "nodes": nodes(count)}),
        text=True,
        check=True,
    )
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet")
    parser.add_argument("--servers", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=8)
    chosen = parser.parse_args()
    took: dict[str, list[float]] = {"product": [], "script": []}
    with tempfile.TemporaryDirectory() as home, Plane(Path(home) / "plane") as plane:
        cloud = Furnished(plane)
        for pair in range(chosen.pairs):
            for name in ("product", "script") if pair % 2 == 0 else ("script", "product"):
                if name == "product":
                    took[name].append(by_product(cloud, chosen.servers, chosen.at_once))
                else:
                    took[name].append(by_script(cloud, chosen.servers))
                up = [server["status"] for server in cloud.new.servers()]
                assert up == ["ACTIVE"] * chosen.servers, up
                print(f"{name}: {took[name][-1]:.1f} s", flush=True)
                cloud.clear()
    for name, times in took.items():
        print(f"{name}: median {statistics.median(times):.1f} s of {len(times)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
