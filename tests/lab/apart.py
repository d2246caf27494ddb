"""The chain of five servers in two networks with a wide-area line between, for whoever asks what a distance costs.

Only the network is that of the whole lab; the servers are this machine's processes, of whatever kind. Who brings it up
stands in the new side's network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.lab import leftovers
from tests.lab.hosts import LAB
from tests.lab.loopback import ADDRESSES, Chain
from tests.lab.mariadb import MariaDB
from tests.lab.network import PLACES, Network, ip_batch, place_of, router_of
from tests.lab.site import alone

PORT = 13306
MACHINE = "10.80.0.3"
_NETS = {name: "old" if name.startswith("old") else "new" for name in ADDRESSES}
APART = {
    name: f"10.{PLACES[_NETS[name]]}.0.{address.rpartition('.')[2]}"
    for name, address in ADDRESSES.items()
}


@contextmanager
def apart(
    state: Path, kinds: Mapping[str, type[MariaDB]] | type[MariaDB], delay_ms: float
) -> Iterator[Chain]:
    """The chain with its sides `delay_ms` apart, one way; another process of the lab waits until it is gone."""
    with alone(), contextlib.ExitStack() as stack:
        leftovers.remove()
        stack.callback(leftovers.remove)
        (LAB / "run").mkdir(parents=True, exist_ok=True)
        Network(LAB / "run").up(delay_ms, MACHINE)
        for place in ("old", "new"):
            here = [address for address in APART.values() if place_of(address) == place]
            ip_batch([f"addr add {address}/24 dev br0" for address in here], router_of(place))
        chain = Chain(state, PORT, kinds=kinds, addresses=APART)
        for name, server in chain.servers.items():
            server.netns = router_of(_NETS[name])
        yield stack.enter_context(chain)
