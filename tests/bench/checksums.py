"""The comparison of data beside pt-table-checksum: the same two servers, the same tables, by turns.

    python -m tests.bench.checksums --pairs 7      # needs pt-table-checksum: apt-get install percona-toolkit

Replication is by statement here, for pt-table-checksum has the replica compute its own sums by replicated statements.
Both do all that they do by themselves: connect, look at the tables, adapt the size of a range, wait for the replica.
Fails where the comparison takes longer by the median of the pairs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab import direct
from tests.lab.loopback import ADDRESSES, Chain

SOURCE, REPLICA = "old-db1", "relay"
TABLES = ["site.pages", "site.words", "site.links"]
# Rows of a wiki: texts under a key of two columns, words, and a narrow table of numbers.
FILL = """
USE site;
CREATE TABLE site.pages (space INT NOT NULL, title VARCHAR(60) NOT NULL, body MEDIUMBLOB, touched DATETIME NOT NULL,
  score DOUBLE NULL, PRIMARY KEY (space, title)) DEFAULT CHARSET utf8mb4;
CREATE TABLE site.words (word VARCHAR(60) PRIMARY KEY, kind ENUM('a','b') NOT NULL, note VARCHAR(40) NULL)
  DEFAULT CHARSET utf8mb4;
CREATE TABLE site.links (id BIGINT PRIMARY KEY, here INT NOT NULL, there INT NOT NULL, at TIMESTAMP NULL);
INSERT INTO site.pages SELECT seq % 7, CONCAT('Page_', LPAD(seq, 8, '0')), REPEAT(MD5(seq), 1 + seq % 30),
  '2026-01-01' + INTERVAL seq SECOND, IF(seq % 5, seq / 3, NULL) FROM seq_1_to_{pages};
INSERT INTO site.words SELECT CONCAT(MD5(seq), seq), 1 + seq % 2, IF(seq % 3, SHA1(seq), NULL) FROM seq_1_to_{pages};
INSERT INTO site.links SELECT seq, seq % 977, seq % 1009, '2026-01-01' + INTERVAL seq SECOND FROM seq_1_to_{links};
CREATE DATABASE percona;
CREATE TABLE percona.dsns (id INT PRIMARY KEY, parent_id INT, dsn VARCHAR(255) NOT NULL);
"""


class Pair:
    """A source and a replica, and the two who compare them."""

    def __init__(self, chain: Chain, folder: Path) -> None:
        self.chain = chain
        # Not on the command line: it holds a password.
        self._options = folder / "client.cnf"
        self._options.touch(0o600)
        self._options.write_text(
            f"[client]\nuser={chain.admin.user}\npassword={chain.admin.password}\nport={chain.port}\n"
        )

    def fill(self, pages: int) -> int:
        """Fills the tables; returns their bytes."""
        source, replica = self.chain[SOURCE], self.chain[REPLICA]
        for name in set(self.chain.servers) - {SOURCE, REPLICA}:
            self.chain[name].run("STOP SLAVE")
        source.run(FILL.format(pages=pages, links=pages * 3))
        dsn = f"h={ADDRESSES[REPLICA]},P={self.chain.port},F={self._options}"
        source.run("INSERT INTO percona.dsns VALUES (1, NULL, %s)", (dsn,))
        replica.wait_for(source.position(), 300)
        for server in (source, replica):
            server.run("ANALYZE NO_WRITE_TO_BINLOG TABLE " + ", ".join(TABLES))
        return int(
            source.value(
                "SELECT SUM(DATA_LENGTH) FROM information_schema.TABLES WHERE TABLE_SCHEMA='site'"
            )
        )

    def ours(self) -> float:
        """Compares; returns the seconds."""
        began = time.monotonic()
        done = direct.run(
            self.chain.pillar(), "database.checksum", timeout=900,
            source=SOURCE, replica=f"new-{REPLICA}", tables=TABLES,
        )  # fmt: skip
        took = time.monotonic() - began
        assert done.verdict == "done", done.problem
        seen = done.answer["seen"]["compared"]
        assert seen["differences"] == [] and set(seen["tables"]) == set(TABLES), seen
        return took

    def theirs(self) -> float:
        """Has pt-table-checksum do it; returns the seconds."""
        command = [
            "pt-table-checksum", f"h={ADDRESSES[SOURCE]},P={self.chain.port},F={self._options}",
            f"--tables={','.join(TABLES)}", "--replicate=percona.checksums", "--no-version-check",
            f"--recursion-method=dsn=h={ADDRESSES[SOURCE]},P={self.chain.port},F={self._options},D=percona,t=dsns",
        ]  # fmt: skip
        began = time.monotonic()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env=os.environ | {"PERL5LIB": ""},
        )  # fmt: skip
        took = time.monotonic() - began
        # It says nothing of a difference but by its code, and by its table on the replica.
        assert done.returncode == 0, done.stdout + done.stderr
        wrong = self.chain[REPLICA].value(
            "SELECT COUNT(*) FROM percona.checksums WHERE this_crc <> master_crc OR this_cnt <> master_cnt"
        )
        rows = self.chain[REPLICA].value("SELECT SUM(this_cnt) FROM percona.checksums")
        assert (wrong, rows) == (0, self._rows()), done.stdout
        return took

    def _rows(self) -> int:
        counts = " + ".join(f"(SELECT COUNT(*) FROM {table})" for table in TABLES)
        return int(self.chain[SOURCE].value(f"SELECT {counts}"))


def spread(values: list[float]) -> str:
    """Median, quartiles, least and most."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (
        f"{middle:.2f} (quartiles {low:.2f} to {high:.2f}, {min(values):.2f} to {max(values):.2f})"
    )


def main() -> int:
    """0 where the comparison takes no longer."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.checksums")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--pages", type=int, default=400_000)
    told = parser.parse_args()
    if not shutil.which("pt-table-checksum"):
        print("pt-table-checksum is missing: apt-get install percona-toolkit", file=sys.stderr)
        return 2
    # As much memory as the data needs, so that neither measures the disk alone.
    options = {
        "binlog_format": "STATEMENT",
        "innodb_buffer_pool_size": "512M",
        "max_allowed_packet": "64M",
    }
    with (
        tempfile.TemporaryDirectory(prefix="checksums-") as folder,
        Chain(Path(folder) / "chain", options={SOURCE: options, REPLICA: options}) as chain,
    ):
        pair = Pair(chain, Path(folder))
        size = pair.fill(told.pages)
        print(f"{size / 1e6:.0f} MB in {len(TABLES)} tables, {pair._rows()} rows", flush=True)
        found: list[tuple[float, float]] = []
        # The first of each warms up, and does not count.
        for number in range(told.pairs + 1):
            runs = [pair.ours, pair.theirs]
            took = {run.__name__: run() for run in (runs if number % 2 else runs[::-1])}
            print(
                f"ours {took['ours']:.2f} s, pt-table-checksum {took['theirs']:.2f} s", flush=True
            )
            if number:
                found.append((took["ours"], took["theirs"]))
    ours, theirs = ([pair[place] for pair in found] for place in (0, 1))
    ratio = [here / there for here, there in found]
    print(f"ours                {spread(ours)} s\npt-table-checksum   {spread(theirs)} s")
    print(f"ours / theirs       {spread(ratio)}, {len(found)} pairs")
    return 0 if statistics.median(ratio) <= 1.0 else 1


if __name__ == "__main__":
    sys.exit(main())
