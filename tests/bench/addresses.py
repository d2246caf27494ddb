"""The search for old addresses beside ripgrep: the same tree, the same patterns, the same run, by turns.

    python -m tests.bench.addresses --rg rg --megabytes 1000

Fails where the search takes more than 1.5 times as long, or more memory for the larger tree.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT = 1.5
WORDS = [
    *(
        "the",
        "of",
        "server",
        "host",
        "port",
        "value",
        "cache",
        "config",
        "key",
        "option",
        "role",
        "state",
    ),
    *(
        "file",
        "managed",
        "source",
        "user",
        "group",
        "mode",
        "require",
        "watch",
        "service",
        "running",
    ),
    *(
        "enable",
        "name",
        "true",
        "false",
        "return",
        "function",
        "class",
        "public",
        "static",
        "foreach",
    ),
    *("array", "string", "int", "page"),
]
ENDINGS = [".php", ".sls", ".conf", ".js", ".txt", ".py", ".yaml", ""]
# A process of its own, so that its memory is its own.
SEARCH = """
import json, resource, sys, time
from saltext.migrate import _native
pillar, root = sys.argv[1:]
begun = time.perf_counter()
answer = _native.run("addresses.scan", pillar, json.dumps({"roots": [root]}),
                     lambda q: "null", lambda e: None, lambda: False)
seconds = time.perf_counter() - begun
found = json.loads(answer)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, memory, found["files"], found["bytes"], len(found["hits"])]))
"""


def site() -> dict[str, Any]:
    """Forty nodes over two old networks."""
    names = [f"node{index}" for index in range(40)]
    return {
        "state_dir": "/nonexistent",
        "nodes": {
            "old": {n: {"private": f"10.{4 + i % 2}.{i}.{10 + i}"} for i, n in enumerate(names)},
            "new": {n: {"private": f"10.0.0.{i + 1}"} for i, n in enumerate(names)},
        },
        "addresses": {
            "ranges": [{"old": "10.4.0.0/16"}, {"old": "10.5.0.0/16"}],
            "domains": {"old.internal": "new.internal"},
        },
    }


def patterns(pillar: dict[str, Any]) -> list[str]:
    """What somebody would give to a search for literals, to find the same."""
    found = ["10.4.", "10.5.", ".old.internal"]
    for name, node in pillar["nodes"]["old"].items():
        address = node["private"]
        backwards = ".".join(reversed(address.split(".")))
        found += [address, address.replace(".", "\\."), backwards, f"{name}.old.internal"]
    return found


def grow(root: Path, megabytes: int, pillar: dict[str, Any], seed: int = 1) -> None:
    """Writes a tree like that of a site: many small files, some large; few lines name a node."""
    chance = random.Random(seed)
    addresses = [node["private"] for node in pillar["nodes"]["old"].values()]

    def line() -> str:
        dice = chance.random()
        if dice < 0.02:
            return (
                f"  version: {chance.randrange(20)}.{chance.randrange(99)}.{chance.randrange(99)}"
            )
        if dice < 0.03:
            return f"  timeout = {chance.random() * 100:.3f};"
        if dice < 0.035:
            return f"  - address: 192.168.{chance.randrange(256)}.{chance.randrange(256)}"
        if dice < 0.0355:
            return f"  host: {chance.choice(addresses)}"
        return "  " * chance.randrange(4) + " ".join(chance.choices(WORDS, k=chance.randint(3, 12)))

    blocks = ["\n".join(line() for _ in range(400)) + "\n" for _ in range(200)]
    written = number = 0
    while written < megabytes * 1_000_000:
        folder = root / f"d{number % 97}" / f"e{number % 13}"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(chance.choices(blocks, k=chance.choice([1, 1, 1, 2, 3, 8, 20])))
        (folder / f"f{number}{chance.choice(ENDINGS)}").write_text(text)
        written += len(text)
        number += 1


def search(pillar: dict[str, Any], root: Path) -> tuple[float, int, int, int, int]:
    """Searches once; returns seconds, peak memory in KiB, files, bytes and hits."""
    command = [sys.executable, "-c", SEARCH, json.dumps(pillar), str(root)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, memory, files, size, hits = json.loads(ran.stdout)
    return seconds, memory, files, size, hits


def ripgrep(rg: str, words: Path, root: Path) -> float:
    """Searches once, all files, with line and column, as we do."""
    command = [rg, "--no-config", "-uu", "-n", "--column", "-F", "-f", str(words), str(root)]
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begun


def main() -> int:
    """Compares, prints, and says by its exit code whether it was good enough."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rg", default="rg")
    options.add_argument("--megabytes", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=7)
    told = options.parse_args()
    rg = shutil.which(told.rg)
    if not rg:
        print("ripgrep is not here: apt-get install ripgrep", file=sys.stderr)
        return 2
    pillar = site()
    with tempfile.TemporaryDirectory(prefix="saltext-addr-bench-") as folder:
        small, large, words = Path(folder, "small"), Path(folder, "large"), Path(folder, "words")
        words.write_text("\n".join(patterns(pillar)) + "\n")
        grow(small, max(told.megabytes // 10, 1), pillar, seed=2)
        grow(large, told.megabytes, pillar)
        search(pillar, large)
        ripgrep(rg, words, large)
        ours, theirs, memory = [], [], 0
        for _ in range(told.rounds):
            seconds, memory, files, size, hits = search(pillar, large)
            ours.append(seconds)
            theirs.append(ripgrep(rg, words, large))
        _, little, *_ = search(pillar, small)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    # Findings are kept, so they are counted out: about 400 bytes each, thrice over as they cross the seam.
    own = memory - hits * 2
    print(f"{files} files, {size / 1e6:.0f} MB, {hits} hits; {told.rounds} rounds by turns")
    print(
        f"search  {statistics.median(ours):.3f} s   ripgrep  {statistics.median(theirs):.3f} s   ratio {ratio:.2f}"
    )
    print(f"memory  {memory / 1024:.0f} MiB, without findings {own / 1024:.0f} MiB")
    print(f"        {little / 1024:.0f} MiB for a tenth of the tree")
    return 0 if ratio <= LIMIT and own < little * 1.5 else 1


if __name__ == "__main__":
    sys.exit(main())
