"""A host of the lab: an overlay of this machine's root, booted by systemd-nspawn in its own netns.

Its state is its overlay, so it can be stopped, started, rebooted and cut off from power like a
machine. Each host has its own cgroup `lab-NAME`: whatever it started is found and ended by that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.network import netns_of

LAB = Path("/var/lib/saltext-migrate-lab")
CGROUPS = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
# Of processes that run in a host's network, but not in the host.
BESIDE = "lab-beside"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Started by systemd although no role of ours wants them; each makes a boot longer or `degraded`.
MASKED = (
    "console-getty.service",
    "e2scrub_reap.service",
    "epmd.service",
    "epmd.socket",
    "getty.target",
    "remote-fs.target",
    "systemd-pstore.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp.service",
)


class HostError(RuntimeError):
    """A command in a host failed, or a host did not do what it was told in time."""


def cgroup_pids(name: str) -> list[int]:
    """Every process below one of the lab's cgroups."""
    found: set[int] = set()
    for root in CGROUPS:
        for procs in (root / name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(line) for line in procs.read_text().split()}
    return sorted(found - {0})


def cgroup_end(name: str) -> None:
    """Kill whatever runs below a cgroup, at once, and remove it."""
    deadline = time.monotonic() + 60
    while pids := cgroup_pids(name):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if time.monotonic() > deadline:
            raise HostError(f"{name}: processes {pids} do not die")
        time.sleep(0.02)
    for root in CGROUPS:
        inner = sorted((root / name).rglob("*/"), key=lambda p: len(p.parts), reverse=True)
        for folder in (*(p for p in inner if p.is_dir()), root / name):
            _rmdir_soon(folder)


