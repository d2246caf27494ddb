"""The WAN between the places of the lab: one process, one TUN device per place.

Run as a script it is the emulator: every packet that leaves a place waits its one-way delay, or is
lost, or is cut, and appears at the other place. Imported it is `Wan`, which starts that process and
changes it while traffic flows. Works for TCP, UDP and ICMP alike, and needs no netem.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
DEVICE = "wan0"
QUIET = {"delay_ms": 0.0, "jitter_ms": 0.0, "loss": 0.0, "down": False}


def pair(a: str, b: str) -> str:
    return "-".join(sorted((a, b)))


class Wan:
    """The running emulator, as seen from outside."""

    def __init__(self, run_dir: Path) -> None:
        self.socket_path = run_dir / "wan.sock"
        self.pid_path = run_dir / "wan.pid"
        self.log_path = run_dir / "wan.log"

    def start(self, places: dict[str, tuple[str, int]]) -> None:
        """Start the process; `places` maps a name to its netns and the second byte of its net."""
        self.socket_path.unlink(missing_ok=True)
        argv = [sys.executable, "-P", __file__, str(self.socket_path), json.dumps(places)]
        with self.log_path.open("wb") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid_path.write_text(str(process.pid))
        deadline = time.monotonic() + 60
        while not self.socket_path.exists():
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"the WAN did not start: {self.log_path.read_text()}")
            time.sleep(0.01)

    def set(self, a: str, b: str, **change: float | bool) -> dict[str, float | bool]:
        """Change the line between two places; returns what now holds, when it holds."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(5)
            s.connect(str(self.socket_path))
            s.send(json.dumps({"pair": pair(a, b), "change": change}).encode())
            return json.loads(s.recv(65536))

    def get(self, a: str, b: str) -> dict[str, float | bool]:
        return self.set(a, b)


def _open_tun(netns: str) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{netns}").open() as ns:
        if libc.setns(ns.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
    fcntl.ioctl(fd, TUNSETIFF, request)
    return fd


def _serve(socket_path: str, places: dict[str, tuple[str, int]]) -> None:
    fds = {name: _open_tun(netns) for name, (netns, _) in places.items()}
    by_net = {net: name for name, (_, net) in places.items()}
    lines = {pair(a, b): dict(QUIET) for a in places for b in places if a < b}
    released: dict[tuple[int, int], float] = {}
    queue: list[tuple[float, int, int, bytes]] = []
    count = 0
    names = {fd: name for name, fd in fds.items()}
    # Without this the kernel may be 50 microseconds late with each packet.
    ctypes.CDLL(None).prctl(29, 1000, 0, 0, 0)
    with contextlib.suppress(OSError):
        os.nice(-15)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.bind(socket_path)
    control.listen(8)
    watched: list[Any] = [*fds.values(), control]
    while True:
        now = time.monotonic()
        while queue and queue[0][0] <= now:
            _, _, out, packet = heapq.heappop(queue)
            with contextlib.suppress(OSError):
                os.write(out, packet)
        wait = None if not queue else max(0.0, queue[0][0] - time.monotonic())
        ready, _, _ = select.select(watched, [], [], wait)
        for one in ready:
            if one is control:
                _answer(control, lines)
                continue
            for _ in range(64):
                try:
                    packet = os.read(one, 65536)
                except BlockingIOError:
                    break
                # IPv4 only: the hosts have no IPv6.
                target = by_net.get(packet[17]) if packet[0] >> 4 == 4 else None
                if target is None or target == names[one]:
                    continue
                line = lines[pair(names[one], target)]
                if line["down"] or (line["loss"] and random.random() < line["loss"]):
                    continue
                out = fds[target]
                delay = line["delay_ms"] + random.uniform(0.0, 1.0) * line["jitter_ms"]
                # Never overtakes: jitter delays, it does not reorder.
                due = max(released.get((one, out), 0.0), time.monotonic() + delay / 1000)
                released[one, out] = due
                count += 1
                heapq.heappush(queue, (due, count, out, packet))


def _answer(control: socket.socket, lines: dict[str, dict[str, float | bool]]) -> None:
    peer, _ = control.accept()
    with peer, contextlib.suppress(OSError, ValueError, KeyError):
        peer.settimeout(1)
        asked = json.loads(peer.recv(65536))
        line = lines[asked["pair"]]
        line.update({k: v for k, v in asked["change"].items() if k in QUIET})
        peer.send(json.dumps(line).encode())


if __name__ == "__main__":
    _serve(sys.argv[1], {k: (v[0], v[1]) for k, v in json.loads(sys.argv[2]).items()})
