"""Runs the stand-in alone; says on stdout, in one JSON line, when it is ready and where."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import threading
from pathlib import Path

from tests.lab.edge.fleet import Fleet
from tests.lab.edge.latency import RECORDED
from tests.lab.edge.quota import Quota
from tests.lab.edge.records import Store
from tests.lab.edge.routes import Platform
from tests.lab.edge.server import Handler, LocalServer, Server
from tests.lab.edge.varnish import Pop


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.lab.edge", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", help="address of the control API")
    parser.add_argument(
        "--pop", action="append", required=True, metavar="ADDRESS:PORT[@NETNS]",
        help="a POP, and the network namespace it lives in; repeat for more",
    )  # fmt: skip
    parser.add_argument(
        "--staging", metavar="ADDRESS:PORT[@NETNS]", help="the POP of the staging network"
    )
    parser.add_argument("--state", type=Path, required=True, help="an own directory")
    parser.add_argument("--delay", "--delay-activate", choices=("recorded", "none"),
                        default="recorded", help="how long the API takes to answer")  # fmt: skip
    parser.add_argument("--spread", default="0,150", metavar="MS,MS",
                        help="each POP's delay after an activation was accepted")  # fmt: skip
    parser.add_argument("--quota", type=int, default=1000, help="writes per hour")
    parser.add_argument("--domain-conflict", choices=("creation", "activation"),
                        default="creation", help="when a domain taken is refused")  # fmt: skip
    parser.add_argument("--unrunnable", choices=("refuse", "hollow"), default="refuse",
                        help="refuse what Varnish cannot run, or serve a page that says so")  # fmt: skip
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    options.state.mkdir(parents=True, exist_ok=True)

    def pop(name: str, text: str) -> Pop:
        address, _, netns = text.partition("@")
        return Pop(name, address, options.state.resolve() / name, netns or None)

    pops = [pop(f"pop{number}", text) for number, text in enumerate(options.pop, 1)]
    staging = pop("staging", options.staging) if options.staging else None
    fleet = Fleet(pops, [float(ms) / 1000 for ms in options.spread.split(",")], staging)
    token = os.environ.get("FASTLY_STANDIN_TOKEN") or secrets.token_hex(16)
    latency = dict(RECORDED) if options.delay == "recorded" else {}
    store = Store()
    fleet.names, fleet.hollow = store.names, options.unrunnable == "hollow"
    platform = Platform(store, fleet, Quota(options.quota), token, latency)
    platform.domain_conflict = options.domain_conflict
    Handler.platform = platform
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    host, _, port = options.listen.rpartition(":")
    local = options.state.resolve() / "api.sock"
    local.unlink(missing_ok=True)
    try:
        fleet.start()
        server, near = Server((host, int(port)), Handler), LocalServer(str(local), Handler)
        for item in (server, near):
            threading.Thread(target=item.serve_forever, args=(0.05,), daemon=True).start()
        ready = {
            "api": f"http://{host}:{server.server_address[1]}",
            "socket": str(local),
            "token": token,
            "pops": {pop.name: pop.address for pop in pops},
            "staging": staging.address if staging else None,
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        stopped.wait()
    finally:
        fleet.stop()
        local.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