def _rmdir_soon(folder: Path) -> None:
    # The kernel may keep a cgroup busy for a moment after its last process is gone.
    for _ in range(200):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_gone(pid: int, seconds: float) -> bool:
    """Whether a process ended within the time; needs not be its parent."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)


def exec_in(netns: str, argv: Iterable[str], **popen: Any) -> subprocess.Popen[bytes]:
    """Start a process of this machine (its files, its clock) inside a netns.

    It joins a cgroup of the lab, so that taking the lab down ends it too.
    """
    join = []
    for root in CGROUPS:
        (root / BESIDE).mkdir(exist_ok=True)
        join.append(f"echo $$ > {root / BESIDE}/cgroup.procs; ")
    script = "".join(join) + f'exec nsenter --net=/run/netns/{netns} "$@"'
    return subprocess.Popen(["sh", "-c", script, "lab", *argv], **popen)


@dataclass
class Host:
    """One host; `units` are what its role starts at boot, all else that is enabled stays off."""

    name: str
    addresses: list[str]
    units: list[str] = field(default_factory=list)
    # Path on this machine -> (path in the host, may it write).
    binds: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = LAB / "hosts" / self.name
        self.root = self.folder / "root"
        self.netns = netns_of(self.name)
        self.cgroup = f"lab-{self.name}"
        self._init = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return self.addresses[0]

    # -- its disk ---------------------------------------------------------------------------------

    def create(self, hosts_file: str) -> None:
        """Make the disk and mount it; nothing runs yet, files may be put in place."""
        self.folder.mkdir(parents=True)
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir()
        options = f"lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work"
        argv = ["mount", "-t", "overlay", "lab-overlay", "-o", options, str(self.root)]
        subprocess.run(argv, check=True)
        etc = self.root / "etc"
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        (etc / "resolv.conf").unlink(missing_ok=True)
        # An address here that nobody answers makes every look-up wait, Salt's grains above all.
        self.write("/etc/resolv.conf", "")
        self.write("/etc/hostname", self.name + "\n")
        self.write("/etc/hosts", hosts_file)
        self.write("/etc/machine-id", secrets.token_hex(16) + "\n")
        (etc / "cloud").mkdir(exist_ok=True)
        self.write("/etc/cloud/cloud-init.disabled", "")
        system = etc / "systemd/system"
        for wanted in system.glob("*.wants/*"):
            if wanted.name not in self.units:
                wanted.unlink()
        for unit in MASKED:
            (system / unit).unlink(missing_ok=True)
            (system / unit).symlink_to("/dev/null")
        for unit in self.units:
            self.enable(unit)

    def enable(self, unit: str) -> None:
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        link = wants / unit
        if not link.is_symlink():
            own = self.root / "etc/systemd/system" / unit
            folder = "/etc/systemd/system" if own.exists() else "/lib/systemd/system"
            link.symlink_to(f"{folder}/{unit}")

    def write(self, path: str, text: str, mode: int = 0o644, owner: str | None = None) -> None:
        """Put a file on the host's disk by rename, whether it runs or not."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".lab-new")
        fresh.touch(mode=mode)
        fresh.chmod(mode)
        if owner:
            shutil.chown(fresh, owner, owner)
        fresh.write_text(text)
        fresh.rename(target)

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def remove(self) -> None:
        """Unmount and delete the disk; the host must not run."""
        subprocess.run(["umount", "-l", str(self.root)], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- its power --------------------------------------------------------------------------------

    def start(self) -> None:
        """Switch it on; returns at once, see `wait`."""
        for root in CGROUPS:
            (root / self.cgroup).mkdir(exist_ok=True)
        argv = [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "-M", self.name,
            # Its network is its own, and so is its packet filter.
            "--capability=CAP_NET_ADMIN",
            f"--network-namespace-path=/run/netns/{self.netns}", "--tmpfs=/tmp:mode=1777",
            # The lab's own files are below the overlay's lower layer: a host must not see them.
            f"--tmpfs={LAB}:mode=0700",
            "--resolv-conf=off", "--timezone=off", "--link-journal=no", "-D", str(self.root),
        ]  # fmt: skip
        for source, (target, writable) in self.binds.items():
            argv.append(f"--bind{'' if writable else '-ro'}={source}:{target}")
        # The shell joins the cgroup before nspawn is there, so that nothing can be outside of it.
        join = "".join(f"echo $$ > {root / self.cgroup}/cgroup.procs; " for root in CGROUPS)
        script = join + "exec " + shlex.join([*argv, "-b"])
        with (self.folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                ["sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(str(self._process.pid))
        self._init = 0

    def pid(self) -> int:
        """The nspawn process; 0 if the host is off."""
        try:
            pid = int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return 0
        if self._process is not None and self._process.pid == pid:
            self._process.poll()
        return pid if alive(pid) else 0

    def init(self) -> int:
        """Its process 1, as this machine numbers it; 0 if there is none (yet)."""
        if self._init and alive(self._init):
            return self._init
        pid = self.pid()
        with contextlib.suppress(OSError, ValueError, IndexError):
            child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            # Until nspawn's child is systemd, its namespaces are still being made.
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                self._init = child
                return child
        return 0

    def wait(self, *units: str, seconds: float = 60) -> None:
        """Until these units (default: those of its role) are active."""
        deadline = time.monotonic() + seconds
        while not self.init():
            if not self.pid() or time.monotonic() > deadline:
                raise HostError(f"{self.name} does not boot, see {self.folder}/console.log")
            time.sleep(0.02)
        wanted = shlex.join(units or tuple(self.units))
        left = int(max(1, deadline - time.monotonic()) * 10)
        loop = (
            f"i=0; while :; do n=0; for u in {wanted}; do"
            " [ $(systemctl is-active $u 2>/dev/null) = active ] || n=1; done;"
            f" [ $n = 0 ] && exit 0; i=$((i+1)); [ $i -gt {left} ] && break; sleep 0.1; done;"
            f" systemctl --no-pager status {wanted}; exit 1"
        )
        self.run(loop)

    def stop(self, seconds: float = 20) -> bool:
        """Shut it down cleanly; what does not end in time loses its power. Says which it was."""
        pid = self.pid()
        clean = True
        if pid:
            os.kill(pid, 15)
            clean = wait_gone(pid, seconds)
        self.kill()
        return clean

    def kill(self) -> None:
        """Cut its power: every process ends at once. What the kernel had for the disk is kept."""
        # Process 1 first, and with it all of its pid namespace: nobody is left to tidy up.
        if init := self.init():
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, 9)
        cgroup_end(self.cgroup)
        if self._process is not None:
            self._process.wait(10)
        self._init, self._process = 0, None

    def reboot(self, seconds: float = 60) -> None:
        self.stop()
        self.start()
        self.wait(seconds=seconds)

    # -- inside it --------------------------------------------------------------------------------

    def argv(self, command: str | list[str]) -> list[str]:
        """The command line that runs a command in the host."""
        init = self.init()
        if not init:
            raise HostError(f"{self.name} is off")
        inner = ["sh", "-c", command] if isinstance(command, str) else command
        enter = ["nsenter", "-t", str(init), "-m", "-u", "-i", "-n", "-p", "-r", "-w"]
        return [*enter, "env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", *inner]

    def run(
        self, command: str | list[str], *, check: bool = True, stdin: str = "", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host as root and return what it said."""
        done = subprocess.run(
            self.argv(command), input=stdin, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            said = (done.stderr + done.stdout).strip()[-1500:]
            raise HostError(f"{self.name}: {command!r} returned {done.returncode}: {said}")
        return done
