"""Writers beside both primaries of the lab's site: the judge of how long no database accepted a write.

Each runs in its database's own network, so that no wide-area delay is in its figures; both share
this machine's monotonic clock.
"""

from __future__ import annotations

import secrets
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.lab.hosts import exec_in
from tests.lab.site import Site
from tests.lab.writer import Results, Writer

SIDES = ("old", "new")
_TABLE = (
    "CREATE TABLE IF NOT EXISTS site.writes (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
    " run BIGINT UNSIGNED NOT NULL, writer INT UNSIGNED NOT NULL, attempt BIGINT UNSIGNED NOT NULL,"
    " side VARCHAR(8) NOT NULL, at DATETIME(6) NOT NULL, KEY seen (run, writer, attempt))"
)


def prepare(site: Site) -> dict[str, str]:
    """Make the writers' table and account on the old primary; returns the account."""
    account = {"user": "app", "password": secrets.token_urlsafe(18)}
    site.sql("old-db1", "CREATE DATABASE IF NOT EXISTS site")
    site.sql("old-db1", _TABLE)
    site.sql("old-db1", f"CREATE OR REPLACE USER app IDENTIFIED BY '{account['password']}'")
    site.sql("old-db1", "GRANT ALL ON site.* TO app")
    return account


@dataclass(frozen=True)
class Judged:
    """What the writers prove about one transfer."""

    database_blocked_ms: float
    acknowledged: int
    lost: int
    duplicated: int
    attempts_per_second: dict[str, float]


class Beside:
    """Two writer processes, each at one primary only; enter to write, leave to stop."""

    def __init__(
        self, site: Site, account: dict[str, str], threads: int = 2, period: float = 0.004
    ) -> None:
        """Each of `threads` writes once a `period` seconds, and tries as often while refused."""
        self._site = site
        self._writers = {
            side: Writer(
                {side: {"host": site[f"{side}-db1"].address, "port": 3306, **account}},
                threads=threads,
                sides=(side,),
                period=period,
                retry=period,
                launch=self._launch(f"{side}-db1"),
            )
            for side in SIDES
        }
        self.results: dict[str, Results] = {}

    def _launch(self, host: str) -> Any:
        def launch(argv: list[str], **popen: Any) -> subprocess.Popen[bytes]:
            return exec_in(self._site[host].netns, argv, **popen)

        return launch

    def __enter__(self) -> Beside:
        for writer in self._writers.values():
            writer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.results = {side: writer.stop() for side, writer in self._writers.items()}

    def judge(self, source: str, target: str) -> Judged:
        """Compare what was acknowledged with what the target has, after a transfer."""
        there: Counter[tuple[int, int, int]] = Counter()
        runs = ", ".join(str(seen.run) for seen in self.results.values())
        rows = self._site.sql(
            f"{target}-db1",
            "SELECT run, writer, attempt, COUNT(*) AS times FROM site.writes"
            f" WHERE run IN ({runs}) GROUP BY 1, 2, 3",
        )
        for row in rows:
            there[(row["run"], row["writer"], row["attempt"])] = row["times"]
        acknowledged = [
            (seen.run, writer, attempt)
            for seen in self.results.values()
            for writer, attempt, _, _ in seen.acknowledged
        ]
        last = self.results[source].times(source)[-1]
        first = self.results[target].times(target)[0]
        return Judged(
            database_blocked_ms=(first - last) / 1e6,
            acknowledged=len(acknowledged),
            lost=sum(1 for key in acknowledged if not there[key]),
            duplicated=sum(1 for times in there.values() if times > 1),
            attempts_per_second={
                side: (len(seen.acknowledged) + len(seen.refused) + len(seen.unknown))
                * 1e9
                / (seen.stopped - seen.started)
                for side, seen in self.results.items()
            },
        )
