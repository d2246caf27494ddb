"""Owns servers that this Debian does not have: another suite's packages, unpacked beside the system.

They are run by their own loader with their own libraries; nothing is installed, no chroot is needed.
What was fetched stays below `target/`.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path

SERVERS = Path(__file__).resolve().parents[2] / "target" / "servers"
_MIRROR = "http://deb.debian.org/debian"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/mysql/private")
# Nothing of a server's is in them.
_NOT_NEEDED = ("perl", "gcc-", "libperl", "libc-gconv", "debconf", "libc-bin", "openssl-")


class Unavailable(Exception):
    """A server cannot be had on this machine; the message says why."""


def unpacked(suite: str, package: str, programs: tuple[str, ...]) -> Path:
    """Returns the root in which a package and what it needs stand, fetching it on the first call ever.

    Each of `programs` becomes a script there that runs the real one, `.real`, by its own loader.
    """
    root = SERVERS / f"{package}-{suite}"
    SERVERS.mkdir(parents=True, exist_ok=True)
    with (SERVERS / f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        whole = all((root / f"{program}.real").exists() for program in programs)
        if not whole:
            shutil.rmtree(root, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=SERVERS) as building:
                here = Path(building, "root")
                for archive in _fetch(suite, package, Path(building)):
                    if not archive.name.startswith(_NOT_NEEDED):
                        subprocess.run(["dpkg-deb", "-x", archive, here], check=True)
                for program in programs:
                    _wrap(here, root, program)
                # By rename: a killed build leaves no half tree behind.
                here.rename(root)
    return root


def _fetch(suite: str, package: str, work: Path) -> list[Path]:
    if not shutil.which("apt-get") or not _KEYRING.exists():
        raise Unavailable(f"{package} of Debian {suite}: this machine has no apt-get")
    lists, cache, status = work / "lists", work / "cache", work / "status"
    for folder in (lists / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True)
    status.touch()
    source = work / "sources.list"
    source.write_text(f"deb [signed-by={_KEYRING}] {_MIRROR} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": lists,
        "Dir::State::status": status,
        "Dir::Cache": cache,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Retries": 2,
    }
    apt = ["apt-get", "-q", "-y", *(f"-o{key}={value}" for key, value in options.items())]
    for words in (["update"], ["install", "--download-only", package]):
        done = subprocess.run([*apt, *words], capture_output=True, text=True, timeout=240)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            raise Unavailable(f"{package} of Debian {suite} cannot be had: {' '.join(said)}")
    return sorted((cache / "archives").glob("*.deb"))


def _wrap(here: Path, root: Path, program: str) -> None:
    """Puts a script in the place of a program; `root` is where it will stand."""
    path = here / program
    path.rename(path.with_name(f"{path.name}.real"))
    libraries = ":".join(str(root / folder) for folder in _LIBRARIES)
    path.write_text(
        f'#!/bin/sh\nexec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {libraries} {root}/{program}.real "$@"\n'
    )
    path.chmod(0o755)
