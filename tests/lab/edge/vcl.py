"""Writes Varnish's VCL from the objects of one service version.

What Varnish cannot run is refused by name: a version is never served half understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.lab.edge.expression import Unrunnable, condition, value
from tests.lab.edge.records import Record, Service, Version

_ERROR_PAGE = """<?xml version="1.0" encoding="utf-8"?>
<html>
  <head><title>503 Backend fetch failed</title></head>
  <body><h1>Error 503 Backend fetch failed</h1><p>Backend fetch failed</p>
  <h3>Guru Mediation:</h3><p>Details: stand-in</p><hr><p>Varnish cache server</p></body>
</html>
"""
_SNIPPETS = {"recv": "recv", "fetch": "fetch", "deliver": "deliver", "error": "synth"}
_DIRECTORS = {1: "random", 2: "round_robin", 3: "hash", 4: "hash"}
_HEADER_PLACES = {
    "request": ("recv", "req"),
    "fetch": ("send", "bereq"),
    "cache": ("fetch", "beresp"),
    "response": ("deliver", "resp"),
}


def quoted(text: str) -> str:
    """A VCL string; short ones have no escapes, and long ones cannot hold their own end."""
    if not re.search(r'["\n]', text):
        return f'"{text}"'
    return """ + {"\""} + "}" + """.join(f'{{"{part}"}}' for part in text.split('"}'))


def host_pattern(domain: str) -> str:
    """A pattern that matches a Host header of this domain; ``*.`` stands for one or more labels."""
    plain = re.escape(domain.removeprefix("*.")).replace(r"\-", "-")
    lead = r"[^:]+\." if domain.startswith("*.") else ""
    return f"(?i)^{lead}{plain}(:[0-9]+)?$"


@dataclass
class Writer:
    """One version on its way to VCL: statements gathered per subroutine."""

    service: Service
    version: Version
    # Backend name to address, or None where the name could not be resolved.
    addresses: dict[str, str | None]
    # Backend name to the socket that speaks TLS for it.
    sockets: dict[str, str] = field(default_factory=dict)
    top: list[str] = field(default_factory=list)
    init: list[str] = field(default_factory=list)
    recv: list[str] = field(default_factory=list)
    send: list[str] = field(default_factory=list)
    fetch: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    synth: list[str] = field(default_factory=list)
    deliver: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def write(self) -> str:
        proof = f"{self.service.id}.{self.version.number}"
        self.names = {"req.vcl.version": f'"{proof}"'}
        self._acls()
        self._snippets()
        self._backends()
        self._headers()
        self._request_settings()
        self._response_objects()
        self._cache_settings()
        self._gzips()
        for item in self.version.objects["vcl"]:
            self.problems.append(f"VCL '{item['name']}': custom VCL cannot be run")
        if self.problems:
            raise Unrunnable("; ".join(self.problems))
        ttl = self.version.settings["general.default_ttl"]
        host = self.version.settings["general.default_host"]
        if host:
            self.recv.insert(0, f"set req.http.Host = {quoted(host)};")
        return _frame(self, proof, int(ttl))

    def when(self, statement: str, place: str, item: Record, *keys: str) -> str:
        """Guards a statement by the conditions an object names."""
        tests = []
        for key in keys:
            name = item.get(key)
            if not name:
                continue
            found = self.version.find("condition", name)
            if found is None:
                raise Unrunnable(f"no condition named '{name}'")
            tests.append(f"({condition(found['statement'] or '', place, self.names)})")
        return f"if ({' && '.join(tests)}) {{ {statement} }}" if tests else statement

    def _each(self, path: str) -> list[Record]:
        """Objects of a kind, in the order of their own or their condition's priority."""

        def rank(item: Record) -> int:
            name = item.get("request_condition") or item.get("cache_condition")
            guard = self.version.find("condition", name) if name else None
            return int(item.get("priority") or (guard or {}).get("priority") or 0)

        return sorted(self.version.objects[path], key=rank)

    def _acls(self) -> None:
        for number, item in enumerate(self.version.objects["acl"]):
            name = self.names[item["name"]] = f"A_{number}"
            lines = []
            for entry in self.service.entries.get(item["id"], {}).values():
                mask = "" if entry["subnet"] is None else f"/{entry['subnet']}"
                sign = "!" if str(entry["negated"]) == "1" else ""
                lines.append(f'{sign}"{entry["ip"]}"{mask};')
            self.top.append(f"acl {name} {{ {' '.join(lines)} }}")

    def _snippets(self) -> None:
        for item in self._each("snippet"):
            body = item["content"]
            if item["dynamic"] == "1":
                body = self.service.bodies.get(item["id"], {}).get("content")
            if item["type"] in _SNIPPETS:
                getattr(self, _SNIPPETS[item["type"]]).append(body or "")
            elif item["type"] == "init":
                self.top.append(body or "")
            elif item["type"] != "none":
                self.problems.append(
                    f"Snippet '{item['name']}': type '{item['type']}' cannot be run"
                )

    def _backends(self) -> None:
        version = self.version
        for number, item in enumerate(version.objects["healthcheck"]):
            self.names[f"probe {item['name']}"] = f"H_{number}"
            self.top.append(_probe(f"H_{number}", item))
        for number, item in enumerate(version.objects["backend"]):
            name, handle = item["name"], f"F_{number}_{re.sub(r'[^A-Za-z0-9]', '_', item['name'])}"
            self.names[f"backend {name}"] = handle
            probe = self.names.get(f"probe {item['healthcheck']}")
            if item["healthcheck"] and probe is None:
                self.problems.append(f"Backend '{name}': no such healthcheck")
            address = self.sockets.get(name) or self.addresses.get(name)
            self.top.append(_backend(handle, item, address, probe))
        choices = self._directors() + self._plain_backends()
        free = [choice for choice in choices if not choice[1]]
        if free:
            self.recv.append(free[0][0])
        else:
            self.recv.append("set req.backend_hint = F_none;")
        for statement, guard in choices:
            if guard:
                self._add(
                    self.recv, statement, "recv", {"request_condition": guard}, "Backend condition"
                )

    def _add(self, place: list[str], statement: str, context: str, item: Record, who: str) -> None:
        keys = ("request_condition", "cache_condition", "response_condition")
        try:
            place.append(self.when(statement, context, item, *keys))
        except Unrunnable as error:
            self.problems.append(f"{who}: {error}")

    def _choose(self, handle: str, members: list[Record], who: str) -> str:
        """Picks a backend, and says which Host it is asked under."""
        overridden = [bool(item["override_host"]) for item in members]
        if any(overridden) and not all(overridden):
            self.problems.append(f"{who}: override_host on some backends only cannot be run")
        # Without a Host of its own a request takes the one of the backend that is finally used.
        mark = '"1"' if any(overridden) else '"0"'
        return f"set req.backend_hint = {handle}; set req.http.x-standin-override = {mark};"

    def _director(self, handle: str, kind: str, members: list[Record]) -> None:
        self.init.append(f"new {handle} = directors.{kind}();")
        weighted = kind in ("random", "hash")
        for item in members:
            weight = f", {max(int(item['weight'] or 0), 0)}" if weighted else ""
            self.init.append(
                f"{handle}.add_backend({self.names['backend ' + item['name']]}{weight});"
            )

    def _directors(self) -> list[tuple[str, str]]:
        """A director serves by the condition of its first backend, as the API has no other."""
        found = []
        for number, item in enumerate(self.version.objects["director"]):
            who = f"Director '{item['name']}'"
            members = [b for b in self.version.objects["backend"] if b["name"] in item["backends"]]
            if not members:
                continue
            handle, kind = f"D_{number}", _DIRECTORS.get(item["type"])
            if kind is None:
                self.problems.append(f"{who}: type {item['type']} cannot be run")
                continue
            self._director(handle, kind, members)
            call = f"{handle}.backend()"
            if item["type"] in (3, 4):
                call = f"{handle}.backend({'req.url' if item['type'] == 3 else 'client.identity'})"
            guard = members[0]["request_condition"] or ""
            found.append((self._choose(call, members, who), guard))
        return found

    def _plain_backends(self) -> list[tuple[str, str]]:
        """Backends outside directors; those that balance by themselves share one per condition."""
        directed = {n for d in self.version.objects["director"] for n in d["backends"]}
        groups: dict[str, list[Record]] = {}
        found = []
        for item in self.version.objects["backend"]:
            guard = item["request_condition"] or ""
            if item["name"] in directed:
                continue
            if item["auto_loadbalance"]:
                groups.setdefault(guard, []).append(item)
            else:
                handle = self.names["backend " + item["name"]]
                found.append((self._choose(handle, [item], item["name"]), guard))
        balanced = []
        for number, (guard, members) in enumerate(groups.items()):
            self._director(f"L_{number}", "random", members)
            call = self._choose(f"L_{number}.backend()", members, "Load balanced backends")
            balanced.append((call, guard))
        return balanced + found

    def _headers(self) -> None:
        for item in self._each("header"):
            who = f"Header '{item['name']}'"
            place = _HEADER_PLACES.get(str(item["type"]))
            if place is None:
                self.problems.append(f"{who}: type '{item['type']}' cannot be run")
                continue
            try:
                statement = _header(item, *place, self.names)
            except Unrunnable as error:
                self.problems.append(f"{who}: {error}")
                continue
            self._add(getattr(self, place[0]), statement, place[0], item, who)

    def _request_settings(self) -> None:
        for item in self._each("request_settings"):
            parts = []
            if item["default_host"]:
                parts.append(f"set req.http.Host = {quoted(item['default_host'])};")
            if item["force_ssl"] == "1":
                parts.append("if (!req.http.Fastly-SSL) { return (synth(801)); }")
            if item["force_miss"] == "1":
                parts.append("set req.hash_always_miss = true;")
            if item["bypass_busy_wait"] == "1":
                parts.append("set req.hash_ignore_busy = true;")
            if item["xff"] in ("clear", "overwrite"):
                ip = '""' if item["xff"] == "clear" else '"" + client.ip'
                parts.append(f"set req.http.X-Forwarded-For = {ip};")
            if item["action"] == "pass":
                parts.append("return (pass);")
            who = f"Request settings '{item['name']}'"
            self._add(self.recv, " ".join(parts), "recv", item, who)

    def _response_objects(self) -> None:
        for number, item in enumerate(self._each("response_object")):
            who, reason = f"Response object '{item['name']}'", quoted(item["response"] or "")
            mark = f'x-standin-object = "{number}";'
            content, kind = quoted(item["content"] or ""), quoted(item["content_type"] or "")
            if item["cache_condition"]:
                answer = f"set bereq.http.{mark} return (error({item['status']}, {reason}));"
                self._add(self.fetch, answer, "fetch", item, who)
                self.failed.append(
                    f'if (bereq.http.x-standin-object == "{number}")'
                    f" {{ set beresp.http.Content-Type = {kind}; set beresp.body = {content};"
                    " return (deliver); }"
                )
            else:
                answer = f"set req.http.{mark} return (synth({item['status']}, {reason}));"
                self._add(self.recv, answer, "recv", item, who)
                self.synth.append(
                    f'if (req.http.x-standin-object == "{number}") {{ set resp.http.Content-Type ='
                    f" {kind}; set resp.body = {content}; return (deliver); }}"
                )

    def _cache_settings(self) -> None:
        for item in self._each("cache_settings"):
            who, parts = f"Cache settings '{item['name']}'", []
            if item["action"] == "restart":
                self.problems.append(f"{who}: action 'restart' cannot be run")
            if item["action"] == "pass":
                parts.append('set bereq.http.x-standin-pass = "1";')
            elif item["ttl"] and int(item["ttl"]):
                parts.append(f"set beresp.ttl = {item['ttl']}s;")
            if item["action"] == "cache":
                parts.append('set bereq.http.x-standin-pass = "0";')
            if item["stale_ttl"] and int(item["stale_ttl"]):
                parts.append(f"set beresp.grace = {item['stale_ttl']}s;")
            if parts:
                self._add(self.fetch, " ".join(parts), "fetch", item, who)

    def _gzips(self) -> None:
        for item in self._each("gzip"):
            tests = []
            if item["content_types"]:
                kinds = "|".join(re.escape(kind) for kind in item["content_types"].split())
                tests.append(f'beresp.http.Content-Type ~ "^({kinds})"')
            if item["extensions"]:
                ends = "|".join(re.escape(end) for end in item["extensions"].split())
                tests.append(rf'bereq.url ~ "\.({ends})(\?.*)?$"')
            statement = "set beresp.do_gzip = true;"
            if tests:
                statement = f"if ({' || '.join(tests)}) {{ {statement} }}"
            self._add(self.fetch, statement, "fetch", item, f"Gzip '{item['name']}'")


