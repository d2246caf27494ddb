"""Owns the judgement: what the servers themselves wrote down, and what somebody beside them saw.

None of it asks the product, and none of it is told what the product did.
"""

from __future__ import annotations

import functools
import re
import subprocess
from itertools import pairwise
from pathlib import Path

from tests.lab.loopback import QUARANTINE, Chain
from tests.lab.mariadb import MariaDB
from tests.lab.watch import Watch
from tests.lab.writer import Results

_GTID = re.compile(r"^#.*\bGTID (\d+)-(\d+)-(\d+)", re.MULTILINE)


def lost(chain: Chain, results: Results) -> dict[str, int]:
    """Counts acknowledged writes that the serving primary has not, and those it has twice."""
    rows = chain.serving().run(
        "SELECT writer, attempt, COUNT(*) AS times FROM site.writes WHERE run = %s GROUP BY 1, 2",
        (results.run,),
    )
    present = {(row["writer"], row["attempt"]): row["times"] for row in rows}
    acknowledged = {(writer, attempt) for writer, attempt, _, _ in results.acknowledged}
    return {
        "acknowledged": len(acknowledged),
        "lost": sum(1 for key in acknowledged if key not in present),
        "duplicated": sum(1 for times in present.values() if times > 1),
    }


def turns(chain: Chain, run: int) -> int:
    """Returns how often the accepting side changed, by the servers' own SYSDATE(6) of accepted writes.

    Two primaries that accept at once take turns with every other write; one that moves changes once a transfer.
    """
    rows: set[tuple[object, str]] = set()
    for server in (chain.old, chain.new):
        found = server.run("SELECT at, side FROM site.writes WHERE run = %s", (run,))
        rows |= {(row["at"], row["side"]) for row in found}
    sides = [side for _, side in sorted(rows)]  # type: ignore[type-var]
    return sum(1 for here, there in pairwise(sides) if here != there)


def clashes(chain: Chain, quarantine: int = QUARANTINE) -> list[str]:
    """Names the places in the binlogs of both primaries that two servers filled: each took itself for the primary."""
    written: dict[tuple[int, int], set[int]] = {}
    for server in (chain.old, chain.new):
        for domain, ident, sequence in _logged(server):
            written.setdefault((domain, sequence), set()).add(ident)
    return [
        f"{domain}-{'/'.join(map(str, sorted(idents)))}-{sequence}"
        for (domain, sequence), idents in sorted(written.items())
        if len(idents) > 1 and domain != quarantine
    ]


def alone(chain: Chain) -> list[tuple[str, str]]:
    """Names what a server wrote and the serving primary has not, with that server; the quarantine is left out."""
    try:
        serving = chain.serving()
    except AssertionError:
        # Of two closed ones neither is right.
        return []
    known = {(domain, sequence): ident for domain, ident, sequence in _logged(serving)}
    return [
        (server.name, f"{domain}-{ident}-{sequence}")
        for server in chain.servers.values()
        for domain, ident, sequence in _logged(server)
        if ident == server.server_id != serving.server_id
        and domain != QUARANTINE
        and known.get((domain, sequence)) != ident
    ]


def _logged(server: MariaDB) -> list[tuple[int, int, int]]:
    logs = [(log, log.stat()) for log in sorted(server.datadir.glob("binlog.[0-9]*"))]
    return [gtid for log, stat in logs for gtid in _told(log, stat.st_size, stat.st_mtime_ns)]


@functools.cache
def _told(log: Path, _size: int, _changed: int) -> list[tuple[int, int, int]]:
    # A log that is full is read once for all rows.
    done = subprocess.run(
        ["mariadb-binlog", "--no-defaults", "--base64-output=never", str(log)],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    return [tuple(map(int, found)) for found in _GTID.findall(done.stdout)]  # type: ignore[misc]


def longest_fence(watch: Watch, until: float) -> float:
    """Returns the longest time, in ms, for which both primaries answered and neither accepted a write."""
    ends = [at for at, _, _ in watch.changes[1:]] + [until]
    closed = [
        end - at
        for (at, old, new), end in zip(watch.changes, ends, strict=True)
        if old is False and new is False
    ]
    return round(max(closed, default=0.0) * 1000, 1)
