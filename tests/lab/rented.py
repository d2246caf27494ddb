"""The lab's hosts as servers of a real control plane: the old side's stood there, prepare asks for the new side's.

The control plane's hypervisor is a fake one, and whoever stands here is its guests: a server that comes up is a host
that boots and does what the cloud tells it, and a host whose server was stopped or deleted loses its power.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from tests.lab import guest, minions
from tests.lab.cloud.account import Account
from tests.lab.cloud.building import KEY
from tests.lab.cloud.furnished import Furnished
from tests.lab.cloud.plane import Plane
from tests.lab.edge.standin import Edge
from tests.lab.hosts import Host, HostError
from tests.lab.site import ADDRESSES, NODES, Site

OLD = NODES
NEW = ("relay", *NODES)
# How strangers' things are marked, for the judge.
STRANGER = "somebody else's"
_SIZE = {"vcpus": 1, "ram": 1024, "disk": 10}
_TICK = 0.3


def host_of(side: str, node: str) -> str:
    """The lab's host that plays a node."""
    return node if node == "relay" else f"{side}-{node}"


class Rented:
    """Both clouds' projects; enter to play the guests of the new one."""

    def __init__(self, site: Site, plane: Plane) -> None:
        self.site, self.cloud = site, Furnished(plane)
        self.old = {
            node: self.cloud.boot(node, "subsonic", ADDRESSES[host_of("old", node)][0])
            for node in OLD
        }
        self._end = threading.Event()
        self._playing = threading.Thread(target=self._play, daemon=True)
        self._known: set[str] = set()
        self.problem: Exception | None = None

    # -- what the pillar says of them -------------------------------------------------------------

    def clouds(self) -> dict[str, Any]:
        """The pillar's key `clouds`."""
        return {side: self.cloud.access(side) for side in ("old", "new")}

    @staticmethod
    def servers() -> dict[str, Any]:
        """What `prepare` is to make; the relay and what is its own are for the time of the move."""
        site = _SIZE | {"security_groups": ["site"]}
        move = _SIZE | {"security_groups": ["move"], "key_pair": "move"}
        return {
            "site": "lab",
            "network": "new-net",
            "image": "debian-12",
            "masters": [minions.MASTER],
            "servers": {
                **{node: move if node == "relay" else site for node in NEW},
                "db2": site | {"volumes": {"backup": {"gigabytes": 1}}},
            },
            "security_groups": {
                "site": {
                    "rules": [
                        {"protocol": "tcp", "from": "10.80.0.0/24"},
                        {"protocol": "tcp", "ports": 3306, "from": "move"},
                    ]
                },
                "move": {"rules": [{"protocol": "tcp", "ports": 3306, "from": "site"}]},
            },
            "apart": {"databases": ["db1", "db2"]},
            "key_pairs": {"move": KEY + " the move"},
            "deadlines": {"server": 60_000, "host": 60_000, "tick": 200},
        }

    # -- the guests -------------------------------------------------------------------------------

    def strip(self) -> None:
        """Makes the new side's hosts what they are before anybody asks for a server: an image, and no power."""
        for node in NEW:
            guest.blank(self.site[host_of("new", node)])
            accepted = f"/etc/salt/pki/master/minions/{host_of('new', node)}"
            self.site[minions.MASTER].run(["rm", "-f", accepted])

    def __enter__(self) -> Rented:
        self._playing.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._playing.join()

    def _play(self) -> None:
        boots: list[Future[None]] = []
        try:
            with ThreadPoolExecutor(len(NEW)) as pool:
                while not self._end.wait(_TICK):
                    for server in self.cloud.new.servers():
                        if server["status"] == "ACTIVE" and server["id"] not in self._known:
                            self._known.add(server["id"])
                            if _ours(server):
                                boots.append(pool.submit(self._boot, server))
                    for boot in boots:
                        if boot.done():
                            boot.result()
        except Exception as problem:
            self.problem = problem

    def _boot(self, server: dict[str, Any]) -> None:
        """Boots a server's host; what it is told comes from Nova's metadata service."""
        host = self.site[host_of("new", server["name"])]
        (address,) = (port["addr"] for net in server["addresses"].values() for port in net)
        if address != host.address:
            raise HostError(f"{server['name']} has {address}, and not {host.address}")
        guest.boot(host, {what: self.cloud.plane.told(server, what) for what in guest.TOLD})

    def obey(self) -> list[str]:
        """Cuts the power of hosts whose server does not run; returns those that it was cut of."""
        up = {
            side: {s["name"] for s in account.servers() if s["status"] == "ACTIVE" and _ours(s)}
            for side, account in (("old", self.cloud.old), ("new", self.cloud.new))
        }
        cut = []
        for side, nodes in (("old", OLD), ("new", NEW)):
            for node in nodes:
                host: Host = self.site[host_of(side, node)]
                if node not in up[side] and host.pid():
                    host.kill()
                    cut.append(host.name)
        return cut

    # -- strangers, and the listings --------------------------------------------------------------

    def strangers(self, edge: Edge) -> None:
        """Puts somebody else's things beside ours, by our names."""
        new = self.cloud.new
        self.cloud.boot("db1", "subsonic", "10.70.0.99", metadata={"owner": STRANGER})
        server = {
            "name": "relay",
            "imageRef": self.cloud.image,
            "flavorRef": self.cloud.flavors["subsonic"],
            "networks": [{"uuid": self.cloud.networks["new"], "fixed_ip": "10.80.0.99"}],
            "metadata": {"owner": STRANGER},
        }
        new.post("compute", "/servers", {"server": server})
        group = {"name": "move", "description": STRANGER}
        new.post("network", "/security-groups", {"security_group": group})
        edge.must(
            "POST",
            "/service",
            {"name": "docs-copy-2", "type": "vcl", "comment": STRANGER},
        )

    def listings(self, edge: Edge) -> dict[str, list[str]]:
        """What the clouds and the CDN themselves list."""
        new = self.cloud.new
        groups = new.get("network", f"/security-groups?project_id={new.project_id}")
        pairs = new.get("compute", "/os-keypairs")["keypairs"]
        ports = {port["fixed_ips"][0]["ip_address"] for port in new.ports()}
        names = {ADDRESSES[host_of("new", node)][0]: node for node in NEW}
        services = edge.must("GET", "/service?per_page=100")
        return {
            "old cloud, servers": _servers(self.cloud.old),
            "new cloud, servers": _servers(new),
            "new cloud, ports": sorted(name for address, name in names.items() if address in ports),
            "new cloud, security groups": sorted(
                _named(group["name"], group["description"]) for group in groups["security_groups"]
            ),
            "new cloud, volumes": sorted(f"{one['name']} {one['status']}" for one in new.volumes()),
            "new cloud, key pairs": sorted(pair["keypair"]["name"] for pair in pairs),
            "CDN, services": sorted(_named(one["name"], one["comment"]) for one in services),
        }


def _named(name: str, owner: str) -> str:
    return f"{name} ({STRANGER})" if owner == STRANGER else name


def _servers(account: Account) -> list[str]:
    return sorted(
        f"{_named(server['name'], server['metadata'].get('owner', ''))} {server['status']}"
        for server in account.servers()
    )


def _ours(server: dict[str, Any]) -> bool:
    return bool(server["metadata"].get("owner") != STRANGER)
