"""The whole site of the lab: two clouds, an edge, a Salt master; brought up, looked at, taken down.

with Site.running() as site:
    site.salt_run("migrate.plan", "flip")
    site.sql("new-db1", "SELECT @@read_only")
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab import database, leftovers, minions, storage, wiki
from tests.lab.direct import DRILL
from tests.lab.hosts import LAB, Host, exec_in
from tests.lab.network import Network

ADDRESSES = {
    "old-db1": ["10.70.0.11"],
    "old-db2": ["10.70.0.12"],
    "old-app1": ["10.70.0.21"],
    "old-memcache1": ["10.70.0.31"],
    "old-storage1": ["10.70.0.41"],
    "deployment": ["10.80.0.5"],
    "relay": ["10.80.0.10"],
    "new-db1": ["10.80.0.11"],
    "new-db2": ["10.80.0.12"],
    "new-app1": ["10.80.0.21"],
    "new-memcache1": ["10.80.0.31"],
    "new-storage1": ["10.80.0.41"],
    "edge": ["10.90.0.2", "10.90.0.11", "10.90.0.12"],
}
# Those of either side.
NODES = ("db1", "db2", "app1", "memcache1", "storage1")
# The points of presence are addresses of the host `edge`; its first address is the control API's.
POPS = {"pop1": "10.90.0.11", "pop2": "10.90.0.12"}
NOTICE = "Migration in progress. Your page is safe; saving works again in a moment."
STATE_FILE = LAB / "run" / "site.json"
SECRET_REFERENCES = {"admin", "marker", "replication", "fastly"}


@contextmanager
def alone() -> Iterator[None]:
    """There is one lab on a machine; who wants it waits here for who has it."""
    LAB.mkdir(exist_ok=True)
    with (LAB / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass
class Said:
    """What a salt command returned; `data` is its standard output, where that is JSON."""

    rc: int
    stdout: str
    stderr: str
    data: Any


class Site:
    """The running lab. `up` makes it, `attach` finds the one that runs."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets
        self.network = Network(LAB / "run")
        self.timings: dict[str, float] = {}
        self.in_memory = False
        # What stands under `edge` in the pillar, once somebody starts it: without, nobody is to ask Fastly itself.
        self.edge: dict[str, Any] | None = None
        self.hosts = {name: self._host(name) for name in ADDRESSES}

    @staticmethod
    def _host(name: str) -> Host:
        host = Host(name, ADDRESSES[name], minions.units(name), minions.binds(name))
        if name in database.SERVER_IDS:
            host.units.append("mariadb.service")
            host.binds[str(host.folder / "mysql")] = ("/var/lib/mysql", True)
        elif name.endswith("-memcache1"):
            host.units.append("memcached.service")
        elif name.endswith("-app1"):
            host.units += ["nginx.service", wiki.fpm_unit()]
            host.binds |= storage.volume(name[:3], wiki.IMAGES)
        elif name.endswith("-storage1"):
            host.binds |= storage.volume(name[:3], storage.FOLDER)
        return host

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    # -- up and down ------------------------------------------------------------------------------

    @classmethod
    def up(
        cls,
        delay_ms: float = 10.0,
        say: Callable[[str], None] = lambda line: None,
        *,
        keep: bool = True,
        in_memory: bool = False,
    ) -> Site:
        """Bring the lab up from nothing; `delay_ms` is one way between the clouds.

        `in_memory`: the databases' files are on no disk, for figures that a disk would set.
        What stands there already is removed: see `running` for one that waits its turn.
        """
        leftovers.remove()
        (LAB / "run").mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        network = Network(LAB / "run")
        network.up(delay_ms)
        site = cls(wiki.template(network))
        site.network = network
        site.in_memory = in_memory
        minions.compile_venv()
        site._lap("template", began, say)
        site._make(say)
        site._lap("all", began, say)
        STATE_FILE.touch(0o600)
        state = {"secrets": site.secrets, "timings": site.timings, "keep": keep}
        STATE_FILE.write_text(json.dumps(state))
        return site

    @classmethod
    def attach(cls) -> Site:
        """The lab that another process brought up."""
        try:
            state = json.loads(STATE_FILE.read_text())
        except FileNotFoundError:
            raise RuntimeError("the lab is down: python -m tests.lab up") from None
        site = cls(state["secrets"])
        site.timings = state["timings"]
        return site

    @classmethod
    @contextmanager
    def running(cls, delay_ms: float = 10.0, *, in_memory: bool = False) -> Iterator[Site]:
        """The lab for one block, and for it alone: another process waits until it is gone."""
        with alone():
            if STATE_FILE.exists() and json.loads(STATE_FILE.read_text())["keep"]:
                raise RuntimeError("somebody keeps the lab up: python -m tests.lab down")
            try:
                yield cls.up(delay_ms, keep=False, in_memory=in_memory)
            finally:
                leftovers.remove()

    def _lap(self, what: str, since: float, say: Callable[[str], None]) -> None:
        self.timings[what] = round(time.monotonic() - since, 2)
        say(f"{what}: {self.timings[what]} s")

    def _make(self, say: Callable[[str], None]) -> None:
        began = time.monotonic()
        keys = LAB / "run" / "keys"
        minions.make_keys(keys, list(self.hosts))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda host: self._prepare(host, keys), self.hosts.values()))
        shutil.rmtree(keys)
        self._lap("disks", began, say)
        began = time.monotonic()
        # The master first: a minion that finds none waits before it asks again.
        order = sorted(self.hosts.values(), key=lambda host: host.name != minions.MASTER)
        for host in order:
            host.start()
        replicas = [self[name] for name in database.CHAIN]
        for name in database.SERVER_IDS:
            self[name].wait("mariadb.service")
        self._lap("databases", began, say)
        for replica in replicas:
            database.follow(replica, self[database.CHAIN[replica.name]], self.secrets)
        database.wait_following(replicas, self.secrets["admin"])
        self._lap("replication", began, say)
        for host in self.hosts.values():
            host.wait()
        self._lap("units", began, say)
        minions.wait_all(self[minions.MASTER], list(self.hosts))
        self._lap("minions", began, say)

    def _prepare(self, host: Host, keys: Any) -> None:
        self.network.add_host(host.name, host.addresses)
        names = "".join(f"{addresses[0]} {name}\n" for name, addresses in ADDRESSES.items())
        host.create("127.0.0.1 localhost\n" + names)
        minions.install(host, self[minions.MASTER], keys)
        if host.name == minions.MASTER:
            secrets = {name: self.secrets[name] for name in SECRET_REFERENCES}
            minions.install_master(host, keys, list(self.hosts), secrets)
            self.write_pillar()
        if host.name in database.SERVER_IDS:
            database.seed(host, wiki.TEMPLATE, in_memory=self.in_memory)
        if host.name.endswith("-app1"):
            side = host.name[:3]
            wiki.install(host, self[f"{side}-db1"].address, self[f"{side}-memcache1"].address)
        if host.name.endswith("-memcache1"):
            wiki.install_cache(host)
        if host.name.endswith("-storage1"):
            storage.install(host)
        for unit in host.units:
            host.enable(unit)

    # -- the product's side -----------------------------------------------------------------------

    def pillar(self) -> dict[str, Any]:
        """What stands under `migrate` in the pillar of this site."""

        def node(name: str) -> dict[str, str]:
            return {"private": self[name].address, "minion": name}

        def account(user: str, reference: str) -> dict[str, str]:
            return {"user": user, "password": f"sdb://migrate/{reference}"}

        return {
            "nodes": {
                "old": {name: node(f"old-{name}") for name in NODES},
                "new": {"relay": node("relay"), **{name: node(f"new-{name}") for name in NODES}},
            },
            "databases": {
                "old": {"primary": "db1", "replicas": ["db2"]},
                "new": {"primary": "db1", "replicas": ["db2"], "relay": "relay"},
                "accounts": {
                    "admin": account("migrate", "admin"),
                    "marker": account("migrate_marker", "marker"),
                    "replication": account("replication", "replication"),
                },
                # Debian's own accounts, by socket only.
                "may_bypass_fence": ["root", "mysql", "mariadb.sys"],
            },
            "notice": {
                "text": NOTICE,
                "nodes": {"old": ["app1"], "new": ["app1"]},
                "path": wiki.READONLY_FILE,
            },
            "vhosts": {
                "docs": {
                    "hosts": [wiki.PUBLIC_NAME],
                    "node": "app1",
                    "scheme": "http",
                    "path": f"/index.php?title={wiki.PAGES[0].replace(' ', '_')}",
                    "holds": wiki.READER_MARK,
                }
            },
            "uploads": {"wiki": {"old": "storage1", "new": "storage1", "paths": [storage.FOLDER]}},
            "edge": self.edge,
        }

    def write_pillar(self, change: dict[str, Any] | None = None) -> None:
        """Write the pillar on the master; `change` replaces whole top-level parts of it."""
        pillar = {"migrate": {**self.pillar(), **(change or {})}}
        text = "#!json\n" + json.dumps(pillar, indent=1) + "\n"
        self[minions.MASTER].write("/srv/pillar/migrate.sls", text)

    def salt_run(self, *args: str, timeout: float = 300, drill: str | None = None) -> Said:
        ordered = ["env", f"{DRILL}={drill}"] if drill else []
        return self._said([*ordered, "salt-run", "--out=json", *args], timeout)

    def salt(self, target: str, *args: str, timeout: float = 120) -> Said:
        return self._said(["salt", "--out=json", "--static", target, *args], timeout)

    def _said(self, argv: list[str], timeout: float) -> Said:
        done = self[minions.MASTER].run(argv, check=False, timeout=timeout)
        try:
            data = json.loads(done.stdout)
        except ValueError:
            data = None
        return Said(done.returncode, done.stdout, done.stderr, data)

    # -- looking at it from outside ---------------------------------------------------------------

    def sql(self, host: str, statement: str) -> list[dict[str, Any]]:
        return database.query(self[host], self.secrets["admin"], statement)

    def partition(self, a: str, b: str) -> None:
        """Cut two hosts, or two places (`old`, `new`, `edge`), until `heal`."""
        self.network.partition(a, b, ADDRESSES)

    def heal(self, a: str, b: str) -> None:
        self.network.heal(a, b, ADDRESSES)

    def beside(self, host: str, argv: Iterable[str], **popen: Any) -> subprocess.Popen[bytes]:
        """Start a process of this machine (its files, its clock) in a host's network."""
        return exec_in(self[host].netns, argv, **popen)
