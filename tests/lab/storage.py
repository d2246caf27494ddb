"""The node on which people's files lie: its volume is mounted on the application nodes of its side."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab.hosts import LAB, Host

FOLDER = "/srv/storage/wiki-images"
CARRY = "/var/lib/saltext-migrate/carry"
_PROGRAM = Path(__file__).resolve().parents[2] / "salt/migrate/host/files/carry.sh"


def _path(side: str) -> Path:
    return LAB / "hosts" / f"{side}-storage1" / "wiki-images"


def volume(side: str, place: str) -> dict[str, tuple[str, bool]]:
    """Where a side's volume is on a host, as `Host.binds` has it."""
    return {str(_path(side)): (place, True)}


def install(host: Host) -> None:
    """Makes the volume, and what carries its files as prepare leaves it; the host has its disk, and is off."""
    path = _path(host.name[:3])
    path.mkdir()
    # The application writes as this user, on all its nodes.
    shutil.chown(path, "www-data", "www-data")
    host.write(f"{CARRY}/carry.sh", _PROGRAM.read_text(), 0o700)
    (host.root / CARRY.lstrip("/")).chmod(0o700)


def empty(host: Host) -> None:
    """Makes the host what it is before prepare."""
    host.run(["rm", "-rf", CARRY])
    if host.name.startswith("new"):
        host.run(["find", FOLDER, "-mindepth", "1", "-delete"])
