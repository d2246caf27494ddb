"""The table of endpoints, and what every endpoint is given: the platform and one call."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

from tests.lab.edge.faults import Faults, Log
from tests.lab.edge.fleet import Fleet
from tests.lab.edge.quota import Quota
from tests.lab.edge.records import Refused, Store


@dataclass
class Platform:
    """Everything behind the API."""

    store: Store
    fleet: Fleet
    quota: Quota
    token: str
    latency: dict[str, float]
    # When a domain of another service is refused: at its creation, or at activation.
    domain_conflict: str = "creation"
    faults: Faults = field(default_factory=Faults)
    log: Log = field(default_factory=Log)


@dataclass
class Call:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]
    url: str = ""
    # POPs that a fault keeps from following this call.
    missed: list[str] = field(default_factory=list)


@dataclass
class Answer:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    # Runs once the answer was sent: POPs follow an accepted activation.
    after: Callable[[], None] | None = None


Endpoint = Callable[..., Any]


@dataclass
class Route:
    method: str
    pattern: re.Pattern[str]
    endpoint: Endpoint
    takes: str
    counts: bool
    # Slow work done before the lock is taken.
    ahead: Endpoint | None


ROUTES: list[Route] = []
_PARTS = {"n": r"\d+|active", "logging": r"logging/[a-z0-9]+", "rest": r".+"}


def route(
    method: str,
    path: str,
    takes: str = "",
    *,
    counts: bool | None = None,
    ahead: Endpoint | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Declares an endpoint; ``counts`` says whether it uses up the write quota."""

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return f"(?P<{name}>{_PARTS.get(name, '[^/]+')})"

    pattern = re.compile(re.sub(r"\{(\w+)\}", part, path))
    default = "read" if method == "GET" else "write"

    def add(endpoint: Endpoint) -> Endpoint:
        spent = method != "GET" if counts is None else counts
        ROUTES.append(Route(method, pattern, endpoint, takes or default, spent, ahead))
        return endpoint

    return add


def find(method: str, path: str) -> tuple[Route, dict[str, str]]:
    for item in ROUTES:
        match = item.pattern.fullmatch(path) if item.method == method else None
        if match:
            return item, {name: unquote(text) for name, text in match.groupdict().items()}
    raise Refused(404, "Not found")


def page(call: Call, items: list[Any], size: int) -> Answer:
    """A page of a list, with the links to the others when there are others."""
    number = max(int(call.query.get("page", "1")), 1)
    size = max(int(call.query.get("per_page", str(size))), 1)
    last = max((len(items) + size - 1) // size, 1)
    links: dict[str, int] = {}
    if number > 1:
        links |= {"first": 1, "prev": number - 1}
    if number < last:
        links |= {"next": number + 1, "last": last}
    text = ", ".join(
        f"<{call.url}?{urlencode(call.query | {'page': str(at), 'per_page': str(size)})}>;"
        f' rel="{name}"'
        for name, at in links.items()
    )
    chosen = items[(number - 1) * size : number * size]
    return Answer(chosen, headers={"Link": text} if text else {})
