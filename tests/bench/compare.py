"""Compares two ways to flip, in interleaved pairs on the same chain, by the tight outside judge.

    python -m tests.bench.compare --pairs 20                         # the reference with itself
    python -m tests.bench.compare --pairs 20 --product migrate.flip  # salt-run migrate.flip
    python -m tests.bench.compare --pairs 20 --product migrate.flip --kind mysql-9 --period 4
    python -m tests.bench.compare --pairs 20 --product migrate.flip --kind mysql-9 --delay 10   # 10 ms each way; root

Every flip starts from the freshly reset chain; who goes first alternates from pair to pair.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.apart import apart
from tests.lab.kinds import KINDS
from tests.lab.loopback import Chain
from tests.lab.salt import SaltMaster
from tests.lab.window import Window
from tests.lab.writer import judge

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Contestant:
    """One way to flip; `ready` runs after the reset and before anybody writes."""

    name: str
    flip: Callable[[], None]
    ready: Callable[[], None] = lambda: None


@dataclass
class Comparison:
    """The measured windows in milliseconds, pair by pair."""

    names: tuple[str, str]
    pairs: list[tuple[float, float]] = field(default_factory=list)
    attempts_per_second: list[float] = field(default_factory=list)

    def difference(self) -> float:
        """Returns the median of first minus second; below zero the first is faster."""
        return statistics.median(first - second for first, second in self.pairs)

    def __str__(self) -> str:
        lines = [
            f"{name:12} {_spread([pair[place] for pair in self.pairs])}"
            for place, name in enumerate(self.names)
        ]
        differences = [first - second for first, second in self.pairs]
        lines.append(f"{'difference':12} {_spread(differences)}")
        slowest = min(self.attempts_per_second)
        lines.append(f"{len(self.pairs)} pairs; at least {slowest:.0f} attempts a second and side")
        return "\n".join(lines)


def reference(chain: Chain, *options: str) -> Contestant:
    """Returns the fixed script as a process of its own; with `--back` it goes back."""
    pillar = chain.state / "reference.json"
    pillar.touch(mode=0o600)
    pillar.write_text(json.dumps(chain.pillar()))
    command = [sys.executable, "-m", "tests.bench.reference_flip", str(pillar), *options]
    return Contestant("reference", lambda: _run(command))


def product(master: SaltMaster, function: str, ready: Sequence[str] = ()) -> Contestant:
    """Returns `salt-run FUNCTION`; `ready` are runner functions to call beforehand, in order."""

    def prepare() -> None:
        for name in ready:
            _run(master.command(*name.split()))

    return Contestant("product", lambda: _run(master.command(*function.split())), prepare)


def measure(
    chain: Chain, contestant: Contestant, period: float = 0.0016, calm: float = 0.5
) -> tuple[float, float]:
    """Returns the window in milliseconds, and the attempts a second of the slower side."""
    chain.reset()
    contestant.ready()
    with Window(chain, period=period) as window:
        time.sleep(calm)
        contestant.flip()
        time.sleep(calm / 2)
    for seen in window.results.values():
        verdict = judge(chain, seen)
        if verdict.lost or verdict.duplicated:
            raise AssertionError(f"{contestant.name}: {verdict}")
    return window.blocked_ms(), min(window.attempts_per_second().values())


def compare(
    chain: Chain, first: Contestant, second: Contestant, pairs: int, period: float
) -> Comparison:
    """Runs the pairs; each of two writers writes once a `period` seconds."""
    comparison = Comparison((first.name, second.name))
    for number in range(pairs):
        order = (first, second) if number % 2 == 0 else (second, first)
        measured = [measure(chain, contestant, period) for contestant in order]
        comparison.attempts_per_second += [rate for _, rate in measured]
        windows = [window for window, _ in measured]
        here, there = windows if number % 2 == 0 else reversed(windows)
        comparison.pairs.append((here, there))
        print(f"{number + 1:3} {here:8.2f} {there:8.2f}", file=sys.stderr, flush=True)
    return comparison


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        # Not the whole command: its output says enough, and a pillar may stand in it.
        raise RuntimeError(f"{command[-1]}: {done.returncode}\n{done.stdout}\n{done.stderr}")


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return (
        f"median {middle:8.2f} ms   quartiles {low:.2f} to {high:.2f}"
        f"   range {min(values):.2f} to {max(values):.2f}"
    )


def main() -> None:
    """Brings the chain up, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--product", help="runner function with arguments, such as migrate.flip")
    parser.add_argument(
        "--kind", choices=KINDS, default="mariadb-10.11", help="what the servers are"
    )
    parser.add_argument(
        "--period",
        type=float,
        default=1.6,
        help="milliseconds between two writes of one writer, where a chain carries no more",
    )
    parser.add_argument(
        "--delay", type=float, default=0.0, help="milliseconds between the sides, one way (root)"
    )
    parser.add_argument("--ready", action="append", default=[], help="runner functions before it")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        kinds = KINDS[arguments.kind]
        near = arguments.delay == 0
        chain = stack.enter_context(
            Chain(state, kinds=kinds) if near else apart(state, kinds, arguments.delay)
        )
        challenger = Contestant("again", reference(chain).flip)
        if arguments.product:
            # The drain that users have: without it the fence comes while minions still put the notice away.
            pillar = chain.pillar()
            del pillar["notice"]["drain"]
            master = stack.enter_context(SaltMaster(pillar))
            challenger = product(master, arguments.product, arguments.ready)
        period = arguments.period / 1000
        print(compare(chain, challenger, reference(chain), arguments.pairs, period))


if __name__ == "__main__":
    main()
