"""Runs the matrix, or single cases of it, and writes target/chaos/report.json.

python -m tests.chaos                       # all of it
python -m tests.chaos --case "two at once" --direction flip
python -m tests.chaos --more --minutes 9    # what the report has not yet, for nine minutes
python -m tests.chaos --list

Rows run in an order that tells most first: one of each fault at each place and moment, in turns a flip and a revert;
then a second of each, and so on. What the time does not reach is the least new, and the report names it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos.case import Case
from tests.chaos.cases import ON_CLOUDS, ON_LOOPBACK
from tests.chaos.lane import Job, Row, once
from tests.chaos.matrix import Spread, ordered

REPORT = Path(__file__).resolve().parents[2] / "target" / "chaos" / "report.json"


class Report:
    """The rows so far, and why the others are not among them."""

    def __init__(self, rows: list[Row], left: list[dict[str, str]]) -> None:
        self.rows, self.left = rows, left

    def whole(self, waiting: list[dict[str, str]]) -> dict[str, Any]:
        """Adds the rows up."""
        rows = self.rows
        return {
            "cases": rows,
            "survived": sum(row["survived"] for row in rows),
            "lost": sum(max(0, row["seen"].get("lost", 0)) for row in rows),
            # Rows whose judge could not look, as where no server came back.
            "lost_unknown": sum(row["seen"].get("lost", 0) < 0 for row in rows),
            "seconds": round(sum(row.get("seconds", 0) for row in rows), 1),
            "two_primaries": sum(row["two_primaries"] for row in rows),
            "fence_overruns": sum(row["fence_overrun"] for row in rows),
            "not_run_here": [*self.left, *waiting],
        }

    def add(self, row: Row) -> None:
        """Adds a row, and shows it."""
        self.rows.append(row)
        word = "ok  " if row["survived"] else "FAIL"
        problems = "; ".join(row["problems"])
        print(
            f"{word} {row['seconds']:5.1f} s  {row['direction']:<7}{row['name']}: {row['state']} {problems}",
            flush=True,
        )
        if problems:
            print(
                f"     {row.get('says', '')}\n     again: {row['seen'].get('again', '')}",
                flush=True,
            )

    def write(self, waiting: list[dict[str, str]]) -> None:
        """Puts it where it belongs, whole or not at all."""
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        new = REPORT.with_suffix(".new")
        new.write_text(json.dumps(self.whole(waiting), indent=1) + "\n")
        new.rename(REPORT)


def main() -> int:
    """0 only where every case that ran survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--case", action="append", help="one by its name; again for more")
    parser.add_argument("--match", help="those whose names match an expression")
    parser.add_argument("--direction", choices=("flip", "revert"))
    parser.add_argument("--bench", choices=("loopback", "clouds"))
    parser.add_argument("--fast", action="store_true", help="those that are part of make test")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--more", action="store_true", help="go on with the report that is there")
    parser.add_argument("--minutes", type=float, default=56.0, help="what does not fit is said")
    parser.add_argument("--lanes", type=int, default=3, help="loopback benches at work at once")
    told = parser.parse_args()
    rows: list[Row] = (
        json.loads(REPORT.read_text())["cases"] if told.more and REPORT.exists() else []
    )
    known = {(row["name"], row["direction"]) for row in rows}
    jobs = [
        (case, direction) for case in (*ON_LOOPBACK, *ON_CLOUDS) for direction in case.directions
    ]
    chosen = [
        (case, direction)
        for case, direction in jobs
        if (not told.case or case.name in told.case)
        and (not told.match or re.search(told.match, case.name))
        and (not told.fast or case.fast == direction)
        and told.direction in (None, direction)
        and told.bench in (None, case.bench)
    ]
    # One that is asked for by its name is run again.
    chosen = [
        (case, direction)
        for case, direction in ordered(chosen)
        if told.case or (case.name, direction) not in known
    ]
    now = {(case.name, direction) for case, direction in chosen}
    if told.list or not chosen:
        print("\n".join(f"{case.bench:<10}{way:<7}{case.name}" for case, way in chosen))
        return 0 if chosen else 2
    left = [
        without(job, "not asked for")
        for job in jobs
        if told.more and (job[0].name, job[1]) not in known | now
    ]
    waiting = {
        name: [job for job in chosen if job[0].bench == name] for name in ("clouds", "loopback")
    }
    if os.geteuid() != 0:
        left += [without(job, "whole hosts need root") for job in waiting.pop("clouds")]
    report = Report([row for row in rows if (row["name"], row["direction"]) not in now], left)
    began = time.monotonic()
    asked = {(case.name, direction) for jobs in waiting.values() for case, direction in jobs}
    carry(report, waiting, told.lanes, began + told.minutes * 60)
    whole = json.loads(REPORT.read_text())
    print(
        f"{whole['survived']} of {len(report.rows)} survived, {len(whole['not_run_here'])} were not run;"
        f" lost {whole['lost']}, two primaries {whole['two_primaries']},"
        f" fence overruns {whole['fence_overruns']}; {(time.monotonic() - began) / 60:.1f} minutes; {REPORT}"
    )
    ran = {(row["name"], row["direction"]) for row in report.rows}
    return 0 if whole["survived"] == len(report.rows) and asked <= ran else 1


def carry(report: Report, waiting: dict[str, list[Job]], lanes: int, deadline: float) -> None:
    """Runs what there is time for; the report is whole after each row, and however this ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, once)
    chosen = [job for jobs in waiting.values() for job in jobs]

    def rest(reason: str) -> list[dict[str, str]]:
        known = {(row["name"], row["direction"]) for row in report.rows}
        return [without(job, reason) for job in chosen if (job[0].name, job[1]) not in known]

    def note(row: Row) -> None:
        report.add(row)
        report.write(rest("ended before"))

    reason = "ended before"
    try:
        # Whole hosts beside the others: there most is waiting, too.
        Spread(waiting, {"clouds": 1, "loopback": lanes}, deadline).run(note)
        reason = "the time was over" if time.monotonic() > deadline else "its bench did not come up"
    finally:
        report.write(rest(reason))


def without(job: tuple[Case, str], reason: str) -> dict[str, str]:
    """What is said of a row that was not run."""
    return {"name": job[0].name, "direction": job[1], "reason": reason}


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
