"""Services to try things on: one that uses every kind of object, and many of a given size."""

from __future__ import annotations

from typing import Any

from tests.lab.edge.standin import Edge

SECRET = "-----BEGIN PRIVATE KEY-----not-a-key"

_CONDITIONS: list[dict[str, Any]] = [
    {"name": "wiki", "type": "REQUEST", "statement": 'req.url ~ "^/wiki"', "priority": 5},
    {"name": "office", "type": "REQUEST", "statement": "client.ip ~ office", "comment": "ours"},
    {"name": "error", "type": "CACHE", "statement": "beresp.status >= 500"},
    {"name": "html", "type": "RESPONSE", "statement": "resp.status == 200"},
]

# Every field differs from its default somewhere.
EVERY_KIND: dict[str, list[dict[str, Any]]] = {
    "condition": _CONDITIONS,
    "healthcheck": [
        {"name": "alive", "method": "GET", "path": "/alive", "host": "docs.example.org",
         "headers": ["X-Probe: yes", "X-More: 1"], "check_interval": 60000, "timeout": 900,
         "threshold": 1, "window": 2, "initial": 1, "expected_response": 204, "comment": "hello"},
    ],
    "cache_settings": [
        {"name": "errors", "action": "pass", "cache_condition": "error"},
        {"name": "long", "ttl": 600, "stale_ttl": 60, "action": "cache"},
    ],
    "director": [{"name": "all", "type": 1, "quorum": 50, "retries": 2, "comment": "both"}],
    "gzip": [{"name": "text", "content_types": "text/html text/css", "extensions": "css js"}],
    "header": [
        {"name": "who", "type": "response", "action": "set", "dst": "http.X-Who",
         "src": '"docs"', "priority": 7, "ignore_if_set": 1, "response_condition": "html"},
        {"name": "strip", "type": "request", "action": "regex", "dst": "http.X-Path",
         "src": "req.url", "regex": "^/a", "substitution": "/b", "request_condition": "wiki"},
        {"name": "no-cookie", "type": "cache", "action": "delete", "dst": "http.Set-Cookie",
         "cache_condition": "error"},
    ],
    "request_settings": [
        {"name": "ours", "xff": "overwrite", "max_stale_age": 30, "force_miss": 0,
         "bypass_busy_wait": 1, "hash_keys": "req.url", "request_condition": "wiki"},
    ],
    "response_object": [
        {"name": "gone", "status": 410, "response": "Gone", "content": 'a "page" with ümlaut',
         "content_type": "text/plain", "request_condition": "office"},
    ],
    "vcl": [
        {"name": "main", "content": "sub vcl_recv {\n#FASTLY recv\n}", "main": True},
        {"name": "more", "content": "# included", "main": False},
    ],
    "snippet": [
        {"name": "static", "type": "recv", "content": "# static", "priority": 3},
        {"name": "dynamic", "type": "fetch", "content": "# dynamic", "dynamic": 1},
    ],
    "rate-limiters": [
        {"name": "slow", "rps_limit": 10, "window_size": 60, "http_methods": ["GET", "POST"],
         "client_key": ["req.http.Fastly-Client-IP"], "penalty_box_duration": 2,
         "action": "response", "uri_dictionary_name": "table",
         "response": {"status": 429, "content_type": "text/html", "content": "slow down"}},
    ],
    "logging/syslog": [
        {"name": "central", "address": "logs.example.org", "port": 514, "token": SECRET,
         "format": "%h", "response_condition": "html"},
    ],
    "logging/s3": [
        {"name": "bucket", "bucket_name": "logs", "access_key": "AK", "secret_key": SECRET,
         "compression_codec": "zstd", "gzip_level": 0},
    ],
}  # fmt: skip


