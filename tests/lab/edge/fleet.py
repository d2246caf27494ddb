"""All POPs: gives them versions, and turns each to a new one after its own delay.

Invariant: an activation is accepted first; then every POP flips by itself, in the order accepted.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

from tests.lab.edge.expression import Unrunnable
from tests.lab.edge.records import Record, Service, Version
from tests.lab.edge.tls import Forwarders
from tests.lab.edge.varnish import Pop, VarnishError
from tests.lab.edge.vcl import Writer, hollow


@dataclass
class Ready:
    """A version that every POP has compiled and may now be told to serve."""

    service: str
    version: int
    name: str
    domains: tuple[str, ...]
    # What the real one would warn of.
    warnings: list[str]


@dataclass(order=True)
class _Due:
    at: float
    order: int
    ready: Ready | None = field(compare=False)
    service: str = field(compare=False)
    record: Record = field(compare=False)


@lru_cache(maxsize=256)
def _resolved(host: str, moment: int) -> str | None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return None
    # An IPv4 address where there is one: the lab's networks are IPv4.
    found.sort(key=lambda item: item[0] != socket.AF_INET)
    return str(found[0][4][0])


def _resolve(host: str) -> str | None:
    # A few seconds, so that one activation asks once: a name server that is not there is slow.
    return _resolved(host, int(time.monotonic() / 5))


class _Clock:
    """One thread per POP that carries out what is due."""

    def __init__(self, pop: Pop) -> None:
        self.pop = pop
        self._queue: list[_Due] = []
        self._order = count()
        self._wake = threading.Condition()
        threading.Thread(target=self._run, daemon=True, name=pop.name).start()

    def put(self, at: float, ready: Ready | None, service: str, record: Record) -> None:
        with self._wake:
            # Never before what was accepted earlier, whatever the spread became since.
            last = max((due.at for due in self._queue), default=0.0)
            due = _Due(max(at, last), next(self._order), ready, service, record)
            heapq.heappush(self._queue, due)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue or self._queue[0].at > time.monotonic():
                    left = self._queue[0].at - time.monotonic() if self._queue else None
                    self._wake.wait(left)
                due = heapq.heappop(self._queue)
            try:
                if due.ready is None:
                    done = self.pop.withdraw(due.service)
                else:
                    done = self.pop.serve(due.service, due.ready.name, due.ready.domains)
                due.record["pops"][self.pop.name] = done
            except VarnishError as error:
                due.record.setdefault("errors", {})[self.pop.name] = str(error)
            except OSError:
                # varnishd was ended, and with it all that was still due.
                return


class Fleet:
    """The POPs and their spread."""

    def __init__(self, pops: list[Pop], spread: list[float], staging: Pop | None = None) -> None:
        self.pops = pops
        # The staging network: one POP, which serves what was put there and nothing else.
        self.staging = staging
        self.tls = Forwarders(pops[0].directory.parent / "tls")
        self.spread = spread
        self.activations: list[Record] = []
        # Names a version is served under; set by whoever owns the store.
        self.names: Callable[[Service, Version], tuple[str, ...]] = lambda _s, _v: ()
        # Whether what cannot be run is served as an error page instead of being refused.
        self.hollow = False

    def start(self) -> None:
        for pop in self._all():
            pop.launch()
        with ThreadPoolExecutor(len(self._all())) as pool:
            list(pool.map(Pop.connect, self._all()))
        self._clocks = [_Clock(pop) for pop in self.pops]

    def _all(self) -> list[Pop]:
        return [*self.pops, *([self.staging] if self.staging else [])]

    def stop(self) -> None:
        for pop in self._all():
            pop.stop()

    def stage(self, service: Service, version: Version | None) -> None:
        """Serves a version on the staging network alone, or takes the service from there."""
        if self.staging is None:
            return
        if version is None:
            self.staging.withdraw(service.id)
            return
        ready = self.prepare(service, version, pops=[self.staging])
        self.staging.serve(ready.service, ready.name, ready.domains)

    def prepare(
        self,
        service: Service,
        version: Version,
        *,
        first_only: bool = False,
        pops: list[Pop] | None = None,
    ) -> Ready:
        """Compiles a version on the POPs; raises Unrunnable with the compiler's own words."""
        warnings = []
        addresses: dict[str, str | None] = {}
        for item in version.objects["backend"]:
            host = item["address"]
            addresses[item["name"]] = _resolve(host or "")
            if addresses[item["name"]] is None:
                warnings.append(
                    f"Warning: Backend host `{host}` could not be resolved to an IP address"
                )
        if not addresses:
            warnings.append("Warning: No default director found")
        try:
            text = Writer(service, version, addresses, self._sockets(version, addresses)).write()
        except Unrunnable as error:
            if not self.hollow:
                raise
            text = hollow(f"{service.id}.{version.number}", str(error))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"v_{service.id}_{version.number}_{digest}"
        for pop in pops or (self.pops[:1] if first_only else self.pops):
            try:
                pop.load(service.id, name, text)
            except VarnishError as error:
                words = re.sub(r"\s+", " ", str(error))
                raise Unrunnable(f"the stand-in's compiler refused it: {words}") from None
        names = self.names(service, version)
        return Ready(service.id, version.number, name, names, warnings)

    def _sockets(self, version: Version, addresses: dict[str, str | None]) -> dict[str, str]:
        sockets = {}
        for item in version.objects["backend"]:
            address = addresses[item["name"]]
            if item["use_ssl"] and address is not None:
                try:
                    sockets[item["name"]] = self.tls.socket(item, address)
                except (OSError, ValueError) as error:
                    # A key or certificate that is none: ssl's errors are of both kinds.
                    raise Unrunnable(f"Backend '{item['name']}': TLS: {error}") from None
        return sockets

    def flip(self, ready: Ready, without: list[str] | None = None) -> None:
        """Begins the flip of every POP now; ``without`` names POPs that miss it."""
        self._schedule(ready, ready.service, ready.version, without or [])

    def withdraw(self, service: str) -> None:
        self._schedule(None, service, None, [])

    def _schedule(
        self, ready: Ready | None, service: str, version: int | None, without: list[str]
    ) -> None:
        accepted = time.monotonic()
        record: Record = {
            "service": service, "version": version, "accepted": accepted, "pops": {}
        }  # fmt: skip
        self.activations.append(record)
        for number, clock in enumerate(self._clocks):
            if clock.pop.name not in without and "*" not in without:
                delay = self.spread[min(number, len(self.spread) - 1)] if self.spread else 0.0
                clock.put(accepted + delay, ready, service, record)

    def purge(self, service: str, key: str | None = None) -> None:
        for pop in self.pops:
            pop.purge(service, key)
