"""Owns the environment in which the OpenStack services live: installed once, from a lock of its own."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
LOCK = REPOSITORY / "tests" / "openstack.lock"
ENVIRONMENT = REPOSITORY / "target" / "openstack-venv"
PYTHON = ENVIRONMENT / "bin" / "python"
_UV = REPOSITORY / "target" / "boot" / "bin" / "uv"


def install() -> None:
    """Makes the environment what the lock says; at once where it is."""
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    installed = ENVIRONMENT / ".lock"
    with (ENVIRONMENT.parent / "openstack-venv.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if installed.exists() and installed.read_bytes() == LOCK.read_bytes():
            return
        environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}

        def uv(*arguments: str) -> None:
            subprocess.run([str(_UV), *arguments], check=True, env=environment)

        uv("venv", "--quiet", "--clear", "--python", "/usr/bin/python3", str(ENVIRONMENT))
        uv(
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--python",
            str(PYTHON),
            "-r",
            str(LOCK),
        )
        installed.write_bytes(LOCK.read_bytes())
