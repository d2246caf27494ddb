"""Services, their versions and what lives beside versions: the state behind the control API.

Invariant: whoever changes anything here holds ``Store.lock``.
"""

from __future__ import annotations

import copy
import secrets
import string
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.lab.edge.kinds import KINDS, SETTINGS

Record = dict[str, Any]
_ALPHABET = string.ascii_letters + string.digits


def new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(22))


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Refused(Exception):
    """An answer of the API that is not a success."""

    def __init__(self, status: int, msg: str, detail: str | None = None) -> None:
        super().__init__(f"{status} {msg}: {detail}")
        self.status = status
        self.body = {"msg": msg} | ({"detail": detail} if detail is not None else {})


def not_found(label: str, **where: Any) -> Refused:
    said = {"deleted": "0000-00-00 00:00:00"} | where
    listed = ", ".join(f"{key} => {said[key]}" for key in sorted(said))
    return Refused(404, "Record not found", f"Couldn't find {label} '{{ {listed} }}'")


@dataclass
class Version:
    service_id: str
    number: int
    comment: str = ""
    active: bool = False
    locked: bool = False
    staging: bool = False
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    objects: dict[str, list[Record]] = field(default_factory=lambda: {path: [] for path in KINDS})
    settings: Record = field(
        default_factory=lambda: {name: item.default for name, item in SETTINGS.items()}
    )
    http3: Record | None = None

    def find(self, path: str, name: str) -> Record | None:
        return next((item for item in self.objects[path] if item.get("name") == name), None)

    def clone(self, number: int) -> Version:
        made = Version(self.service_id, number, self.comment, created_at=self.created_at)
        made.objects = copy.deepcopy(self.objects)
        made.settings = dict(self.settings)
        made.http3 = copy.deepcopy(self.http3)
        for path, items in made.objects.items():
            for item in items:
                item["version"] = str(number) if KINDS[path].strings else number
        return made


@dataclass
class Service:
    id: str
    name: str
    comment: str = ""
    type: str = "vcl"
    customer_id: str = ""
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    deleted: bool = False
    versions: list[Version] = field(default_factory=list)
    # Versionless: shared by all versions, and not undone by activating an older one.
    items: dict[str, dict[str, Record]] = field(default_factory=dict)
    entries: dict[str, dict[str, Record]] = field(default_factory=dict)
    bodies: dict[str, Record] = field(default_factory=dict)
    products: set[str] = field(default_factory=set)
    staging_id: str = field(default_factory=new_id)

    @property
    def active(self) -> Version | None:
        return next((item for item in self.versions if item.active), None)

    def environments(self, version: Version) -> list[Record]:
        found = []
        if version.active:
            found.append(("production", self.id))
        if version.staging:
            found.append(("staging", self.staging_id))
        return [
            {"name": name, "service_id": ident, "active_version": version.number}
            for name, ident in found
        ]

    def shown(self, version: Version) -> Record:
        """The version as the API answers it."""
        return {
            "active": version.active,
            "comment": version.comment,
            "created_at": version.created_at,
            "deleted_at": None,
            "deployed": False,
            "environments": self.environments(version),
            "locked": version.locked,
            "number": version.number,
            "service_id": self.id,
            "staging": version.staging,
            "testing": False,
            "updated_at": version.updated_at,
        }


class Store:
    """All services of one customer."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.customer_id = new_id()
        self.user_id = new_id()
        self.services: dict[str, Service] = {}
        # Domains that no version holds, by id.
        self.domains: dict[str, Record] = {}

    def service(self, ident: str) -> Service:
        found = self.services.get(ident)
        if found is None:
            raise not_found("Service", id=ident)
        if found.deleted:
            raise Refused(400, "Bad request", f"Service '{ident}' is deleted")
        return found

    def version(self, ident: str, number: str) -> tuple[Service, Version]:
        service = self.service(ident)
        if number == "active":
            found = service.active
        else:
            found = next((v for v in service.versions if v.number == int(number)), None)
        if found is None:
            raise not_found("Version", number=number, service=ident)
        return service, found

    def draft(self, ident: str, number: str) -> tuple[Service, Version]:
        """The version, if it may still be edited."""
        service, version = self.version(ident, number)
        if version.locked:
            detail = f"Version '{version.number}' for service '{ident}' is locked"
            raise Refused(422, "Version locked", detail)
        return service, version

    def alive(self) -> list[Service]:
        return [item for item in self.services.values() if not item.deleted]

    def names(self, service: Service, version: Version) -> tuple[str, ...]:
        """Every domain under which a version is served, of either model."""
        held = [item["name"] for item in version.objects["domain"]]
        held += [d["fqdn"] for d in self.domains.values() if d["service_id"] == service.id]
        return tuple(sorted({name.lower() for name in held}))

    def owner_of(self, domain: str, other_than: str) -> Service | None:
        """The other service that has this domain in what it serves or prepares."""
        for service in self.alive():
            if service.id == other_than:
                continue
            for item in self.domains.values():
                if item["fqdn"] == domain.lower() and item["service_id"] == service.id:
                    return service
            for version in service.versions:
                if (version.active or not version.locked) and version.find("domain", domain):
                    return service
        return None
