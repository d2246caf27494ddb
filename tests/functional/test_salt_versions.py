"""The one wheel on the other supported versions of Salt: the same flip, and the same words."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.loopback import Chain
from tests.lab.salt import REPOSITORY, SaltMaster
from tests.lab.writer import Writer, judge

TARGET = REPOSITORY / "target"


def environment(version: str) -> Path:
    """A virtual environment with that Salt, by its lock, and the wheel under test; kept for the next run."""
    home, lock = TARGET / f"salt-{version}", REPOSITORY / "tests" / f"salt-{version}.lock"
    uv = [str(TARGET / "boot" / "bin" / "uv")]
    quiet = {"check": True, "capture_output": True, "text": True}
    install = [
        *uv,
        "pip",
        "install",
        "--compile-bytecode",
        "--python",
        home / "bin" / "python",
        "--no-deps",
    ]
    stamp = home / ".lock"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        subprocess.run([*uv, "venv", "--clear", "--python", "/usr/bin/python3", home], **quiet)
        subprocess.run([*install, "-r", lock], **quiet)
        stamp.write_text(lock.read_text())
    (wheel,) = (TARGET / "wheels").glob("*.whl")
    subprocess.run([*install, "--reinstall", wheel], **quiet)
    return home / "bin"


@pytest.mark.parametrize("version", ["3006", "3007"])
def test_a_flip_and_a_revert_by_an_older_salt(fresh_chain: Chain, version: str) -> None:
    if not (TARGET / "boot" / "bin" / "uv").exists():
        pytest.skip("no uv: run by `make test`, which fetches it")
    commands = environment(version)
    said = subprocess.run(
        [commands / "salt-run", "--version"], capture_output=True, text=True, check=True
    )
    assert f" {version}." in said.stdout
    with SaltMaster(fresh_chain.pillar(), commands=commands) as master:
        assert "migrate.flip" in master.run("-d", "migrate").stdout
        assert master.run("migrate.preflight").rc == 0
        tried = master.run("state.orchestrate", "migrate.flip", "test=True")
        assert tried.rc == 0
        assert tried.states["flip"]["result"] is None
        assert fresh_chain.serving() is fresh_chain.old
        with Writer(fresh_chain, threads=1) as writer:
            time.sleep(0.2)
            for phase, serving in (("flip", fresh_chain.new), ("revert", fresh_chain.old)):
                ran = master.run("state.orchestrate", f"migrate.{phase}")
                assert ran.rc == 0, ran.stdout + ran.stderr
                assert "committed   promotion" in ran.stderr
                assert fresh_chain.serving() is serving
                time.sleep(0.2)
        refused = master.run("migrate.plan", "sideways")
        assert refused.rc == 1
        assert "expected prepare, test, flip, revert or cleanup" in refused.stdout
        fresh_chain["new-db2"].run("SET GLOBAL read_only=0")
        assert master.run("state.orchestrate", "migrate.flip").rc == 1
    verdict = judge(fresh_chain, writer.results)
    assert (verdict.lost, verdict.duplicated) == ([], [])
