"""A pillar with a new side to be built, and the judge who says whether it stands."""

from __future__ import annotations

from typing import Any

from tests.lab import direct
from tests.lab.cloud.furnished import Furnished
from tests.lab.direct import Done

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAOWMvmtqSQFXUZxKwFx9yDZWZZbYOYzn9rwmLF"
WANTED = {
    "db1": {"vcpus": 4, "ram": 8192, "disk": 80, "security_groups": ["db"]},
    "db2": {"vcpus": 4, "ram": 8192, "disk": 80, "security_groups": ["db"]},
    "app1": {"vcpus": 2, "ram": 2000, "disk": 20, "security_groups": ["web"], "key_pair": "ops"},
}


class Site:
    """A pillar with a new side to be built, and the means to build it."""

    def __init__(
        self, cloud: Furnished, state_dir: str, wanted: dict[str, Any] | None = None
    ) -> None:
        self.cloud = cloud
        wanted = WANTED if wanted is None else wanted
        self.addresses = {name: f"10.80.0.{number + 11}" for number, name in enumerate(wanted)}
        account = {"user": "nobody", "password": "never-used-17"}
        self.pillar: dict[str, Any] = {
            "state_dir": state_dir,
            "nodes": {
                "old": {"db1": {"private": "10.70.0.11"}},
                "new": {
                    name: {"private": address, "minion": f"new-{name}"}
                    for name, address in self.addresses.items()
                },
            },
            "databases": {
                "old": {"primary": "db1"},
                "new": {"primary": "db1"},
                "accounts": {
                    "admin": account | {"user": "a"},
                    "marker": account | {"user": "b"},
                    "replication": account | {"user": "c"},
                },
            },
            "notice": {"text": "Migration in progress", "nodes": {"old": [], "new": []}},
            "clouds": {"new": cloud.access("new")},
            "prepare": {
                "site": "lab",
                "network": "new-net",
                "image": "debian-12",
                "servers": {name: dict(spec) for name, spec in wanted.items()},
                "security_groups": {
                    "db": {
                        "rules": [
                            {"protocol": "tcp", "ports": 3306, "from": "web"},
                            {"protocol": "tcp", "ports": "3306-3307", "from": "db"},
                        ]
                    },
                    "web": {"rules": [{"protocol": "tcp", "ports": 80, "from": "10.80.0.0/24"}]},
                },
                "key_pairs": {"ops": KEY + " somebody"},
                "masters": ["10.80.0.5"],
                "deadlines": {"server": 60_000, "tick": 200},
            },
        }

    @property
    def prepare(self) -> dict[str, Any]:
        return self.pillar["prepare"]

    def plan(self) -> Done:
        return direct.run(self.pillar, "plan", phase="prepare", timeout=120)

    def apply(self, drill: str | None = None) -> Done:
        return direct.run(self.pillar, "apply", drill, phase="prepare", timeout=300)

    def findings(self) -> dict[str, str]:
        """What blocks, by `topic subject`."""
        done = direct.run(self.pillar, "cloud.check", timeout=120)
        assert done.answer, done.problem
        return {
            f"{finding['topic']} {finding['subject']}": finding["found"]
            for finding in done.answer["findings"]
            if finding["blocking"]
        }

    def stands(self) -> None:
        """Every node has one server, up, at its address, and no port is without one."""
        servers = self.cloud.new.servers()
        assert sorted(server["name"] for server in servers) == sorted(self.addresses)
        for server in servers:
            assert server["status"] == "ACTIVE", server
            (address,) = next(iter(server["addresses"].values()))
            assert address["addr"] == self.addresses[server["name"]]
            assert server["metadata"] == {
                "saltext-migrate": "lab",
                "saltext-migrate-node": server["name"],
            }
        ports = self.cloud.new.ports()
        assert len(ports) == len(servers)
        assert {port["device_id"] for port in ports} == {server["id"] for server in servers}