def backends(old: str, port: int) -> list[dict[str, Any]]:
    """Three backends: two of a node, with what else a backend can say, and one off the CDN."""
    tls = {"use_ssl": True, "ssl_cert_hostname": "app.example.org", "ssl_check_cert": False,
           "ssl_sni_hostname": "app.example.org", "ssl_client_key": SECRET}  # fmt: skip
    return [
        {"name": "app1", "address": old, "port": port, "weight": 70, "healthcheck": "alive",
         "shield": "iad-va-us", "connect_timeout": 900, "max_conn": 50, "comment": "first"},
        {"name": "app1 backup", "address": old, "port": port, "weight": 30,
         "request_condition": "wiki", "auto_loadbalance": True, "override_host": "in.example.org"},
        {"name": "store", "address": "127.0.0.99", "port": port, "weight": 1, **tls},
    ]  # fmt: skip


def every_kind(edge: Edge, name: str, domains: list[str], old: str, *, port: int = 80) -> str:
    """A service, active at its version 2, that uses every kind; the stand-in must not refuse it."""
    ident: str = edge.must("POST", "/service", {"name": name})["id"]
    version = f"/service/{ident}/version/1"
    entries = [{"ip": "192.0.2.0", "subnet": 24}, {"ip": "192.0.2.9", "negated": "1",
               "comment": "not him"}, {"ip": "2001:db8::", "subnet": 32}]  # fmt: skip
    acl = edge.must("POST", f"{version}/acl", {"name": "office"})["id"]
    for entry in entries:
        edge.must("POST", f"/service/{ident}/acl/{acl}/entry", entry)
    edge.must("POST", f"{version}/acl", {"name": "empty"})
    table = edge.must("POST", f"{version}/dictionary", {"name": "table"})["id"]
    # More than one batch takes.
    items = [{"op": "create", "item_key": f"k{n}", "item_value": f"v{n}"} for n in range(1250)]
    for batch in (items[:1000], items[1000:]):
        edge.must("PATCH", f"/service/{ident}/dictionary/{table}/items", {"items": batch})
    edge.must("POST", f"{version}/dictionary", {"name": "secrets", "write_only": True})
    for domain in domains:
        edge.must("POST", f"{version}/domain", {"name": domain, "comment": "production"})
    for kind, objects in EVERY_KIND.items():
        if kind == "director":
            for backend in backends(old, port):
                edge.must("POST", f"{version}/backend", backend)
        for sent in objects:
            edge.must("POST", f"{version}/{kind}", sent)
    for member in ("app1", "store"):
        edge.must("POST", f"{version}/director/all/backend/{member}")
    edge.must("PUT", f"{version}/settings", {"general.default_ttl": 120,
              "general.default_host": "docs.example.org", "general.stale_if_error": True})  # fmt: skip
    edge.must("POST", f"{version}/http3")
    edge.must("PUT", f"{version}/clone")
    edge.must("PUT", f"/service/{ident}/version/2", {"comment": "as the operators left it"})
    edge.must("PUT", f"/service/{ident}/version/2/activate")
    return ident


def of_size(edge: Edge, name: str, domain: str, old: str, port: int, objects: int) -> str:
    """An active service of so many objects that Varnish can run, two of them backends."""
    ident: str = edge.must("POST", "/service", {"name": name})["id"]
    version = f"/service/{ident}/version/1"
    edge.must("POST", f"{version}/domain", {"name": domain})
    for backend in ("app1", "app2"):
        edge.must("POST", f"{version}/backend", {"name": backend, "address": old, "port": port})
    edge.must("POST", f"{version}/director", {"name": "all", "type": 2})
    for backend in ("app1", "app2"):
        edge.must("POST", f"{version}/director/all/backend/{backend}")
    for number in range(objects - 4):
        sent = {"name": f"h{number}", "type": "response", "action": "set", "src": f'"{number}"',
                "dst": f"http.X-H{number}"}  # fmt: skip
        edge.must("POST", f"{version}/header", sent)
    edge.must("PUT", f"{version}/activate")
    return ident
