"""python -m tests.lab.cloud [--metadata]: a control plane, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.cloud.configuration import PASSWORD, REGION
from tests.lab.cloud.plane import Plane


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.cloud")
    parser.add_argument("--metadata", action="store_true", help="Nova's metadata service as well")
    chosen = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="cloud-") as home,
        Plane(Path(home), metadata=chosen.metadata) as plane,
    ):
        print(f"# up after {time.monotonic() - began:.1f} s; Ctrl-C ends it", file=sys.stderr)
        print("clouds:")
        for name in ("admin", "old", "new"):
            print(
                f"  {name}:\n    region_name: {REGION}\n    auth:\n"
                f"      auth_url: {plane.keystone}/v3\n      username: {name}\n"
                f"      password: {PASSWORD}\n      project_name: {name}\n"
                f"      user_domain_name: Default\n      project_domain_name: Default",
                flush=True,
            )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
