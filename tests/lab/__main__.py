"""python -m tests.lab up [--delay MS] | down | status | shell HOST"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys

from tests.lab import leftovers
from tests.lab.hosts import LAB
from tests.lab.site import STATE_FILE, Site, alone


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab")
    what = parser.add_subparsers(dest="what", required=True)
    up = what.add_parser("up", help="bring the lab up; one that runs is taken down first")
    up.add_argument("--delay", type=float, default=10.0, help="one way between the clouds, in ms")
    down = what.add_parser("down", help="take the lab down, whatever is left of it")
    down.add_argument("--template", action="store_true", help="and forget the installed MediaWiki")
    what.add_parser("status", help="what of the lab is on this machine, and who is on")
    shell = what.add_parser("shell", help="a shell, or a command, in a host")
    shell.add_argument("host")
    shell.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("namespaces, mounts and cgroups need root")
    if chosen.what == "up":
        with alone():
            Site.up(chosen.delay, say=print)
    elif chosen.what == "down":
        leftovers.remove()
        if chosen.template:
            shutil.rmtree(LAB, ignore_errors=True)
    elif chosen.what == "status":
        print(json.dumps({what: len(made) for what, made in leftovers.found().items()}))
        if STATE_FILE.exists():
            for name, host in Site.attach().hosts.items():
                print(f"{name:12} {host.address:12} {'on' if host.init() else 'off'}")
    else:
        host = Site.attach()[chosen.host]
        argv = host.argv(chosen.command or ["bash", "-l"])
        os.execvp(argv[0], argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
