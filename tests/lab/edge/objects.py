"""Endpoints of the objects inside a version: one set for every kind of the table."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.edge.kinds import KINDS, Kind
from tests.lab.edge.records import Record, Refused, Service, Version, new_id, not_found, now
from tests.lab.edge.routes import Call, Platform, route

_V = "/service/{sid}/version/{n}"
_GUARDS = ("request_condition", "cache_condition", "response_condition")
OK = {"status": "ok"}


def _checked(version: Version, kind: Kind, sent: dict[str, Any], *, new: bool) -> Record:
    """What was sent, typed; a condition that is named must exist, and '' names none."""
    accepted = kind.accept(sent)
    for guard in _GUARDS:
        name = accepted.get(guard)
        if name is None or (name == "" and not new):
            continue
        if version.find("condition", name) is None:
            raise Refused(400, "Bad request", f"No condition named '{name}'")
    if kind.path == "healthcheck" and isinstance(accepted.get("headers"), str):
        # Forms carry this list as JSON text.
        text = accepted["headers"]
        listed = json.loads(text) if text else []
        accepted["headers"] = [": ".join(p.strip() for p in h.split(":", 1)) for h in listed]
    if kind.path == "backend" and not new:
        for key, value in accepted.items():
            if value == "" and key not in ("comment", "request_condition", "name"):
                accepted[key] = None
    return accepted


def _find(kind: Kind, service: Service, version: Version, name: str) -> Record:
    key = "id" if kind.by_id else "name"
    for item in version.objects[kind.path]:
        if item.get(key) == name:
            return item
    where = {key: name, "service": service.id, "version": version.number}
    raise not_found(kind.label, **where)


def _hostname(item: Record) -> None:
    """A backend's address shows as host name or as address."""
    address = str(item.get("address") or "")
    number = address.replace(".", "").isdigit()
    item["ipv4"] = address if number else None
    item["ipv6"] = address if ":" in address else None
    item["hostname"] = None if number or ":" in address else address


def _list(p: Platform, call: Call, kind: Kind, sid: str, n: str) -> list[Record]:
    items = p.store.version(sid, n)[1].objects[kind.path]
    if kind.path == "domain" and call.query.get("include") == "staging_ips" and p.fleet.staging:
        staging = p.fleet.staging.address.rpartition(":")[0]
        return [item | {"staging_ip": staging} for item in items]
    return items


def _create(p: Platform, call: Call, kind: Kind, sid: str, n: str) -> Record:
    service, version = p.store.draft(sid, n)
    sent = _checked(version, kind, call.body, new=True)
    name = sent.get("name")
    if not name:
        raise Refused(400, "Bad request", "Name can't be blank")
    if any(item.get("name") == name for item in version.objects[kind.path]):
        label = kind.path.replace("/", "_")
        raise Refused(409, "Duplicate record", f"Duplicate {label}: '{name}'")
    if kind.path == "domain" and p.domain_conflict == "creation":
        owner = p.store.owner_of(name, sid)
        if owner:
            detail = f"Domain '{name}' is already taken by service {owner.id}"
            raise Refused(400, "Bad request", detail)
    made = kind.defaults() | sent | {"service_id": sid}
    made["version"] = str(version.number) if kind.strings else version.number
    made |= {"created_at": now(), "updated_at": now(), "deleted_at": None}
    if kind.has_id:
        made["id"] = new_id()
    if kind.path == "backend":
        _hostname(made)
    if kind.path == "director":
        made["backends"] = []
    if kind.path == "snippet" and made["dynamic"] == "1":
        body = {"service_id": sid, "snippet_id": made["id"], "content": made["content"] or ""}
        service.bodies[made["id"]] = body | {"created_at": now(), "updated_at": now()}
        made["content"] = None
    version.objects[kind.path].append(made)
    return made


def _read(p: Platform, call: Call, kind: Kind, sid: str, n: str, name: str) -> Record:
    service, version = p.store.version(sid, n)
    return _find(kind, service, version, name)


def _update(p: Platform, call: Call, kind: Kind, sid: str, n: str, name: str) -> Record:
    service, version = p.store.draft(sid, n)
    item = _find(kind, service, version, name)
    sent = _checked(version, kind, call.body, new=False)
    renamed = sent.get("name", name)
    if renamed != item.get("name") and version.find(kind.path, renamed):
        raise Refused(409, "Duplicate record", f"Duplicate {kind.path}: '{renamed}'")
    item.update(sent)
    item["updated_at"] = now()
    if kind.path == "backend":
        _hostname(item)
        for director in version.objects["director"]:
            director["backends"] = [renamed if b == name else b for b in director["backends"]]
    return item


