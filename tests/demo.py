"""The story on a fresh machine: flip, let it run, revert, flip again, under load; ends with a report.

`make demo` runs it. The report of what the product did comes from the product; what users saw comes
from judges outside of it. Both stand in `target/demo/report.json`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab import cdn
from tests.lab.beside import Beside, prepare
from tests.lab.hosts import LAB
from tests.lab.people import People
from tests.lab.site import Site
from tests.lab.verdict import judge

REPOSITORY = Path(__file__).resolve().parents[1]
STORY = (("flip", "old", "new"), ("revert", "new", "old"), ("flip", "old", "new"))
# Fewer prove nothing.
ENOUGH = {"acknowledged": 1000, "reader_requests": 500}
MUST_BE_ZERO = ("lost", "duplicated", "reader_errors", "editor_errors_other_than_notice")


def say(line: str) -> None:
    """Tell the person who watches what is going on."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def transfer(site: Site, account: dict[str, str], story: tuple[str, str, str]) -> dict[str, Any]:
    """Run one direction under load; returns the product's run with what users saw."""
    direction, source, target = story
    say(f"readers and editors are at work; salt-run state.orchestrate migrate.{direction}")
    with People(cdn.load(site), LAB / "run" / f"people-{time.monotonic_ns()}.jsonl") as people:
        people.wait_saves(10)
        with Beside(site, account, period=0.004) as beside:
            said = site.salt_run("state.orchestrate", f"migrate.{direction}")
        people.wait_saves(30)
    for line in said.stderr.splitlines():
        if line.startswith(direction):
            print(f"    {line}")
    if said.rc != 0:
        raise RuntimeError(
            f"migrate.{direction} ended with {said.rc}:\n{said.stdout}\n{said.stderr}"
        )
    report = site.salt_run("migrate.report").data
    databases = beside.judge(source, target)
    people_saw = judge(people.lines(), site[f"{target}-app1"].address)
    run = report["runs"][0]
    run["users"] = {
        "write_unavailable_ms": people_saw.write_unavailable_ms,
        "database_blocked_ms": round(databases.database_blocked_ms, 2),
        "acknowledged": databases.acknowledged + people_saw.saved,
        "lost": databases.lost + len(people_saw.lost) + len(people_saw.missing_from_text),
        "duplicated": databases.duplicated + len(people_saw.duplicated),
        "reader_requests": people_saw.reader_requests,
        "reader_errors": people_saw.reader_errors,
        "editor_errors_other_than_notice": people_saw.editor_errors_other_than_notice,
    }
    for example in people_saw.reader_error_examples + people_saw.editor_error_examples:
        say(f"  seen by people: {example}")
    return report


def totals(report: dict[str, Any]) -> dict[str, int]:
    """Add up what outside judges counted over all runs."""
    keys = (*ENOUGH, *MUST_BE_ZERO)
    return {key: sum(run["users"][key] for run in report["runs"]) for key in keys}


def show(report: dict[str, Any]) -> None:
    """Print the report as a person reads it at a glance."""
    whole = totals(report)
    print()
    print(
        "run     result  databases closed  floor   predicted  judged by writers  editors waited (by POP)"
    )
    for run in report["runs"]:
        users = run["users"]
        waited = ", ".join(
            f"{pop} {ms / 1000:.2f} s" for pop, ms in users["write_unavailable_ms"].items()
        )
        print(
            f"{run['direction']:<8}{run['result']:<8}{run['window_ms']:>13.1f} ms"
            f"{run['floor_ms']:>6.1f}{run['predicted_ms']:>10.1f} ms"
            f"{users['database_blocked_ms']:>15.1f} ms  {waited}"
        )
    print()
    print(
        f"writes acknowledged {whole['acknowledged']}, pages read {whole['reader_requests']}; "
        + ", ".join(f"{key.replace('_', ' ')}: {whole[key]}" for key in MUST_BE_ZERO)
    )
    print()
    for run in report["runs"]:
        slow = sorted(run["steps"], key=lambda step: -step["seconds"])[:6]
        print(
            f"{run['direction']}: slowest steps "
            + ", ".join(f"{s['id']} {s['seconds']:.2f} s" for s in slow)
        )


def main() -> int:
    """Bring the lab up, tell the story, take the lab down; 0 only where nobody lost anything."""
    whole: dict[str, Any] = {}
    say(
        "bringing the lab up: two clouds of hosts, a 20 ms wide-area network, databases, a wiki, a CDN"
    )
    with Site.running() as site, cdn.serving(site):
        account = prepare(site)
        for story in STORY:
            report = transfer(site, account, story)
            whole = {**report, "runs": [*whole.get("runs", []), *report["runs"]]}
            say(f"{story[0]}: {report['runs'][0]['result']}; the site runs on the {story[2]} side")
        say("taking the lab down")
    folder = REPOSITORY / "target" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(whole, indent=1) + "\n")
    show(whole)
    print(f"\nthe whole report: {(folder / 'report.json').relative_to(REPOSITORY)}")
    counted = totals(whole)
    wrong = [f"{key}: {counted[key]}" for key in MUST_BE_ZERO if counted[key]]
    wrong += [
        f"{key}: only {counted[key]}" for key, least in ENOUGH.items() if counted[key] < least
    ]
    if wrong:
        print(f"NOT as promised: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
