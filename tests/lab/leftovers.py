"""Taking the lab down by what it left on the machine, not by what anybody remembers of it.

Everything the lab makes carries its name: netns and cgroups `lab-*`, mounts and pid files below
one directory, one interface `lab0`. So this works after a crash, and twice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.lab.hosts import CGROUPS, LAB, alive, cgroup_end, cgroup_pids
from tests.lab.network import MACHINE_LINK, NETNS_DIR


def _cgroups() -> set[str]:
    return {path.name for root in CGROUPS for path in root.glob("lab-*")}


def _namespaces() -> list[str]:
    return sorted(path.name for path in NETNS_DIR.glob("lab-*"))


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{LAB}/")]


def _pid_files() -> list[int]:
    """Processes of this machine that the lab started and wrote down."""
    found = []
    for path in (LAB / "run").glob("*.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            # A number may belong to somebody else after a reboot of the machine.
            if alive(pid) and str(LAB).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _in_namespaces() -> list[int]:
    found: set[int] = set()
    for name in _namespaces():
        said = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout
        found |= {int(pid) for pid in said.split()}
    return sorted(found)


def found() -> dict[str, list[str]]:
    """What of the lab is on this machine now; empty lists everywhere after `remove`."""
    processes = {*_pid_files(), *_in_namespaces()}
    for name in _cgroups():
        processes |= set(cgroup_pids(name))
    link = Path("/sys/class/net") / MACHINE_LINK
    return {
        "processes": sorted(map(str, processes)),
        "cgroups": sorted(_cgroups()),
        "namespaces": _namespaces(),
        "mounts": _mounts(),
        "links": [MACHINE_LINK] if link.exists() else [],
        "disks": sorted(str(path) for path in (LAB / "hosts").glob("*")),
    }


def remove() -> None:
    """End and remove all of it; the template is kept."""
    for name in sorted(_cgroups()):
        cgroup_end(name)
    deadline = time.monotonic() + 10
    while pids := [pid for pid in {*_pid_files(), *_in_namespaces()} if alive(pid)]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {pids} do not die")
        time.sleep(0.02)
    # The latest first: a mount may hold others.
    for mount in reversed(_mounts()):
        subprocess.run(["umount", "-l", mount], capture_output=True)
    for name in _namespaces():
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    if (Path("/sys/class/net") / MACHINE_LINK).exists():
        subprocess.run(["ip", "link", "del", MACHINE_LINK], capture_output=True)
    shutil.rmtree(LAB / "hosts", ignore_errors=True)
    for path in (LAB / "run").glob("*"):
        if path.name != "compiled":
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