def _delete(p: Platform, call: Call, kind: Kind, sid: str, n: str, name: str) -> Record:
    service, version = p.store.draft(sid, n)
    version.objects[kind.path].remove(_find(kind, service, version, name))
    if kind.path == "backend":
        for director in version.objects["director"]:
            director["backends"] = [b for b in director["backends"] if b != name]
    return OK


def _declare(kind: Kind) -> None:
    path = f"{_V}/{kind.path}"
    noun = kind.path if kind.path in ("backend", "domain") else ""
    create = f"create {noun}" if noun else "write"
    update = "update backend" if noun == "backend" else "write"

    def bound(endpoint: Any) -> Any:
        return lambda p, call, **where: endpoint(p, call, kind, **where)

    route("GET", path)(bound(_list))
    route("POST", path, create)(bound(_create))
    if not kind.by_id:
        route("GET", path + "/{name}")(bound(_read))
        route("PUT", path + "/{name}", update)(bound(_update))
        route("DELETE", path + "/{name}")(bound(_delete))


@route("GET", _V + "/domain/check_all")
def check_domains(p: Platform, call: Call, sid: str, n: str) -> list[Any]:
    _, version = p.store.version(sid, n)
    return [[item, None, False] for item in version.objects["domain"]]


@route("GET", _V + "/domain/{name}/check")
def check_domain(p: Platform, call: Call, sid: str, n: str, name: str) -> list[Any]:
    service, version = p.store.version(sid, n)
    return [_find(KINDS["domain"], service, version, name), None, False]


for _kind in KINDS.values():
    _declare(_kind)


@route("PUT", _V + "/vcl/{name}/main")
def main_vcl(p: Platform, call: Call, sid: str, n: str, name: str) -> Record:
    service, version = p.store.draft(sid, n)
    found = _find(KINDS["vcl"], service, version, name)
    for item in version.objects["vcl"]:
        item["main"] = item is found
    return found


_RELATION = _V + "/director/{name}/backend/{backend}"


def _related(p: Platform, sid: str, n: str, name: str, backend: str) -> tuple[Record, Record]:
    service, version = p.store.draft(sid, n)
    _find(KINDS["backend"], service, version, backend)
    director = _find(KINDS["director"], service, version, name)
    shown = {"director": name, "backend": backend, "service_id": sid, "version": version.number}
    stamps = {"created_at": now(), "updated_at": now(), "deleted_at": None}
    return director, shown | stamps


@route("GET", _RELATION)
def get_relation(p: Platform, call: Call, sid: str, n: str, name: str, backend: str) -> Record:
    service, version = p.store.version(sid, n)
    director = _find(KINDS["director"], service, version, name)
    if backend not in director["backends"]:
        where = {"director": name, "backend": backend, "service": sid, "version": n}
        raise not_found("DirectorBackend", **where)
    return {"director": name, "backend": backend, "service_id": sid, "version": version.number}


@route("POST", _RELATION)
def post_relation(p: Platform, call: Call, sid: str, n: str, name: str, backend: str) -> Record:
    director, shown = _related(p, sid, n, name, backend)
    if backend in director["backends"]:
        raise Refused(409, "Duplicate record", f"Duplicate director_backend: '{backend}'")
    director["backends"].append(backend)
    return shown


@route("DELETE", _RELATION)
def delete_relation(p: Platform, call: Call, sid: str, n: str, name: str, backend: str) -> Record:
    director, _ = _related(p, sid, n, name, backend)
    director["backends"] = [item for item in director["backends"] if item != backend]
    return OK


def _limiter(p: Platform, ident: str) -> tuple[Version, Record]:
    for service in p.store.alive():
        for version in service.versions:
            for item in version.objects["rate-limiters"]:
                if item["id"] == ident:
                    return version, item
    raise not_found("RateLimiter", id=ident)


@route("GET", "/rate-limiters/{ident}")
def get_limiter(p: Platform, call: Call, ident: str) -> Record:
    return _limiter(p, ident)[1]


@route("PUT", "/rate-limiters/{ident}")
def put_limiter(p: Platform, call: Call, ident: str) -> Record:
    version, item = _limiter(p, ident)
    p.store.draft(version.service_id, str(version.number))
    item.update(KINDS["rate-limiters"].accept(call.body))
    return item


@route("DELETE", "/rate-limiters/{ident}")
def delete_limiter(p: Platform, call: Call, ident: str) -> Record:
    version, item = _limiter(p, ident)
    p.store.draft(version.service_id, str(version.number))
    version.objects["rate-limiters"].remove(item)
    return OK
