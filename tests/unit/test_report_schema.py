"""The schema of the report takes what a report is, and nothing else."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((REPOSITORY / "docs" / "report.schema.json").read_text())
JUDGE = jsonschema.Draft202012Validator(SCHEMA)

REPORT: dict[str, Any] = {
    "runs": [
        {
            "run": "flip-1790000000000",
            "direction": "flip",
            "result": "done",
            "error": None,
            "predicted_ms": 31.5,
            "window_ms": 33.1,
            "floor_ms": 21.0,
            "steps": [
                {"id": "fence", "started": 1790000000.5, "seconds": 0.002, "result": "done"},
                {"id": "promotion", "started": 1790000000.51, "seconds": 0.03, "result": "done"},
            ],
            "users": {
                "write_unavailable_ms": {"pop1": 1500.0, "pop2": 1650.5},
                "database_blocked_ms": 34.0,
                "acknowledged": 12000,
                "lost": 0,
                "duplicated": 0,
                "reader_requests": 900,
                "reader_errors": 0,
                "editor_errors_other_than_notice": 0,
            },
        },
        {
            "run": "",
            "direction": "revert",
            "result": "unchanged",
            "error": None,
            "predicted_ms": None,
            "window_ms": None,
            "floor_ms": None,
            "steps": [],
            "users": None,
        },
    ],
    "versions": {"saltext-migrate": "0.1.0", "old-db1": "10.11.19-MariaDB", "new-db2": None},
    "rtt_ms": None,
    "settings_hash": "0123456789abcdef" * 4,
}


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        place: Any = report
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def put(value: object, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        place: Any = report
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_report_is_taken() -> None:
    JUDGE.validate(REPORT)


@pytest.mark.parametrize(
    "change",
    [
        drop("settings_hash"),
        drop("runs", 0, "window_ms"),
        drop("runs", 0, "users", "lost"),
        drop("versions", "saltext-migrate"),
        put([], "runs"),
        put("sideways", "runs", 0, "direction"),
        put("fine", "runs", 0, "result"),
        put("31.5", "runs", 0, "predicted_ms"),
        put(-1, "runs", 0, "window_ms"),
        put(0.5, "runs", 0, "users", "lost"),
        put(1500.0, "runs", 0, "users", "write_unavailable_ms"),
        put("perhaps", "runs", 0, "steps", 0, "result"),
        put("secret", "runs", 0, "password"),
        put("short", "settings_hash"),
    ],
)
def test_what_is_no_report_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    report = copy.deepcopy(REPORT)
    change(report)
    assert not JUDGE.is_valid(report)


def test_the_schema_knows_every_kind_of_error() -> None:
    kinds = re.findall(r'=> "([a-z-]+)",', (REPOSITORY / "src" / "error.rs").read_text())
    known = SCHEMA["$defs"]["step"]["properties"]["result"]["enum"]
    assert {"done", "unchanged", *kinds} == set(known)
