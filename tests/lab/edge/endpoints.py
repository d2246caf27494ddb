"""Endpoints of services and versions: tokens, create, clone, validate, activate, purge."""

from __future__ import annotations

import difflib
import json
import time
from contextlib import suppress
from typing import Any

from tests.lab.edge.expression import Unrunnable
from tests.lab.edge.kinds import KINDS, SETTINGS, typed
from tests.lab.edge.records import (
    Record,
    Refused,
    Service,
    Version,
    new_id,
    not_found,
    now,
)
from tests.lab.edge.routes import Answer, Call, Platform, page, route

_S = "/service/{sid}"
_V = "/service/{sid}/version/{n}"
OK = {"status": "ok"}


@route("GET", "/tokens/self")
def token_self(p: Platform, call: Call) -> Record:
    return {
        "id": p.store.user_id[::-1],
        "user_id": p.store.user_id,
        "customer_id": p.store.customer_id,
        "name": "stand-in",
        "last_used_at": now(),
        "created_at": now(),
        "expires_at": None,
        "ip": None,
        "user_agent": call.headers.get("user-agent"),
        "sudo_expires_at": None,
        "scopes": ["global"],
        "scope": "global",
        "services": [],
        "service_id": None,
    }


def summary(service: Service) -> Record:
    """A service in a list: the number of its active version, or else of its latest."""
    shown = service.active or service.versions[-1]
    return basics(service) | {"version": shown.number}


def basics(service: Service) -> Record:
    return {
        "id": service.id,
        "name": service.name,
        "comment": service.comment,
        "type": service.type,
        "customer_id": service.customer_id,
        "created_at": service.created_at,
        "updated_at": service.updated_at,
        "deleted_at": None,
        "versions": [service.shown(version) for version in service.versions],
    }


@route("GET", "/service")
def list_services(p: Platform, call: Call) -> Answer:
    return page(call, [summary(item) for item in p.store.alive()], 20)


@route("GET", "/service/search")
def search_service(p: Platform, call: Call) -> Record:
    name = call.query.get("name", "")
    for item in p.store.alive():
        if item.name == name:
            return summary(item)
    raise not_found("Service", name=name)


@route("POST", "/service", "create service")
def create_service(p: Platform, call: Call) -> Record:
    name = str(call.body.get("name") or "")
    if not name:
        raise Refused(400, "Bad request", "Name can't be blank")
    if any(item.name == name for item in p.store.alive()):
        raise Refused(409, "Duplicate record", f"Duplicate service: '{name}'")
    made = Service(new_id(), name, str(call.body.get("comment") or ""))
    made.type = str(call.body.get("type") or "vcl")
    made.customer_id = p.store.customer_id
    made.versions.append(Version(made.id, 1))
    p.store.services[made.id] = made
    return basics(made) | {"publish_key": new_id()}


@route("GET", _S)
def get_service(p: Platform, call: Call, sid: str) -> Record:
    return basics(p.store.service(sid))


@route("PUT", _S)
def update_service(p: Platform, call: Call, sid: str) -> Record:
    service = p.store.service(sid)
    service.name = str(call.body.get("name", service.name))
    service.comment = str(call.body.get("comment", service.comment))
    service.updated_at = now()
    return basics(service)


@route("DELETE", _S, "delete service")
def delete_service(p: Platform, call: Call, sid: str) -> Record:
    service = p.store.service(sid)
    if service.active:
        detail = f"Service '{sid}' has an active version and cannot be deleted"
        raise Refused(400, "Bad request", detail)
    service.deleted = True
    return OK


@route("GET", _S + "/details", "details")
def details(p: Platform, call: Call, sid: str) -> Record:
    service = p.store.service(sid)
    active = service.active
    if "version" in call.query:
        shown: Version | None = p.store.version(sid, call.query["version"])[1]
    elif call.query.get("filter[versions.staged]") == "true":
        shown = next((item for item in service.versions if item.staging), None)
    else:
        shown = active or service.versions[-1]
    return basics(service) | {
        "version": with_objects(service, shown) if shown else None,
        "active_version": with_objects(service, active) if active else None,
        "environments": service.environments(shown) if shown else [],
    }


def with_objects(service: Service, version: Version) -> Record:
    found: Record = {
        kind.details: version.objects[path] for path, kind in KINDS.items() if kind.details
    }
    settings = {"settings": version.settings, "wordpress": []}
    return service.shown(version) | found | settings


