"""What setting up says of a Rust toolchain that it cannot use; it never installs one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def setup(programs: Path, **versions: str) -> str:
    """Runs the set-up where only these programs, and what it needs to look at them, are found; returns its words."""
    for name in ("bash", "dirname", "sed", "cut", "sort", "head"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    for name, words in versions.items():
        (programs / name.replace("_", "-")).write_text(f"#!/bin/sh\necho '{words}'\n")
        (programs / name.replace("_", "-")).chmod(0o755)
    ran = subprocess.run(
        [REPOSITORY / "tests" / "setup.sh"],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert ran.returncode == 1
    return ran.stderr


@pytest.fixture
def wanted() -> str:
    """The version that the crate asks for."""
    (found,) = re.findall(r'^rust-version = "(.+)"', (REPOSITORY / "Cargo.toml").read_text(), re.M)
    return str(found)


def test_a_toolchain_that_is_missing_is_named_with_the_version_and_the_way_to_it(
    tmp_path: Path, wanted: str
) -> None:
    said = setup(tmp_path)
    assert f"no Rust toolchain; Rust {wanted} or later is needed" in said
    assert "rustup toolchain install stable" in said


def test_one_that_is_too_old_is_named_with_both_versions(tmp_path: Path, wanted: str) -> None:
    said = setup(tmp_path, cargo="cargo 1.63.0", rustc="rustc 1.63.0 (4b91a6ea7 2022-08-08)")
    assert f"Rust 1.63.0 is too old; {wanted} or later is needed" in said


def test_one_without_its_checkers_is_told_how_to_add_them(tmp_path: Path, wanted: str) -> None:
    said = setup(tmp_path, cargo="cargo", rustc=f"rustc {wanted}.0", cargo_fmt="")
    assert "the Rust toolchain has no clippy: rustup component add clippy" in said