def _header(item: Record, place: str, owner: str, names: dict[str, str]) -> str:
    dst = str(item["dst"] or "")
    if not re.fullmatch(r"http\.[A-Za-z0-9_\-]+|url", dst):
        raise Unrunnable(f"destination '{dst}' cannot be run")
    target = f"{owner}.{dst}"
    action = item["action"]
    if action == "delete":
        return f"unset {target};"
    source = value(str(item["src"] or ""), place, names)
    if action in ("regex", "regex_repeat"):
        call = "regsub" if action == "regex" else "regsuball"
        arguments = f"{quoted(item['regex'] or '')}, {quoted(item['substitution'] or '')}"
        source = f"{call}({source}, {arguments})"
    if action == "append":
        return (
            f'if ({target}) {{ set {target} = {target} + "," + {source}; }}'
            f" else {{ set {target} = {source}; }}"
        )
    statement = f"set {target} = {source};"
    return f"if (!{target}) {{ {statement} }}" if item["ignore_if_set"] == "1" else statement


def _probe(name: str, item: Record) -> str:
    lines = [f"{item['method']} {item['path']} HTTP/{item['http_version']}"]
    lines += [f"Host: {item['host']}"] if item["host"] else []
    lines += ["Connection: close", *(item["headers"] or [])]
    request = " ".join(quoted(line) for line in lines)
    return (
        f"probe {name} {{ .request = {request}; .expected_response = {item['expected_response']};"
        f" .interval = {item['check_interval']}ms; .timeout = {item['timeout']}ms;"
        f" .window = {min(item['window'], 64)}; .threshold = {min(item['threshold'], 64)};"
        f" .initial = {min(item['initial'], 64)}; }}"
    )


