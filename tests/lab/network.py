"""The nets of the lab: three places (old cloud, new cloud, edge), each a netns with a bridge.

Hosts hang on the bridge of their place; between the places runs the WAN. The machine itself gets
one address at one place, the edge if nothing else is said, and routes to everything, so that judges may stand anywhere.
Everything made here carries `lab-` (namespaces) or `lab0` (the machine's own interface).
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from tests.lab.wan import DEVICE, Wan

# Place -> second byte of its net: 10.<byte>.0.0/24; the router is .1.
PLACES = {"old": 70, "new": 80, "edge": 90}
MACHINE_ADDRESS = "10.90.0.3"
MACHINE_LINK = "lab0"
NETNS_DIR = Path("/run/netns")


def place_of(address: str) -> str:
    second = int(address.split(".")[1])
    return next(place for place, byte in PLACES.items() if byte == second)


def netns_of(host: str) -> str:
    return f"lab-{host}"


def router_of(place: str) -> str:
    return f"lab-cloud-{place}"


def ip_batch(lines: list[str], netns: str | None = None) -> None:
    argv = ["ip", *(["-n", netns] if netns else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines) + "\n", capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _sysctl(netns: str, **values: int) -> None:
    script = "".join(f"echo {v} > /proc/sys/net/{k.replace('__', '/')};" for k, v in values.items())
    subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", script], check=True)


class Network:
    """Places, hosts' links, WAN and partitions."""

    def __init__(self, run_dir: Path) -> None:
        self.wan = Wan(run_dir)

    def up(self, delay_ms: float = 10.0, machine: str = MACHINE_ADDRESS) -> None:
        """Make the places; `delay_ms` is one way, between the two clouds, `machine` this machine's own address."""
        NETNS_DIR.mkdir(exist_ok=True)
        for place, byte in PLACES.items():
            ns = router_of(place)
            ip_batch([f"netns add {ns}"])
            _sysctl(ns, ipv4__ip_forward=1, ipv6__conf__all__disable_ipv6=1)
            ip_batch(
                [
                    "link set lo up",
                    "link add br0 type bridge forward_delay 0",
                    f"addr add 10.{byte}.0.1/24 dev br0",
                    "link set br0 up",
                ],
                ns,
            )
        self.wan.start({place: (router_of(place), byte) for place, byte in PLACES.items()})
        for place, byte in PLACES.items():
            wan = [f"link set {DEVICE} up txqueuelen 10000"]
            others = [b for b in PLACES.values() if b != byte]
            wan += [f"route add 10.{b}.0.0/24 dev {DEVICE} src 10.{byte}.0.1" for b in others]
            ip_batch(wan, router_of(place))
        self.wan.set("old", "new", delay_ms=delay_ms)
        here, byte = router_of(place_of(machine)), PLACES[place_of(machine)]
        ip_batch(
            [
                f"link add {MACHINE_LINK} type veth peer name h-machine netns {here}",
                f"addr add {machine}/24 dev {MACHINE_LINK}",
                f"link set {MACHINE_LINK} up",
                *(
                    f"route add 10.{b}.0.0/24 via 10.{byte}.0.1"
                    for b in PLACES.values()
                    if b != byte
                ),
            ]
        )
        ip_batch(["link set h-machine master br0", "link set h-machine up"], here)

    def add_host(self, name: str, addresses: list[str]) -> None:
        """Give a host its netns, with all its addresses on one link of its place."""
        ns, place = netns_of(name), place_of(addresses[0])
        router, byte = router_of(place), PLACES[place]
        ip_batch(
            [
                f"netns add {ns}",
                f"link add h-{name} netns {router} type veth peer name eth0 netns {ns}",
            ]
        )
        _sysctl(ns, ipv6__conf__all__disable_ipv6=1)
        ip_batch([f"link set h-{name} master br0", f"link set h-{name} up"], router)
        ip_batch(
            [
                "link set lo up",
                *(f"addr add {address}/24 dev eth0" for address in addresses),
                "link set eth0 up",
                f"route add default via 10.{byte}.0.1",
            ],
            ns,
        )

    def remove_host(self, name: str) -> None:
        ip_batch([f"netns del {netns_of(name)}"])

    def partition(self, a: str, b: str, addresses: dict[str, list[str]]) -> None:
        """Cut two hosts, or two places: nothing passes, nobody is told. Undone by `heal`."""
        if a in PLACES and b in PLACES:
            self.wan.set(a, b, down=True)
            return
        # On the way in, on both sides: a drop on the way out shows as an error to the sender.
        for here, there in ((a, b), (b, a)):
            script = [
                "add table inet lab",
                "add set inet lab cut { type ipv4_addr; }",
                "add chain inet lab arriving { type filter hook input priority 0; }",
                "flush chain inet lab arriving",
                "add rule inet lab arriving ip saddr @cut drop",
                f"add element inet lab cut {{ {', '.join(addresses[there])} }}",
            ]
            _nft(here, "\n".join(script) + "\n")

    def heal(self, a: str, b: str, addresses: dict[str, list[str]]) -> None:
        if a in PLACES and b in PLACES:
            self.wan.set(a, b, down=False)
            return
        for here, there in ((a, b), (b, a)):
            elements = ", ".join(addresses[there])
            with contextlib.suppress(RuntimeError):
                _nft(here, f"delete element inet lab cut {{ {elements} }}\n")


def _nft(host: str, script: str) -> None:
    argv = ["ip", "netns", "exec", netns_of(host), "nft", "-f", "-"]
    done = subprocess.run(argv, input=script, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"nft on {host}: {done.stderr.strip()}")
