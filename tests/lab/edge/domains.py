"""Endpoints of domains that no version holds, and of products that are switched on beside versions.

A domain is served as soon as it names a service that has an active version.
"""

from __future__ import annotations

from typing import Any

from tests.lab.edge.records import Record, Refused, new_id, now
from tests.lab.edge.routes import Answer, Call, Platform, route
from tests.lab.edge.versionless import refreshed

_D = "/domain-management/v1/domains"
_P = "/enabled-products/v1/{product}/services/{sid}"


class Invalid(Refused):
    """A refusal in the form of these newer endpoints."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(status, title, detail)
        self.body = {"errors": [{"title": title, "detail": detail}]}


def _domain(p: Platform, ident: str) -> Record:
    if ident not in p.store.domains:
        raise Invalid(404, "Not found", f"Domain {ident} not found")
    return p.store.domains[ident]


def _followed(p: Platform, body: Any, *services: str | None) -> Answer:
    """Makes the POPs follow where the service of a domain is one that serves."""
    for ident in services:
        if ident and not p.store.services[ident].deleted:
            return refreshed(p, p.store.service(ident), body)
    return Answer(body)


@route("GET", _D)
def list_domains(p: Platform, call: Call) -> Record:
    found = list(p.store.domains.values())
    if "service_id" in call.query:
        found = [item for item in found if item["service_id"] == call.query["service_id"]]
    start, size = int(call.query.get("cursor", "0")), int(call.query.get("limit", "20"))
    after = str(start + size) if start + size < len(found) else ""
    meta = {"next_cursor": after, "limit": size, "total": len(found), "sort": "fqdn"}
    return {"data": found[start : start + size], "meta": meta}


@route("POST", _D)
def create_domain(p: Platform, call: Call) -> Answer:
    fqdn = str(call.body.get("fqdn") or "").lower()
    if not fqdn:
        raise Invalid(400, "Invalid value for fqdn", "fqdn can't be blank")
    if any(item["fqdn"] == fqdn for item in p.store.domains.values()):
        raise Invalid(400, "Invalid value for fqdn", "fqdn has already been taken")
    service = call.body.get("service_id")
    if service:
        p.store.service(service)
    made = {
        "id": new_id(),
        "fqdn": fqdn,
        "service_id": service,
        "description": str(call.body.get("description") or ""),
        "activated": False,
        "verified": False,
        "created_at": now(),
        "updated_at": now(),
    }
    p.store.domains[made["id"]] = made
    return _followed(p, made, service)


@route("GET", _D + "/{ident}")
def get_domain(p: Platform, call: Call, ident: str) -> Record:
    return _domain(p, ident)


@route("PATCH", _D + "/{ident}")
def update_domain(p: Platform, call: Call, ident: str) -> Answer:
    found = _domain(p, ident)
    before = found["service_id"]
    found.update({k: v for k, v in call.body.items() if k in ("service_id", "description")})
    found["updated_at"] = now()
    return _followed(p, found, found["service_id"], before)


@route("DELETE", _D + "/{ident}")
def delete_domain(p: Platform, call: Call, ident: str) -> Answer:
    gone = _domain(p, ident)
    del p.store.domains[ident]
    answer = _followed(p, None, gone["service_id"])
    answer.status = 204
    return answer


@route("GET", _P)
def get_product(p: Platform, call: Call, product: str, sid: str) -> Record:
    if product not in p.store.service(sid).products:
        refused = Refused(400, "no product on service")
        refused.body = {"type": "", "title": "no product on service", "status": 400,
                        "errors": None, "detail": ""}  # fmt: skip
        raise refused
    return {"product": {"id": product}, "service": {"id": sid}}


@route("PUT", _P)
def enable_product(p: Platform, call: Call, product: str, sid: str) -> Record:
    p.store.service(sid).products.add(product)
    return get_product(p, call, product, sid)


@route("DELETE", _P)
def disable_product(p: Platform, call: Call, product: str, sid: str) -> Answer:
    p.store.service(sid).products.discard(product)
    return Answer(None, 204)
