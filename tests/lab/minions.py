"""Salt in the lab: one real master on `deployment`, one real minion on every host.

Both run from the clone's venv, bound read-only at one path that does not depend on where the clone
is. Keys are made here and placed on both sides beforehand: nothing is accepted automatically.
"""

from __future__ import annotations

import compileall
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.lab.hosts import LAB, Host, HostError

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = "/opt/saltext-migrate"
MASTER = "deployment"
COMMANDS = ("salt", "salt-run", "salt-call", "salt-key")

_UNIT = """\
[Unit]
Description=The Salt {what}
After=network.target

[Service]
Type=notify
NotifyAccess=all
KillMode={kill}
# A minion rarely ends by itself; a reboot need not wait for it.
TimeoutStopSec=1
Environment=PYTHONPATH={path}
ExecStart={python} {inside}/venv/bin/salt-{what} -c /etc/salt

[Install]
WantedBy=multi-user.target
"""

_MINION = """\
id: {name}
master: {master}
# The master may come up after us; the defaults would let us sleep for 10 s first.
acceptance_wait_time: 1
random_reauth_delay: 1
auth_timeout: 5
recon_default: 100
recon_max: 1000
recon_randomize: false
enable_fqdns_grains: false
log_level: warning
"""

_MASTER = """\
interface: 0.0.0.0
worker_threads: 3
auto_accept: false
enable_fqdns_grains: false
file_roots: {{base: [/srv/salt, /srv/site]}}
pillar_roots: {{base: [/srv/pillar]}}
# What sdb://migrate/NAME in the pillar refers to.
migrate: {{driver: yaml, files: [{secrets}]}}
log_level: warning
"""
SECRETS_FILE = "/etc/salt/migrate-secrets.yaml"


def units(name: str) -> list[str]:
    return ["salt-minion.service", *(["salt-master.service"] if name == MASTER else [])]


def binds(name: str) -> dict[str, tuple[str, bool]]:
    found = {
        str(REPOSITORY / "target/venv"): (f"{INSIDE}/venv", False),
        str(REPOSITORY / "src"): (f"{INSIDE}/src", False),
    }
    if name == MASTER:
        found[str(REPOSITORY / "salt")] = ("/srv/salt", False)
        found[str(REPOSITORY / "tests/lab/states")] = ("/srv/site", False)
    return found


def compile_venv() -> None:
    """Compile the venv once: hosts see it read-only, and would each compile it at every start."""
    packages = next((REPOSITORY / "target/venv/lib").glob("python3*/site-packages"))
    stamp = LAB / "run" / "compiled"
    if stamp.exists() and stamp.stat().st_mtime >= packages.stat().st_mtime:
        return
    compileall.compile_dir(str(packages), quiet=2, workers=0)
    stamp.touch()


def _python_path() -> str:
    # A developer's build lies beside the sources; else the venv has the wheel, and must win.
    built = list((REPOSITORY / "src/saltext/migrate").glob("_native*.so"))
    return f"{INSIDE}/src" if built else ""


def make_keys(folder: Path, names: list[str]) -> None:
    """A key pair for each minion, all at once."""
    folder.mkdir(parents=True, mode=0o700)
    argv = ["openssl", "genrsa", "-out"]
    running = [
        subprocess.Popen([*argv, str(folder / f"{name}.pem"), "2048"], stderr=subprocess.DEVNULL)
        for name in names
    ]
    if any([process.wait() for process in running]):
        raise RuntimeError("openssl genrsa failed")
    for name in names:
        argv = ["openssl", "rsa", "-in", str(folder / f"{name}.pem"), "-pubout"]
        pub = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        (folder / f"{name}.pub").write_text(pub)


def install(host: Host, master: Host, keys: Path) -> None:
    """Put minion, keys and commands on a host's disk; enables nothing."""
    pki = "/etc/salt/pki/minion"
    host.write(f"{pki}/minion.pem", (keys / f"{host.name}.pem").read_text(), 0o400)
    host.write(f"{pki}/minion.pub", (keys / f"{host.name}.pub").read_text())
    host.write("/etc/salt/minion", _MINION.format(name=host.name, master=master.address))
    python, path = f"{INSIDE}/venv/bin/python", _python_path()
    for what, kill in (("minion", "process"), ("master", "mixed")):
        unit = _UNIT.format(what=what, kill=kill, python=python, path=path, inside=INSIDE)
        host.write(f"/etc/systemd/system/salt-{what}.service", unit)
    for command in COMMANDS:
        script = f'#!/bin/sh\nPYTHONPATH={path} exec {python} {INSIDE}/venv/bin/{command} "$@"\n'
        host.write(f"/usr/local/bin/{command}", script, 0o755)


def install_master(host: Host, keys: Path, names: list[str], secrets: dict[str, str]) -> None:
    host.write("/etc/salt/master", _MASTER.format(secrets=SECRETS_FILE))
    host.write(SECRETS_FILE, json.dumps(secrets) + "\n", 0o600)
    host.write("/srv/pillar/top.sls", "base:\n  '*':\n    - migrate\n")
    for name in names:
        host.write(f"/etc/salt/pki/master/minions/{name}", (keys / f"{name}.pub").read_text())


def ping(master: Host, seconds: float = 3) -> set[str]:
    """The minions that answer now."""
    argv = ["timeout", str(seconds + 4), "salt", "*", "test.ping", "-t", str(round(seconds))]
    said = master.run([*argv, "--out=json", "--static"], check=False).stdout
    try:
        answers: dict[str, Any] = json.loads(said)
    except ValueError:
        return set()
    return {name for name, answer in answers.items() if answer is True}


def wait_all(master: Host, names: list[str], seconds: float = 60) -> None:
    """Until every minion answers."""
    deadline = time.monotonic() + seconds
    while missing := set(names) - ping(master):
        if time.monotonic() > deadline:
            raise HostError(f"minions do not answer: {', '.join(sorted(missing))}")