@route("GET", _S + "/domain")
def service_domains(p: Platform, call: Call, sid: str) -> list[Record]:
    service = p.store.service(sid)
    version = service.active or service.versions[-1]
    return [item | {"locked": version.locked} for item in version.objects["domain"]]


@route("GET", _S + "/version")
def list_versions(p: Platform, call: Call, sid: str) -> list[Record]:
    service = p.store.service(sid)
    return [service.shown(version) for version in service.versions]


@route("POST", _S + "/version", "create version")
def create_version(p: Platform, call: Call, sid: str) -> Record:
    service = p.store.service(sid)
    made = Version(sid, service.versions[-1].number + 1, str(call.body.get("comment") or ""))
    service.versions.append(made)
    return call.body | {"service_id": sid, "number": made.number}


@route("GET", _V)
def get_version(p: Platform, call: Call, sid: str, n: str) -> Record:
    service, version = p.store.version(sid, n)
    return service.shown(version)


@route("PUT", _V)
def update_version(p: Platform, call: Call, sid: str, n: str) -> Record:
    service, version = p.store.version(sid, n)
    version.comment = str(call.body.get("comment", version.comment))
    version.updated_at = now()
    return service.shown(version)


@route("PUT", _V + "/clone", "clone")
def clone_version(p: Platform, call: Call, sid: str, n: str) -> Record:
    service, version = p.store.version(sid, n)
    made = version.clone(service.versions[-1].number + 1)
    service.versions.append(made)
    return service.shown(made)


@route("PUT", _V + "/lock", "lock")
def lock_version(p: Platform, call: Call, sid: str, n: str) -> Record:
    service, version = p.store.version(sid, n)
    version.locked, version.updated_at = True, now()
    return service.shown(version)


def check_domains(p: Platform, service: Service, version: Version) -> None:
    for item in version.objects["domain"]:
        owner = p.store.owner_of(item["name"], service.id)
        if owner and (owner.active and owner.active.find("domain", item["name"])):
            taken = f"Domain '{item['name']}' is already taken by service {owner.id}"
            raise Refused(400, "Bad request", taken)


@route("GET", _V + "/validate")
def validate(p: Platform, call: Call, sid: str, n: str) -> Record:
    service, version = p.store.version(sid, n)
    try:
        # Kept compiled: a version is validated to be activated next.
        warnings = p.fleet.prepare(service, version, first_only=True).warnings
    except Unrunnable as error:
        return {"status": "error", "msg": str(error), "errors": [str(error)], "warnings": []}
    return {"status": "ok", "msg": "\n".join(warnings) or None, "errors": [], "warnings": warnings}


def compile_ahead(p: Platform, call: Call, sid: str, n: str) -> None:
    """Does the slow part of an activation outside the lock: services activate side by side."""
    with p.store.lock:
        service, version = p.store.version(sid, n)
    with suppress(Unrunnable):
        p.fleet.prepare(service, version)


@route("PUT", _V + "/activate", "activate", ahead=compile_ahead)
def activate(p: Platform, call: Call, sid: str, n: str) -> Answer:
    service, version = p.store.version(sid, n)
    check_domains(p, service, version)
    try:
        ready = p.fleet.prepare(service, version)
    except Unrunnable as error:
        raise Refused(400, "Bad request", f"This version cannot be run: {error}") from None
    before = service.environments(version)
    for item in service.versions:
        item.active = item is version
    version.locked, version.updated_at = True, now()
    answer = service.shown(version) | {"environments": before}
    if ready.warnings:
        answer["msg"] = "\n".join(ready.warnings)
    return Answer(answer, after=lambda: p.fleet.flip(ready, call.missed))


@route("PUT", _V + "/deactivate", "activate")
def deactivate(p: Platform, call: Call, sid: str, n: str) -> Answer:
    service, version = p.store.version(sid, n)
    was, version.active, version.updated_at = version.active, False, now()
    after = (lambda: p.fleet.withdraw(sid)) if was else None
    return Answer(service.shown(version), after=after)


@route("PUT", _V + "/activate/staging", "activate")
def stage(p: Platform, call: Call, sid: str, n: str) -> Record:
    service, version = p.store.version(sid, n)
    if service.active is None:
        raise Refused(400, "Bad request", "Service has no active production version")
    try:
        p.fleet.stage(service, version)
    except Unrunnable as error:
        raise Refused(400, "Bad request", f"This version cannot be run: {error}") from None
    for item in service.versions:
        item.staging = item is version
    version.updated_at = now()
    return service.shown(version)