def _backend(handle: str, item: Record, address: str | None, probe: str | None) -> str:
    if address is None:
        return f"backend {handle} none;"
    where = f'.host = "{address}"; .port = "{item["port"]}";'
    parts = [f'.path = "{address}";' if address.startswith("/") else where]
    if item["override_host"]:
        parts.append(f".host_header = {quoted(item['override_host'])};")
    for name in ("connect_timeout", "first_byte_timeout", "between_bytes_timeout"):
        if item[name]:
            parts.append(f".{name} = {item[name]}ms;")
    if item["max_conn"]:
        parts.append(f".max_connections = {item['max_conn']};")
    if probe:
        parts.append(f".probe = {probe};")
    return f"backend {handle} {{ {' '.join(parts)} }}"


def _frame(w: Writer, proof: str, ttl: int) -> str:
    """The subroutines around an own version: proof header, caching rules, bans, errors."""

    def lines(statements: list[str]) -> str:
        return "\n  ".join(statements)

    return f"""vcl 4.1;
import std;
import directors;
backend F_none none;
{chr(10).join(w.top)}
sub vcl_init {{
  {lines(w.init)}
  return (ok);
}}
sub vcl_recv {{
  unset req.http.x-standin-override;
  unset req.http.x-standin-object;
  set req.http.Fastly-Client-IP = client.ip;
  if (req.method == "PURGE") {{ return (purge); }}
  {lines(w.recv)}
  if (req.method != "GET" && req.method != "HEAD") {{ return (pass); }}
  if (req.http.Cookie || req.http.Authorization) {{ return (pass); }}
  return (hash);
}}
sub vcl_hash {{
  hash_data(req.url);
  hash_data(req.http.host);
  hash_data("{w.service.id}");
  return (lookup);
}}
sub vcl_backend_fetch {{
  {lines(w.send)}
  if (bereq.http.x-standin-override == "1") {{ unset bereq.http.Host; }}
  unset bereq.http.x-standin-override;
  return (fetch);
}}
sub vcl_backend_response {{
  set beresp.http.x-standin-service = "{w.service.id}";
  if (beresp.http.Surrogate-Control ~ "max-age=[0-9]+") {{
    set beresp.ttl = std.duration(
      regsub(beresp.http.Surrogate-Control, ".*max-age=([0-9]+).*", "\\1") + "s", 0s);
  }} elsif (beresp.http.Cache-Control !~ "(s-maxage|max-age)=" && !beresp.http.Expires) {{
    set beresp.ttl = {ttl}s;
  }}
  if (beresp.http.Set-Cookie || beresp.http.Cache-Control ~ "(?i)private|no-store|no-cache"
      || beresp.ttl <= 0s
      || (beresp.status != 200 && beresp.status != 203 && beresp.status != 300
          && beresp.status != 301 && beresp.status != 302 && beresp.status != 404
          && beresp.status != 410)) {{
    set bereq.http.x-standin-pass = "1";
  }}
  {lines(w.fetch)}
  # Decided last: Varnish lets nobody take it back.
  if (bereq.http.x-standin-pass == "1") {{
    set beresp.uncacheable = true;
    set beresp.ttl = 120s;
  }}
  return (deliver);
}}
sub vcl_backend_error {{
  set beresp.http.x-standin-service = "{w.service.id}";
  {lines(w.failed)}
  set beresp.http.Content-Type = "text/html; charset=utf-8";
  set beresp.http.Retry-After = "0";
  set beresp.body = {quoted(_ERROR_PAGE)};
  return (deliver);
}}
sub vcl_synth {{
  set resp.http.x-version = "{proof}";
  set resp.http.x-pop = server.identity;
  if (resp.status == 801) {{
    set resp.status = 301;
    set resp.http.Location = "https://" + req.http.host + req.url;
    return (deliver);
  }}
  {lines(w.synth)}
}}
sub vcl_deliver {{
  if (!req.http.Fastly-Debug) {{
    unset resp.http.Surrogate-Key;
    unset resp.http.Surrogate-Control;
  }}
  unset resp.http.x-standin-service;
  set resp.http.X-Served-By = "cache-" + server.identity;
  set resp.http.X-Cache-Hits = obj.hits;
  if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }} else {{ set resp.http.X-Cache = "MISS"; }}
  {lines(w.deliver)}
  set resp.http.x-version = "{proof}";
  set resp.http.x-pop = server.identity;
  return (deliver);
}}
"""


