"""Owns a real salt-master and one real salt-minion on loopback, as plain processes."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tests.lab.loopback import MINION

REPOSITORY = Path(__file__).resolve().parents[2]
# Not resolved: the link's own directory is the one where the environment keeps its commands.
COMMANDS = Path(sys.executable).parent


# What a unit's restart does, for a minion that no unit knows: whoever started it starts it again.
RESTART = """sh -c 'sleep 0.5; kill -KILL "$(cat "$MINION_HOME/run/pid")"'"""
# Starts what follows it again and again.
_AGAIN = ["sh", "-c", 'while :; do "$@"; done', "sh"]


class Ran(NamedTuple):
    """What a Salt command left behind; `data` is its parsed JSON, or None."""

    rc: int
    stdout: str
    stderr: str
    data: Any

    @property
    def answer(self) -> Any:
        """What the runner function returned, without the wrapping of its exit code."""
        wrapped = isinstance(self.data, dict) and "data" in self.data
        return self.data["data"] if wrapped else self.data

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        """The results of an orchestration's states, by their names in the SLS."""
        (states,) = self.answer.values()
        return {key.split("_|-")[1]: state for key, state in states.items()}


class SaltFailed(Exception):
    """A Salt daemon did not come up."""


class SaltMaster:
    """A master that serves this repository's states and one pillar, with the minion `loop`."""

    def __init__(
        self,
        pillar: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        commands: Path = COMMANDS,
        minions_restart: bool = False,
    ) -> None:
        """Takes the value of the pillar key `migrate`; `settings` go into the master's own file.

        `commands` is where another version of Salt has its own. Where `minions_restart`, one that ends is started
        again, as its unit would; `MINION_HOME` in its environment says where its files are.
        """
        self._minions_restart = minions_restart
        self._commands = commands
        # Not pytest's directory: a unix socket path ends at 107 characters.
        self.home = Path(tempfile.mkdtemp(prefix="salt-", dir="/tmp"))
        self.config = self.home / "master"
        self.minion_config = self.home / "minion"
        self.states = self.home / "states"
        self.pillar = self.home / "pillar" / "migrate.sls"
        self._settings = dict(settings or {})
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.set_pillar(pillar)

    def __enter__(self) -> SaltMaster:
        try:
            self._configure()
            self._launch("salt-master", self.config)
            self._launch("salt-minion", self.minion_config)
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def set_pillar(self, pillar: Mapping[str, Any]) -> None:
        """Replaces the pillar key `migrate`, which only the master itself may see."""
        self.pillar.parent.mkdir(mode=0o700, exist_ok=True)
        (self.pillar.parent / "top.sls").write_text("base:\n  '*_master':\n    - migrate\n")
        content = "#!json\n" + json.dumps({"migrate": pillar}, indent=2) + "\n"
        self.pillar.write_text(content)

    def command(self, *arguments: str) -> list[str]:
        """Returns the salt-run command line, for those who start, signal and time it themselves."""
        return [
            str(self._commands / "salt-run"),
            *("-c", str(self.config), "--out=json", "--no-color"),
            *arguments,
        ]

    def run(self, *arguments: str, timeout: float = 120.0) -> Ran:
        """Runs `salt-run` with these arguments and returns what it said."""
        return called(self.command(*arguments), timeout)

    def call_minion(self, *arguments: str, timeout: float = 60.0) -> Ran:
        """Runs a function on the minion; `data` is its answer alone."""
        ran = called(
            [
                str(self._commands / "salt"),
                *("-c", str(self.config), "--out=json", "--static", "--no-color"),
                *(MINION, *arguments),
            ],
            timeout,
        )
        return ran._replace(data=ran.data.get(MINION) if isinstance(ran.data, dict) else None)

    @contextlib.contextmanager
    def accepted_minion(self, name: str) -> Iterator[None]:
        """A further real minion, whose key the master has accepted."""
        folder = Path(tempfile.mkdtemp(prefix="key-", dir=self.home))
        _key_pair(folder, "minion")
        accepted = self.config / "pki" / "master" / "minions" / name
        shutil.copy(folder / "minion.pub", accepted)
        with self.another_minion({"id": name}, (folder / "minion.pem").read_text()):
            yield

    def freeze(self) -> None:
        """Stops the master where it stands: connections to it are made, and nothing answers."""
        os.killpg(self._daemons[0].pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        os.killpg(self._daemons[0].pid, signal.SIGCONT)

    @contextlib.contextmanager
    def another_minion(self, config: Mapping[str, Any], private_key: str) -> Iterator[None]:
        """A further real minion, with what a new host is given at its first boot."""
        home = Path(tempfile.mkdtemp(prefix="minion-", dir=self.home))
        shared = json.loads((self.minion_config / "minion").read_text())
        paths = {key: value.replace(str(self.minion_config), str(home))
                 for key, value in shared.items() if isinstance(value, str)}  # fmt: skip
        (home / "pki").mkdir()
        (home / "run").mkdir()
        (home / "pki" / "minion.pem").write_text(private_key)
        (home / "pki" / "minion.pem").chmod(0o400)
        public = ["openssl", "rsa", "-in", str(home / "pki/minion.pem"), "-pubout"]
        done = subprocess.run(public, check=True, capture_output=True)
        (home / "pki" / "minion.pub").write_bytes(done.stdout)
        (home / "minion").write_text(json.dumps(shared | paths | dict(config)))
        self._launch("salt-minion", home)
        daemon = self._daemons[-1]
        try:
            yield
        finally:
            self._daemons.remove(daemon)
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(1.5)
            _end_group(daemon)

    def ping(self, *minions: str) -> list[str]:
        """Lists those of some minions that answer within two seconds."""
        asked = ["-L", ",".join(minions), "test.ping", "-t", "2", "--out=json", "--static"]
        ran = called([str(self._commands / "salt"), "-c", str(self.config), *asked], 60)
        return [name for name, answer in (ran.data or {}).items() if answer is True]

    def answers(self, minion: str, timeout: float = 60.0) -> bool:
        """Tells whether a minion answers a ping within a time."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.ping(minion):
                return True
        return False

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Returns once the minion says that it takes requests."""
        deadline = time.monotonic() + timeout
        log = self.minion_config / "log"
        while not (log.exists() and "Minion is ready to receive requests" in log.read_text()):
            dead = [d.args for d in self._daemons if d.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise SaltFailed(f"not ready; ended: {dead}\n{self.last_words()}")
            time.sleep(0.02)

    def last_words(self, lines: int = 15) -> str:
        """Returns the ends of both logs."""
        logs = [
            path / name for path in (self.config, self.minion_config) for name in ("log", "err")
        ]
        return "\n".join(
            f"--- {log.parent.name} {log.name}\n"
            + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in logs
            if log.exists()
        )

    def close(self) -> None:
        """Stops both daemons in order, then ends whatever is left of their process groups."""
        for daemon in reversed(self._daemons):
            if daemon.poll() is None:
                daemon.terminate()
        for daemon in self._daemons:
            # The master needs half a second; the minion dawdles for five and holds nothing.
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(1.5)
            _end_group(daemon)
        self._daemons.clear()
        for claim in self._claims:
            claim.close()
        shutil.rmtree(self.home, ignore_errors=True)

    # -- inside -------------------------------------------------------------------------------

    def _configure(self) -> None:
        self._claims = _claim_ports(2)
        publish, ret = (claim.getsockname()[1] for claim in self._claims)
        self.states.mkdir()
        for role, path in (("master", self.config), ("minion", self.minion_config)):
            pki = path / "pki" / "master" if role == "master" else path / "pki"
            (path / "run").mkdir(parents=True)
            pki.mkdir(parents=True)
            _key_pair(pki, role)
            shared = {
                "user": getpass.getuser(),
                "root_dir": str(path),
                "pki_dir": str(pki),
                "cachedir": str(path / "cache"),
                "sock_dir": str(path / "run"),
                "pidfile": str(path / "run" / "pid"),
                "log_file": str(path / "log"),
                "log_level_logfile": "info",
            }
            own = self._master(publish, ret) if role == "master" else self._minion(publish, ret)
            (path / role).write_text(json.dumps(shared | own, indent=2))
        accepted = self.config / "pki" / "master" / "minions"
        accepted.mkdir()
        shutil.copy(self.minion_config / "pki" / "minion.pub", accepted / MINION)

    def _master(self, publish: int, ret: int) -> dict[str, Any]:
        return {
            "interface": "127.0.0.1",
            "publish_port": publish,
            "ret_port": ret,
            "worker_threads": 3,
            "open_mode": False,
            "auto_accept": False,
            "fileserver_list_cache_time": 0,
            "file_roots": {"base": [str(REPOSITORY / "salt"), str(self.states)]},
            "pillar_roots": {"base": [str(self.pillar.parent)]},
            **self._settings,
        }

    def _minion(self, publish: int, ret: int) -> dict[str, Any]:
        return {
            "id": MINION,
            "master": "127.0.0.1",
            "publish_port": publish,
            "master_port": ret,
            "random_startup_delay": 0,
            "acceptance_wait_time": 1,
            "auth_timeout": 2,
            "recon_default": 100,
            "recon_max": 500,
        }

    def _launch(self, name: str, config: Path) -> None:
        # The kernel would end the daemon with a short-lived thread that made it.
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("daemons are started from the main thread only")
        # SIGTERM, not SIGKILL: only the daemon itself can end its children.
        dies_with = ["setpriv", "--pdeathsig", "TERM"]
        command = [*dies_with, str(self._commands / name), "-c", str(config)]
        if self._minions_restart and name == "salt-minion":
            command = [*dies_with, *_AGAIN, *command, "--disable-keepalive"]
        with (config / "err").open("wb") as errors:
            self._daemons.append(
                subprocess.Popen(
                    command,
                    env=os.environ | {"MINION_HOME": str(config)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            )


def called(command: list[str], timeout: float) -> Ran:
    """Runs a command, and returns what it said."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    try:
        data = json.loads(done.stdout)
    except ValueError:
        data = None
    return Ran(done.returncode, done.stdout, done.stderr, data)


def _end_group(daemon: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait(5)


def _key_pair(folder: Path, name: str) -> None:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    for command in (
        ["genrsa", "-out", str(private), "2048"],
        ["rsa", "-in", str(private), "-pubout", "-out", str(public)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    private.chmod(0o400)


def _claim_ports(count: int, first: int = 15505) -> list[socket.socket]:
    """Claims ports that nobody else uses, and of which the kernel gives none to whoever connects somewhere."""
    claims: list[socket.socket] = []
    for port in range(first, first + 1000):
        # The UDP port of the same number: Salt does not use it, and it goes with the process.
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                # As Salt does, or ports of closed connections would count as taken.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        claims.append(claim)
        if len(claims) == count:
            return claims
    raise OSError(f"no {count} free ports from {first} on")
