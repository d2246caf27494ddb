"""What a cloud has before anybody builds in it: flavors, images, a network in each project, quotas."""

from __future__ import annotations

import time
from typing import Any

from tests.lab.cloud.account import Account
from tests.lab.cloud.configuration import PASSWORD, REGION
from tests.lab.cloud.plane import PROJECTS, Plane

# name: vCPU, RAM in MiB, disk in GiB
FLAVORS = {
    "subsonic": (1, 1024, 10),
    "supersonic": (2, 2048, 20),
    "lightspeed": (4, 8192, 80),
    "warp": (8, 16384, 160),
    "fat": (2, 65536, 40),
}
CIDR = {"old": "10.70.0.0/24", "new": "10.80.0.0/24"}
# Of volumes.
TYPE = "fast"
QUOTA = {"instances": 100, "cores": 400, "ram": 1_000_000, "server_groups": 10,
         "server_group_members": 10, "key_pairs": 100}  # fmt: skip


class Furnished:
    """A plane and what stands in it."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self._quota_changed = self._network_quota_changed = self._volume_quota_changed = False
        self._booted = False
        self.admin = plane.account("admin")
        self.old, self.new = (plane.account(name) for name in PROJECTS)
        self.flavors: dict[str, str] = {}
        for name, size in FLAVORS.items():
            self.add_flavor(name, *size)
        self.image = self.add_image("debian-12")
        self.networks = {}
        for name, project in (("old", self.old), ("new", self.new)):
            body = {"network": {"name": f"{name}-net"}}
            network = project.post("network", "/networks", body)["network"]["id"]
            self.networks[name] = network
            subnet = {"network_id": network, "cidr": CIDR[name], "ip_version": 4, "name": "site"}
            project.post("network", "/subnets", {"subnet": subnet})
        self.admin.post("volumev3", "/types", {"volume_type": {"name": TYPE}})
        self.quota()
        plane.forget()

    def add_flavor(
        self, name: str, vcpus: int, ram: int, disk: int, specs: dict[str, str] | None = None
    ) -> str:
        body = {"name": name, "vcpus": vcpus, "ram": ram, "disk": disk}
        ident: str = self.admin.post("compute", "/flavors", {"flavor": body})["flavor"]["id"]
        if specs:
            self.admin.post("compute", f"/flavors/{ident}/os-extra_specs", {"extra_specs": specs})
        self.flavors[name] = ident
        return ident

    def add_image(self, name: str, data: bool = True, **more: Any) -> str:
        body = {"name": name, "disk_format": "raw", "container_format": "bare",
                "visibility": "public", **more}  # fmt: skip
        ident: str = self.admin.post("image", "/images", body)["id"]
        if data:
            self.admin.call("PUT", "image", f"/images/{ident}/file", b"\0" * 512)
        return ident

    def quota(self, **more: int) -> None:
        """Sets the compute quota of the new project."""
        self._quota_changed = bool(more)
        path = f"/os-quota-sets/{self.new.project_id}"
        self.admin.call("PUT", "compute", path, {"quota_set": QUOTA | more})

    def network_quota(self, **more: int) -> None:
        """Sets the network quota of the new project."""
        self._network_quota_changed = True
        path = f"/quotas/{self.new.project_id}"
        self.admin.call("PUT", "network", path, {"quota": more})

    def volume_quota(self, **more: int) -> None:
        """Sets the quota of volumes of the new project."""
        self._volume_quota_changed = True
        path = f"/os-quota-sets/{self.new.project_id}"
        self.admin.call("PUT", "volumev3", path, {"quota_set": more})

    def clear(self) -> None:
        """Takes away what tests made."""
        for service in ("nova", "neutron", "cinder"):
            self.plane.fault(service)
        if self._volume_quota_changed:
            self.admin.call("DELETE", "volumev3", f"/os-quota-sets/{self.new.project_id}")
            self._volume_quota_changed = False
        if self._network_quota_changed:
            self.admin.call("DELETE", "network", f"/quotas/{self.new.project_id}")
            self._network_quota_changed = False
        if self._quota_changed:
            self.quota()
        if self._booted:
            self.old.sweep()
            self._booted = False
        self.new.sweep()
        for name in self.flavors.keys() - FLAVORS.keys():
            self.admin.call("DELETE", "compute", f"/flavors/{self.flavors.pop(name)}")
        self.plane.forget()

    def access(self, name: str) -> dict[str, Any]:
        """How the product reaches a project, as in the pillar."""
        return {
            "auth": {
                "auth_url": f"{self.plane.keystone}/v3",
                "username": name,
                "password": PASSWORD,
                "project_name": name,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": REGION,
        }

    def volume(self, account: Account, name: str, gigabytes: int, **more: Any) -> str:
        """Makes a volume in somebody's project, and waits for it."""
        body = {"volume": {"name": name, "size": gigabytes, **more}}
        ident = str(account.post("volumev3", "/volumes", body)["volume"]["id"])
        self._until(account, ident, "available")
        return ident

    def attach(self, account: Account, volume: str, server: str) -> None:
        """Attaches a volume, and waits until it is."""
        body = {"volumeAttachment": {"volumeId": volume}}
        account.post("compute", f"/servers/{server}/os-volume_attachments", body)
        self._until(account, volume, "in-use")

    def _until(self, account: Account, volume: str, status: str) -> None:
        deadline = time.monotonic() + 60
        while account.get("volumev3", f"/volumes/{volume}")["volume"]["status"] != status:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the volume {volume} does not become {status}")
            time.sleep(0.1)

    def boot(self, name: str, flavor: str, address: str, **more: Any) -> str:
        """Makes a server of the old side, as somebody made it years ago."""
        self._booted = True
        fixed = [{"uuid": self.networks["old"], "fixed_ip": address}]
        body = {"name": name, "imageRef": self.image, "flavorRef": self.flavors[flavor],
                "networks": fixed, **more}  # fmt: skip
        ident = str(self.old.post("compute", "/servers", {"server": body})["server"]["id"])
        deadline = time.monotonic() + 60
        while self.old.get("compute", f"/servers/{ident}")["server"]["status"] != "ACTIVE":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} does not come up")
            time.sleep(0.3)
        return ident
