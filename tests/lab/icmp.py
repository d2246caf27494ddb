"""Round trips as ICMP sees them; a script, so that it can be run inside any netns.

python icmp.py ADDRESS COUNT   prints one JSON list: milliseconds, null where nothing came back
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time

from tests.lab.hosts import exec_in


def round_trips(netns: str, address: str, count: int = 10) -> list[float | None]:
    """Ping an address from a netns; None where no answer came within half a second."""
    argv = [sys.executable, "-P", __file__, address, str(count)]
    root = __file__.removesuffix("/tests/lab/icmp.py")
    process = exec_in(netns, argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
    out, _ = process.communicate(timeout=30)
    return json.loads(out)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _ping(address: str, count: int) -> list[float | None]:
    found: list[float | None] = []
    ident = os.getpid() & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        for sequence in range(count):
            head = struct.pack("!BBHHH", 8, 0, 0, ident, sequence)
            echo = struct.pack("!BBHHH", 8, 0, _checksum(head), ident, sequence)
            start = time.monotonic()
            s.sendto(echo, (address, 0))
            found.append(None)
            while (left := start + 0.5 - time.monotonic()) > 0:
                s.settimeout(left)
                try:
                    reply = s.recv(1500)
                except TimeoutError:
                    break
                if reply[20] == 0 and reply[24:28] == echo[4:8]:
                    found[-1] = round((time.monotonic() - start) * 1000, 2)
                    break
            time.sleep(0.02)
    return found


if __name__ == "__main__":
    print(json.dumps(_ping(sys.argv[1], int(sys.argv[2]))))
