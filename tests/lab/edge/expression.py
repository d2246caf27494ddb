"""Translates the part of Fastly's condition language that Varnish can run, and refuses the rest.

Both languages read alike but name things differently, per subroutine: what Fastly calls ``req``
while fetching is ``bereq`` in Varnish.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"[^"\n]*"|\{".*?"\})
    | (?P<number>\d+)
    | (?P<word>[A-Za-z_][A-Za-z0-9_.\-]*)
    | (?P<sign>!~|==|!=|<=|>=|&&|\|\||[!~<>()+])
    )""",
    re.VERBOSE | re.DOTALL,
)

_EVERYWHERE = {"true": "true", "false": "false", "client.ip": "client.ip"}
_REQUEST = {
    "req.url": "req.url",
    "req.url.path": r'regsub(req.url, "\?.*$", "")',
    "req.url.qs": r'regsub(req.url, "^[^?]*\??", "")',
    "req.method": "req.method",
    "req.request": "req.method",
    "req.proto": "req.proto",
    "req.restarts": "req.restarts",
}

# What may be named in each place, and how Varnish calls it there.
CONTEXTS: dict[str, dict[str, str]] = {
    "recv": _EVERYWHERE
    | _REQUEST
    | {
        "req.backend.healthy": "std.healthy(req.backend_hint)",
        "server.identity": "server.identity",
    },
    "fetch": _EVERYWHERE
    | {name: text.replace("req.", "bereq.") for name, text in _REQUEST.items()}
    | {"req.restarts": "0", "beresp.status": "beresp.status", "beresp.ttl": "beresp.ttl"},
    "send": _EVERYWHERE
    | {name: text.replace("req.", "bereq.") for name, text in _REQUEST.items()}
    | {"req.restarts": "0"},
    "deliver": _EVERYWHERE
    | _REQUEST
    | {
        "resp.status": "resp.status",
        "obj.hits": "obj.hits",
        "server.identity": "server.identity",
    },
}
# The client's address is not at hand in Varnish's backend threads.
for _name in ("fetch", "send"):
    CONTEXTS[_name].pop("client.ip")

_HEADERS = {
    "recv": {"req": "req"},
    "fetch": {"req": "bereq", "bereq": "bereq", "beresp": "beresp"},
    "send": {"req": "bereq", "bereq": "bereq"},
    "deliver": {"req": "req", "resp": "resp"},
}


class Unrunnable(Exception):
    """Something a version asks for that the stand-in cannot run; says what, in plain words."""


def _word(word: str, context: str, names: Mapping[str, str]) -> str:
    if word in names:
        return names[word]
    if word in CONTEXTS[context]:
        return CONTEXTS[context][word]
    owner, http, header = word.partition(".http.")
    if http and header and owner in _HEADERS[context]:
        return f"{_HEADERS[context][owner]}.http.{header}"
    raise Unrunnable(f"'{word}' is not known to the stand-in")


def _tokens(text: str, context: str, names: Mapping[str, str]) -> list[str]:
    found: list[str] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unrunnable(f"cannot read {text[at : at + 30].strip()!r}")
        at = match.end()
        part = match.group(match.lastgroup or 0)
        found.append(_word(part, context, names) if match.lastgroup == "word" else part)
    return found


def condition(text: str, context: str, names: Mapping[str, str]) -> str:
    """A condition's statement; ``names`` gives the ACLs of the version."""
    if "table.lookup" in text:
        raise Unrunnable("dictionary lookups are stored, but not run")
    return " ".join(_tokens(text, context, names))


def value(text: str, context: str, names: Mapping[str, str]) -> str:
    """A header's source: strings and variables one after another are concatenated."""
    parts = [part for part in _tokens(text, context, names) if part != "+"]
    if not parts:
        raise Unrunnable("an empty source")
    # A leading string keeps Varnish in string arithmetic when the first part is an address.
    return '"" + ' + " + ".join(parts)