@route("PUT", _V + "/deactivate/staging", "activate")
def unstage(p: Platform, call: Call, sid: str, n: str) -> Record:
    service, version = p.store.version(sid, n)
    if version.staging:
        p.fleet.stage(service, None)
    version.staging, version.updated_at = False, now()
    return service.shown(version)


def _yaml(version: Version) -> list[str]:
    lines = ["---"]
    unsaid = ("version", "created_at", "updated_at", "deleted_at", "service_id", "locked")
    for path, kind in sorted(KINDS.items()):
        items = version.objects[path]
        if items:
            lines.append(f"{kind.details or path}:")
        for item in items:
            shown = {key: item[key] for key in sorted(item) if key not in unsaid}
            for number, (key, text) in enumerate(shown.items()):
                lines.append(f"{'-' if number == 0 else ' '} {key}: {json.dumps(text)}")
    return lines + ["settings:"] + [f"  {k}: {json.dumps(v)}" for k, v in version.settings.items()]


@route("GET", _S + "/diff/from/{a}/to/{b}")
def diff(p: Platform, call: Call, sid: str, a: str, b: str) -> Record:
    old, new = p.store.version(sid, a)[1], p.store.version(sid, b)[1]
    text = "\n".join(difflib.unified_diff(_yaml(old), _yaml(new), a, b, lineterm=""))
    form = call.query.get("format", "text")
    return {"from": old.number, "to": new.number, "format": form, "diff": text}


@route("GET", _V + "/settings")
def get_settings(p: Platform, call: Call, sid: str, n: str) -> Record:
    _, version = p.store.version(sid, n)
    return version.settings | {"service_id": sid, "version": version.number}


@route("PUT", _V + "/settings")
def put_settings(p: Platform, call: Call, sid: str, n: str) -> Record:
    _, version = p.store.draft(sid, n)
    for key, text in call.body.items():
        if key in SETTINGS:
            version.settings[key] = typed(SETTINGS[key].type, text)
    return version.settings | {"service_id": sid, "version": version.number}


@route("GET", _V + "/http3")
def get_http3(p: Platform, call: Call, sid: str, n: str) -> Record:
    _, version = p.store.version(sid, n)
    if version.http3 is None:
        raise Refused(404, "Not found")
    return version.http3


@route("POST", _V + "/http3")
def post_http3(p: Platform, call: Call, sid: str, n: str) -> Record:
    _, version = p.store.draft(sid, n)
    stamp = {"created_at": now(), "updated_at": now(), "deleted_at": None, "feature_revision": 1}
    version.http3 = {"service_id": sid, "version": version.number} | stamp
    return version.http3


@route("DELETE", _V + "/http3")
def delete_http3(p: Platform, call: Call, sid: str, n: str) -> Record:
    _, version = p.store.draft(sid, n)
    version.http3 = None
    return OK


@route("POST", _S + "/purge_all", "purge all")
def purge_all(p: Platform, call: Call, sid: str) -> Record:
    p.fleet.purge(p.store.service(sid).id)
    return OK


def _purge(p: Platform, sid: str, key: str) -> str:
    p.fleet.purge(sid, key)
    return f"{len(sid)}-{int(time.time())}-{time.monotonic_ns() % 100000}"


@route("POST", _S + "/purge/{key}", "purge key", counts=False)
def purge_key(p: Platform, call: Call, sid: str, key: str) -> Record:
    return OK | {"id": _purge(p, p.store.service(sid).id, key)}


@route("POST", _S + "/purge", "purge key", counts=False)
def purge_keys(p: Platform, call: Call, sid: str) -> Record:
    keys: Any = call.body.get("surrogate_keys") or call.headers.get("surrogate-key", "").split()
    return {key: _purge(p, p.store.service(sid).id, key) for key in keys}


@route("POST", "/purge/{rest}", "purge key", counts=False)
def purge_url(p: Platform, call: Call, rest: str) -> Record:
    host, _, path = rest.partition("/")
    for pop in p.fleet.pops:
        pop.purge_url(host, f"/{path}")
    return OK | {"id": f"0-{int(time.time())}-{time.monotonic_ns() % 100000}"}