def hollow(proof: str, why: str) -> str:
    """A version that Varnish cannot run: it says so to everybody, and names itself."""
    return f"""vcl 4.1;
backend none none;
sub vcl_recv {{ return (synth(503, "Not run")); }}
sub vcl_synth {{
  set resp.http.x-version = "{proof}";
  set resp.http.x-pop = server.identity;
  set resp.body = {quoted(f"The stand-in cannot run this version: {why}")};
  return (deliver);
}}
"""


def root(domains: dict[str, tuple[str, ...]]) -> str:
    """The VCL that sends each domain to the label of its service; exact names win."""
    pairs = [(name, service) for service, names in domains.items() for name in names]
    pairs.sort(key=lambda pair: (pair[0].startswith("*."), -len(pair[0])))
    chosen = "\n".join(
        f'  if (req.http.host ~ "{host_pattern(name)}") {{ return (vcl(svc_{service})); }}'
        for name, service in pairs
    )
    return f"""vcl 4.1;
backend none none;
sub vcl_recv {{
{chosen}
  return (synth(500, "Internal Server Error"));
}}
sub vcl_synth {{
  set resp.http.Content-Type = "text/html; charset=utf-8";
  set resp.http.x-pop = server.identity;
  set resp.body = "Fastly error: unknown domain: " + req.http.host
    + ". Please check that this domain has been added to a service.";
  return (deliver);
}}
"""
