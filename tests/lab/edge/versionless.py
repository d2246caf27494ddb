"""Endpoints of what no version holds: dictionary items, ACL entries, bodies of dynamic snippets.

A change takes effect at once, and activating an older version does not undo it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from tests.lab.edge.expression import Unrunnable
from tests.lab.edge.kinds import typed
from tests.lab.edge.records import Record, Refused, Service, new_id, not_found, now
from tests.lab.edge.routes import Answer, Call, Platform, page, route

_D = "/service/{sid}/dictionary/{did}"
_A = "/service/{sid}/acl/{aid}"
_BATCH = 1000
OK = {"status": "ok"}


def _owned(service: Service, path: str, ident: str, label: str) -> Record:
    """The dictionary or ACL of this id in any version."""
    for version in reversed(service.versions):
        for item in version.objects[path]:
            if item["id"] == ident:
                return item
    raise not_found(label, id=ident, service=service.id)


def refreshed(p: Platform, service: Service, body: Any) -> Answer:
    """Makes the POPs follow a change, each after its own delay."""
    active = service.active
    if active is None:
        return Answer(body)
    with suppress(Unrunnable):
        ready = p.fleet.prepare(service, active)
        behind = [
            pop
            for pop in p.fleet.pops
            if pop.labels.get(service.id) != ready.name
            or pop.domains.get(service.id) != ready.domains
        ]
        if behind:
            return Answer(body, after=lambda: p.fleet.flip(ready))
    return Answer(body)


def _operations(call: Call, key: str) -> list[Record]:
    found = list(call.body.get(key) or [])
    if len(found) > _BATCH:
        raise Refused(400, "Bad request", f"At most {_BATCH} operations in one request")
    return found


def _items(p: Platform, sid: str, did: str) -> tuple[Service, Record, dict[str, Record]]:
    service = p.store.service(sid)
    dictionary = _owned(service, "dictionary", did, "Dictionary")
    return service, dictionary, service.items.setdefault(did, {})


def _item(sid: str, did: str, key: str, value: str, old: Record | None) -> Record:
    made = {"service_id": sid, "dictionary_id": did, "item_key": key, "item_value": value}
    created = old["created_at"] if old else now()
    return made | {"created_at": created, "updated_at": now(), "deleted_at": None}


@route("GET", _D + "/items")
def list_items(p: Platform, call: Call, sid: str, did: str) -> Answer:
    _, dictionary, items = _items(p, sid, did)
    if dictionary["write_only"]:
        raise Refused(403, "Forbidden", "Dictionary is write only")
    return page(call, list(items.values()), 100)


@route("GET", _D + "/info")
def dictionary_info(p: Platform, call: Call, sid: str, did: str) -> Record:
    _, dictionary, items = _items(p, sid, did)
    last = max((item["updated_at"] for item in items.values()), default=None)
    return {"item_count": len(items), "last_updated": last, "digest": f"{hash(str(items)):x}"}


@route("GET", _D + "/item/{key}")
def get_item(p: Platform, call: Call, sid: str, did: str, key: str) -> Record:
    _, dictionary, items = _items(p, sid, did)
    if key not in items or dictionary["write_only"]:
        raise not_found("DictionaryItem", dictionary_id=did, item_key=key, service_id=sid)
    return items[key]


@route("POST", _D + "/item", "items")
def create_item(p: Platform, call: Call, sid: str, did: str) -> Answer:
    service, _, items = _items(p, sid, did)
    key = str(call.body.get("item_key") or "")
    if key in items:
        raise Refused(409, "Duplicate record", f"Duplicate dictionary_item: '{key}'")
    items[key] = _item(sid, did, key, str(call.body.get("item_value") or ""), None)
    return refreshed(p, service, items[key])


def _put_item(p: Platform, call: Call, sid: str, did: str, key: str) -> Answer:
    service, _, items = _items(p, sid, did)
    if call.method == "PATCH" and key not in items:
        raise not_found("DictionaryItem", dictionary_id=did, item_key=key, service_id=sid)
    value = str(call.body.get("item_value") or "")
    items[key] = _item(sid, did, key, value, items.get(key))
    return refreshed(p, service, items[key])


route("PUT", _D + "/item/{key}", "items")(_put_item)
route("PATCH", _D + "/item/{key}", "items")(_put_item)


@route("DELETE", _D + "/item/{key}", "items")
def delete_item(p: Platform, call: Call, sid: str, did: str, key: str) -> Answer:
    service, _, items = _items(p, sid, did)
    if items.pop(key, None) is None:
        raise not_found("DictionaryItem", dictionary_id=did, item_key=key, service_id=sid)
    return refreshed(p, service, OK)


@route("PATCH", _D + "/items", "items")
def batch_items(p: Platform, call: Call, sid: str, did: str) -> Answer:
    service, _, items = _items(p, sid, did)
    # All or nothing: a batch works on a copy until it is through.
    fresh = dict(items)
    for one in _operations(call, "items"):
        key, op = str(one.get("item_key") or ""), one.get("op")
        if op == "create" and key in fresh:
            raise Refused(409, "Duplicate record", f"Duplicate dictionary_item: '{key}'")
        if op in ("update", "delete") and key not in fresh:
            raise not_found("DictionaryItem", dictionary_id=did, item_key=key, service_id=sid)
        if op == "delete":
            del fresh[key]
        else:
            fresh[key] = _item(sid, did, key, str(one.get("item_value") or ""), fresh.get(key))
    service.items[did] = fresh
    return refreshed(p, service, OK)


def _entries(p: Platform, sid: str, aid: str) -> tuple[Service, dict[str, Record]]:
    service = p.store.service(sid)
    _owned(service, "acl", aid, "ACL")
    return service, service.entries.setdefault(aid, {})


def _entry(sid: str, aid: str, sent: Record, old: Record | None) -> Record:
    base = old or {"service_id": sid, "acl_id": aid, "id": new_id(), "ip": None, "subnet": None}
    base = {"comment": "", "negated": 0, "created_at": now()} | base | {"updated_at": now()}
    kinds = {"ip": "str", "subnet": "int", "negated": "int", "comment": "str"}
    return base | {key: typed(kind, sent[key]) for key, kind in kinds.items() if key in sent}


@route("GET", _A + "/entries")
def list_entries(p: Platform, call: Call, sid: str, aid: str) -> Answer:
    return page(call, list(_entries(p, sid, aid)[1].values()), 100)


@route("GET", _A + "/entry/{eid}")
def get_entry(p: Platform, call: Call, sid: str, aid: str, eid: str) -> Record:
    _, entries = _entries(p, sid, aid)
    if eid not in entries:
        raise not_found("ACLEntry", acl_id=aid, id=eid, service_id=sid)
    return entries[eid]


@route("POST", _A + "/entry", "items")
def create_entry(p: Platform, call: Call, sid: str, aid: str) -> Answer:
    service, entries = _entries(p, sid, aid)
    made = _entry(sid, aid, call.body, None)
    entries[made["id"]] = made
    return refreshed(p, service, made)


@route("PATCH", _A + "/entry/{eid}", "items")
def update_entry(p: Platform, call: Call, sid: str, aid: str, eid: str) -> Answer:
    service, entries = _entries(p, sid, aid)
    entries[eid] = _entry(sid, aid, call.body, get_entry(p, call, sid, aid, eid))
    return refreshed(p, service, entries[eid])


@route("DELETE", _A + "/entry/{eid}", "items")
def delete_entry(p: Platform, call: Call, sid: str, aid: str, eid: str) -> Answer:
    service, entries = _entries(p, sid, aid)
    get_entry(p, call, sid, aid, eid)
    del entries[eid]
    return refreshed(p, service, OK)


@route("PATCH", _A + "/entries", "items")
def batch_entries(p: Platform, call: Call, sid: str, aid: str) -> Answer:
    service, entries = _entries(p, sid, aid)
    fresh = dict(entries)
    for one in _operations(call, "entries"):
        eid, op = str(one.get("id")), one.get("op")
        if op in ("update", "delete") and eid not in fresh:
            raise not_found("ACLEntry", acl_id=aid, id=eid, service_id=sid)
        if op == "delete":
            del fresh[eid]
        else:
            made = _entry(sid, aid, one, fresh.get(eid) if op == "update" else None)
            fresh[made["id"]] = made
    service.entries[aid] = fresh
    return refreshed(p, service, OK)


def _body(p: Platform, sid: str, snippet: str) -> tuple[Service, Record]:
    service = p.store.service(sid)
    if snippet not in service.bodies:
        raise not_found("Snippet", id=snippet, service=sid)
    return service, service.bodies[snippet]


@route("GET", "/service/{sid}/snippet/{snippet}")
def get_body(p: Platform, call: Call, sid: str, snippet: str) -> Record:
    return _body(p, sid, snippet)[1]


@route("PUT", "/service/{sid}/snippet/{snippet}", "items")
def put_body(p: Platform, call: Call, sid: str, snippet: str) -> Answer:
    service, body = _body(p, sid, snippet)
    body["content"] = str(call.body.get("content") or "")
    body["updated_at"] = now()
    return refreshed(p, service, body)
