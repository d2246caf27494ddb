"""Compares the product's flip with the reference script over the wide-area network of the lab.

    python -m tests.bench.wan --pairs 15 --delay 10     # 10 ms each way: a round trip of 20 ms
    python -m tests.bench.wan --pairs 15 --delay 0 --in-memory

Both run beside the new primary, on the host `deployment`; the judges are writers beside both
primaries. Who goes first alternates; every flip is followed by its own way back.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.compare import Comparison
from tests.lab.beside import Beside, prepare
from tests.lab.hosts import LAB
from tests.lab.site import Site

REPOSITORY = Path(__file__).resolve().parents[2]
# Only the databases are compared: the script knows neither notices nor a CDN.
DATABASES_ONLY = {"edge": None}


def _product(site: Site) -> tuple[Callable[[], None], Callable[[], None]]:
    def run(phase: str) -> None:
        said = site.salt_run(f"migrate.{phase}")
        if said.rc:
            raise RuntimeError(f"migrate.{phase}: {said.stdout}\n{said.stderr}")

    return lambda: run("flip"), lambda: run("revert")


def _reference(site: Site) -> tuple[Callable[[], None], Callable[[], None]]:
    pillar = LAB / "run" / "reference.json"
    pillar.touch(mode=0o600)
    settings = site.pillar()
    settings["databases"]["port"] = 3306
    settings["databases"]["accounts"] = {
        name: {"user": account["user"], "password": site.secrets[name]}
        for name, account in settings["databases"]["accounts"].items()
    }
    pillar.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "tests.bench.reference_flip", str(pillar)]

    def run(*options: str) -> None:
        done = site.beside("deployment", [*command, *options], cwd=REPOSITORY).wait(60)
        if done:
            raise RuntimeError(f"the reference ended with {done}")

    return run, lambda: run("--back")


def _measure(site: Site, account: dict[str, str], flip: Callable[[], None]) -> tuple[float, float]:
    # More than 1,000 attempts a second on either side.
    with Beside(site, account, threads=3, period=0.0026) as beside:
        time.sleep(0.5)
        flip()
        time.sleep(0.25)
    judged = beside.judge("old", "new")
    if judged.lost or judged.duplicated:
        raise AssertionError(str(judged))
    return judged.database_blocked_ms, min(judged.attempts_per_second.values())


def main() -> int:
    """Brings the lab up, compares, prints; 1 where the product is more than 3 ms slower."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--delay", type=float, default=10.0, help="milliseconds, one way")
    parser.add_argument(
        "--in-memory",
        action="store_true",
        help="the databases' files on no disk: where two cores carry no 1,000 writes a second",
    )
    arguments = parser.parse_args()
    with Site.running(arguments.delay, in_memory=arguments.in_memory) as site:
        site.write_pillar(DATABASES_ONLY)
        account = prepare(site)
        ways = {"product": _product(site), "reference": _reference(site)}
        comparison = Comparison(("product", "reference"))
        for number in range(arguments.pairs):
            order = list(ways) if number % 2 == 0 else list(reversed(ways))
            measured = {}
            for name in order:
                flip, back = ways[name]
                measured[name], rate = _measure(site, account, flip)
                comparison.attempts_per_second.append(rate)
                back()
            comparison.pairs.append((measured["product"], measured["reference"]))
            print(
                f"{number + 1:3} {measured['product']:8.2f} {measured['reference']:8.2f}",
                flush=True,
            )
    print(comparison)
    return 0 if comparison.difference() <= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
