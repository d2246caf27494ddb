"""The site's CDN: the stand-in's API and its two POPs on the host `edge`, and the site's service.

with cdn.serving(site) as edge:          # site.edge and the pillar now name it
    People(cdn.load(site), record)       # people come through the POPs
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.lab import wiki
from tests.lab.edge.standin import Edge, EdgeError
from tests.lab.people import Load, ask
from tests.lab.site import NOTICE, POPS, Site

API = "10.90.0.2:8080"
SERVICE = "docs"
BACKEND = "app1"
PROOF = "x-version"


@contextmanager
def serving(
    site: Site, *, delay: str = "recorded", spread: Sequence[float] = (0, 150), side: str = "old"
) -> Iterator[Edge]:
    """Run the edge with the site's service active and pointing to one side, and put it in the
    pillar; ends with the block, and with the thread that runs it. The pillar names it until another comes."""
    pops = [f"{address}:80" for address in POPS.values()]
    edge = Edge(
        pops,
        listen=API,
        delay=delay,
        spread=spread,
        token=site.secrets["fastly"],
        netns=[site["edge"].netns] * (1 + len(pops)),
    )
    with edge:
        ident = _service(edge, site[f"{side}-app1"].address)
        probe: dict[str, Any] = {"url": f"http://{wiki.PUBLIC_NAME}/alive", "header": PROOF}
        probe["addresses"] = list(POPS.values())
        site.edge = {
            "token": "sdb://migrate/fastly",
            "api": f"http://{API}",
            "services": {SERVICE: {"id": ident, "probe": probe}},
        }
        site.write_pillar()
        for address in POPS.values():
            _wait(address)
        yield edge


def _service(edge: Edge, address: str) -> str:
    backend = {"name": BACKEND, "address": address, "port": 80}
    ident = edge.create_service(SERVICE, [wiki.PUBLIC_NAME], [backend], activate=False)
    version = f"/service/{ident}/version/1"
    # Tells people and the product which version answered them.
    header = {"name": "version", "action": "set", "type": "response", "dst": f"http.{PROOF}"}
    edge.must("POST", f"{version}/header", {**header, "src": "req.vcl.version"})
    edge.activate(ident, 1)
    return ident


def _wait(address: str) -> None:
    # A POP follows an activation a moment after it was accepted.
    deadline = time.monotonic() + 60
    while ask(address, "/alive")[0] != 204:
        if time.monotonic() > deadline:
            raise EdgeError(f"{address} does not serve the site")
        time.sleep(0.01)


def load(site: Site, **change: Any) -> Load:
    """People of this site, through its POPs."""
    return Load(pops=dict(POPS), notice=NOTICE, pages=wiki.PAGES, page_mark=wiki.READER_MARK,
                **change)  # fmt: skip
