"""A login to the control plane that is not the product's: it seeds what a cloud has, and judges what was made.

It speaks plain HTTP with the standard library alone, so that it shares no misreading with anybody.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from tests.lab.cloud.configuration import PASSWORD, REGION


class Refused(Exception):
    """A service said no."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body[:500]}")
        self.status = status


def request(
    method: str,
    url: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[Any, dict[str, str]]:
    """Sends one request; returns the answer's JSON (or None) and its headers."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    asked = urllib.request.Request(
        url, data, {"Content-Type": kind, **(headers or {})}, method=method
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            text = answer.read()
            got = {name.lower(): value for name, value in answer.headers.items()}
            return (
                json.loads(text)
                if text and b"json" in got.get("content-type", "").encode()
                else None
            ), got
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode(errors="replace")) from None


class Account:
    """One user in one project."""

    def __init__(self, keystone: str, user: str, project: str, region: str = REGION) -> None:
        self.keystone, self.user, self.project = keystone, user, project
        domain = {"name": "Default"}
        login = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": user, "domain": domain, "password": PASSWORD}},
                },
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        answer, headers = request("POST", f"{keystone}/v3/auth/tokens", login)
        self.token = headers["x-subject-token"]
        self.project_id: str = answer["token"]["project"]["id"]
        self.user_id: str = answer["token"]["user"]["id"]
        self.endpoints = {
            entry["type"]: endpoint["url"]
            for entry in answer["token"]["catalog"]
            for endpoint in entry["endpoints"]
            if endpoint["interface"] == "public" and endpoint["region"] == region
        }
        self.endpoints["identity"] = f"{keystone}/v3"
        if "network" in self.endpoints:
            self.endpoints["network"] += "/v2.0"
            self.endpoints["image"] += "/v2"

    def call(self, method: str, service: str, path: str, body: Any = None) -> Any:
        """Sends one request to a service of the catalogue."""
        headers = {"X-Auth-Token": self.token}
        if service == "compute":
            headers["OpenStack-API-Version"] = "compute 2.90"
        return request(method, self.endpoints[service] + path, body, headers)[0]

    def get(self, service: str, path: str) -> Any:
        return self.call("GET", service, path)

    def post(self, service: str, path: str, body: Any) -> Any:
        return self.call("POST", service, path, body)

    # -- what tests ask most ------------------------------------------------------------------

    def servers(self) -> list[dict[str, Any]]:
        return self.get("compute", "/servers/detail?limit=1000")["servers"]

    def ports(self) -> list[dict[str, Any]]:
        return self.get("network", f"/ports?project_id={self.project_id}")["ports"]

    def volumes(self) -> list[dict[str, Any]]:
        return self.get("volumev3", "/volumes/detail?limit=1000")["volumes"]

    def gone(self, *servers: str) -> None:
        """Waits until servers that were deleted are gone; the API has no wait for that."""
        deadline = time.monotonic() + 120
        while {server["id"] for server in self.servers()} & set(servers):
            if time.monotonic() > deadline:
                raise TimeoutError("servers do not go away")
            time.sleep(0.3)

    def sweep(self) -> None:
        """Deletes everything in the project but networks and images, and waits until it is gone."""
        deadline = time.monotonic() + 120
        servers = [server["id"] for server in self.servers()]
        for server in servers:
            self.call("DELETE", "compute", f"/servers/{server}")
        self.gone(*servers)
        while volumes := self.volumes():
            for volume in volumes:
                if volume["status"] in ("available", "error"):
                    self.call("DELETE", "volumev3", f"/volumes/{volume['id']}")
            if time.monotonic() > deadline:
                raise TimeoutError("volumes do not go away")
            time.sleep(0.1)
        for port in self.ports():
            self.call("DELETE", "network", f"/ports/{port['id']}")
        for group in self.get("network", f"/security-groups?project_id={self.project_id}")[
            "security_groups"
        ]:
            if group["name"] != "default":
                self.call("DELETE", "network", f"/security-groups/{group['id']}")
        for pair in self.get("compute", "/os-keypairs")["keypairs"]:
            self.call("DELETE", "compute", f"/os-keypairs/{pair['keypair']['name']}")
        for group in self.get("compute", "/os-server-groups")["server_groups"]:
            self.call("DELETE", "compute", f"/os-server-groups/{group['id']}")
