"""Owns one control plane: its folder, its processes, its life and its end."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.cloud import configuration, software
from tests.lab.cloud.account import Account, Refused, request
from tests.lab.cloud.configuration import DATABASES, PASSWORD, PORTS, REGION, Place
from tests.lab.mariadb import MariaDB

ADDRESS = "127.0.0.41"
# Kept between runs: what is slow is making the tables, not starting the services.
SNAPSHOT = software.REPOSITORY / "target" / "lab" / "cloud"
SERVICES = ("keystone", "placement", "glance", "neutron", "cinder", "nova")
PROJECTS = ("old", "new")


class PlaneFailed(Exception):
    """A service did not come up."""


class Plane:
    """Keystone, Glance, Placement, Nova, Neutron and Cinder on one loopback address."""

    def __init__(self, home: Path, address: str = ADDRESS, metadata: bool = False) -> None:
        """Takes a folder of its own; `metadata` starts Nova's metadata service as well."""
        base, self._claim = _claim(address)
        self.place = Place(home, address, base)
        self._services = [*SERVICES, *(["metadata"] if metadata else [])]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._database = MariaDB(
            "cloud",
            address,
            self.place.database,
            home / "database",
            server_id=41,
            options={
                "skip_log_bin": "1",
                "log_slave_updates": "OFF",
                "sync_binlog": "0",
                "innodb_flush_log_at_trx_commit": "0",
                "innodb_doublewrite": "0",
                "innodb_buffer_pool_size": "96M",
                "character_set_server": "utf8mb3",
                "max_connections": "500",
            },
        )

    def __enter__(self) -> Plane:
        try:
            software.install()
            if not kept():
                self._build()
            self._restore()
            self._start()
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

    def close(self) -> None:
        """Ends every process by its own pid; nothing in the folder is worth a clean shutdown."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(10)
        self._processes.clear()
        self._database.kill()
        self._claim.close()

    @property
    def keystone(self) -> str:
        """The address at which everything begins."""
        return self.place.url("keystone")

    def account(self, user: str, project: str | None = None) -> Account:
        """Logs in as `admin`, `old` or `new`."""
        return Account(self.keystone, user, project or user)

    def pids(self) -> dict[str, int]:
        """The processes of the plane, by service."""
        return {name: process.pid for name, process in self._processes.items()}

    @contextlib.contextmanager
    def second_keystone(self, certificate: Path, key: Path) -> Iterator[str]:
        """A second door to Keystone, by TLS."""
        self._launch("keystone-tls", tls=(str(certificate), str(key)))
        try:
            yield self.place.url("keystone-tls").replace("http://", "https://")
        finally:
            process = self._processes.pop("keystone-tls")
            process.kill()
            process.wait(10)

    # -- the doors ----------------------------------------------------------------------------

    def fault(self, service: str, *faults: dict[str, Any]) -> None:
        """Orders faults at the door of a service; none takes them away."""
        request("PUT", f"{self.place.url(service)}/_door/faults", list(faults))

    @contextlib.contextmanager
    def no_server_goes(self) -> Iterator[None]:
        """Servers that are deleted meanwhile stay on their way out."""
        with self.place.deletions.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def told(self, server: dict[str, Any], what: str) -> bytes:
        """What Nova's metadata service tells a guest of itself, asked as Neutron's proxy asks it for a guest."""
        ident, project = server["id"], server["tenant_id"]
        signed = hmac.new(PASSWORD.encode(), ident.encode(), hashlib.sha256).hexdigest()
        address = next(iter(server["addresses"].values()))[0]["addr"]
        asked = urllib.request.Request(
            f"{self.place.url('metadata')}/openstack/latest/{what}",
            headers={
                "X-Forwarded-For": address,
                "X-Instance-ID": ident,
                "X-Instance-ID-Signature": signed,
                "X-Tenant-ID": project,
            },
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return bytes(answer.read())

    def requests(self, service: str) -> list[dict[str, Any]]:
        """What came to a service's door since the last `forget`."""
        return list(request("GET", f"{self.place.url(service)}/_door/requests")[0])

    def forget(self) -> None:
        """Takes every fault and every remembered request away."""
        for service in SERVICES:
            request("DELETE", f"{self.place.url(service)}/_door")

    def writes(self) -> list[str]:
        """Every request but logins that is no reading, as `METHOD service path`."""
        return [
            f"{entry['method']} {service} {entry['path']}"
            for service in ("glance", "nova", "neutron", "cinder")
            for entry in self.requests(service)
            if entry["method"] not in ("GET", "HEAD")
        ]

    def last_words(self, lines: int = 25) -> str:
        """The ends of the logs of what is not well."""
        return "\n".join(
            f"--- {path.stem}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
            for path in sorted((self.place.home / "state" / "log").glob("*.log"))
        )

    # -- inside -------------------------------------------------------------------------------

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(software.ENVIRONMENT / "bin" / command[0]), *command[1:]],
            env=configuration.environment(self.place),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _build(self) -> None:
        """Makes the tables and the first accounts, and keeps them as the snapshot."""
        SNAPSHOT.parent.mkdir(parents=True, exist_ok=True)
        with (SNAPSHOT.parent / "cloud.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if kept():
                return
            shutil.rmtree(self.place.home, ignore_errors=True)
            configuration.write(self.place)
            self._database.create()
            self._database.start()
            self._database.run(
                "".join(f"CREATE DATABASE {name};" for name in DATABASES)
                + f"CREATE USER lab@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL PRIVILEGES ON *.* TO lab@'%'"
            )
            self._tables()
            self._launch("keystone")
            self._accounts()
            self.close_services()
            self._database.stop(60)
            shutil.rmtree(SNAPSHOT, ignore_errors=True)
            shutil.copytree(self.place.home, SNAPSHOT, ignore=_sockets)
            found = {"address": self.place.address, "base": self.place.base, "of": _made_of()}
            (SNAPSHOT / "place.json").write_text(json.dumps(found))

    def close_services(self) -> None:
        """Ends the services, and leaves the database."""
        for process in self._processes.values():
            process.kill()
            process.wait(10)
        self._processes.clear()

    def _tables(self) -> None:
        etc = self.place.home / "etc"
        nova = ("nova-manage", "--config-file", str(etc / "nova/nova.conf"))
        keystone = ("keystone-manage", "--config-file", str(etc / "keystone/keystone.conf"))
        user = ("--keystone-user", "root", "--keystone-group", "root") if os.getuid() == 0 else ()
        chains = [
            [
                (*keystone, "db_sync"),
                (*keystone, "fernet_setup", *user),
                (*keystone, "credential_setup", *user),
                (*keystone, "bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", REGION,
                 "--bootstrap-public-url", f"{self.keystone}/v3",
                 "--bootstrap-internal-url", f"{self.keystone}/v3"),
            ],
            [
                (*nova, "api_db", "sync"),
                (*nova, "cell_v2", "map_cell0", "--database_connection", self.place.dsn("nova_cell0")),
                (*nova, "db", "sync"),
                (*nova, "cell_v2", "create_cell", "--name", "cell1"),
            ],
            [
                ("placement-manage", "--config-dir", str(etc / "placement"), "db", "sync"),
                ("glance-manage", "--config-file", str(etc / "glance/glance-api.conf"), "db_sync"),
                ("neutron-db-manage", "--config-file", str(etc / "neutron/neutron.conf"), "upgrade", "head"),
            ],
            [("cinder-manage", "--config-file", str(etc / "cinder/cinder.conf"), "db", "sync")],
        ]  # fmt: skip
        running: list[tuple[list[tuple[str, ...]], subprocess.Popen[bytes]]] = []
        for chain in chains:
            running.append((chain, self._run(*chain.pop(0))))
        while running:
            chain, process = running.pop(0)
            said, _ = process.communicate()
            if process.returncode:
                raise PlaneFailed(f"{process.args}\n{said.decode(errors='replace')[-3000:]}")
            if chain:
                running.append((chain, self._run(*chain.pop(0))))

    def _accounts(self) -> None:
        admin = self.account("admin")
        roles = {role["name"]: role["id"] for role in admin.get("identity", "/roles")["roles"]}
        for role in ("service", "member"):
            if role not in roles:
                made = admin.post("identity", "/roles", {"role": {"name": role}})
                roles[role] = made["role"]["id"]
        for project, user, granted in (
            ("service", "svc", ("admin", "service")),
            *((name, name, ("member",)) for name in PROJECTS),
        ):
            ident = admin.post("identity", "/projects", {"project": {"name": project}})["project"][
                "id"
            ]
            body = {"user": {"name": user, "password": PASSWORD}}
            who = admin.post("identity", "/users", body)["user"]["id"]
            for role in granted:
                admin.call("PUT", "identity", f"/projects/{ident}/users/{who}/roles/{roles[role]}")
        for kind, service, path in (
            ("image", "glance", ""),
            ("placement", "placement", ""),
            ("compute", "nova", "/v2.1"),
            ("network", "neutron", ""),
            # As most clouds list it, and the project's id in its path.
            ("volumev3", "cinder", "/v3/%(project_id)s"),
        ):
            made = admin.post("identity", "/services", {"service": {"type": kind, "name": service}})
            for interface in ("public", "internal"):
                endpoint = {"service_id": made["service"]["id"], "interface": interface,
                            "region_id": REGION, "url": self.place.url(service) + path}  # fmt: skip
                admin.post("identity", "/endpoints", {"endpoint": endpoint})

    def _restore(self) -> None:
        """Brings the snapshot to this plane's place."""
        self._database.kill()
        shutil.rmtree(self.place.home, ignore_errors=True)
        shutil.copytree(SNAPSHOT, self.place.home)
        shutil.rmtree(self._database.conf_d, ignore_errors=True)
        kept = self._database.datadir.rename(self.place.home / "datadir")
        shutil.rmtree(self._database.home)
        self._database.create()
        shutil.rmtree(self._database.datadir)
        kept.rename(self._database.datadir)
        configuration.write(self.place)
        was = json.loads((self.place.home / "place.json").read_text())
        was_place = Place(self.place.home, was["address"], was["base"])
        self._database.start(timeout=60)
        moved = [
            ("keystone.endpoint", "url", was_place.url(service), self.place.url(service))
            for service in PORTS
        ]
        moved.append(
            (
                "nova_api.cell_mappings",
                "database_connection",
                f"@{was_place.address}:{was_place.database}/",
                f"@{self.place.address}:{self.place.database}/",
            )
        )
        # The new place's ports may be the old one's of another service: so by way of a mark.
        for table, column, old, _ in moved:
            self._database.run(f"UPDATE {table} SET {column}=REPLACE({column}, '{old}', '#{old}#')")
        for table, column, old, new in moved:
            self._database.run(f"UPDATE {table} SET {column}=REPLACE({column}, '#{old}#', '{new}')")

    def _start(self) -> None:
        # Nova asks Keystone and Placement once as it starts, and then not for a minute.
        first = ("keystone", "placement")
        rest = [name for name in self._services if name not in first]
        for group in ((*first, "glance", "neutron"), first, rest):
            for name in group:
                if name not in self._processes:
                    self._launch(name, wait=False)
                elif group is not rest:
                    self._wait(name)
        for name in rest:
            self._wait(name)

    def _launch(self, name: str, wait: bool = True, tls: tuple[str, ...] = ()) -> None:
        port = self.place.base + PORTS[name]
        log = self.place.home / "state" / "log" / f"{name}.log"
        with log.open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *(str(software.PYTHON), "-m", "tests.lab.cloud.serving"),
                    *(name.removesuffix("-tls"), self.place.address, str(port), *tls),
                ],
                env=configuration.environment(self.place),
                cwd=self.place.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        if wait:
            self._wait(name)

    def _wait(self, name: str, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        where = (self.place.address, self.place.base + PORTS[name])
        while True:
            with contextlib.suppress(OSError), socket.create_connection(where, 1):
                break
            if self._processes[name].poll() is not None or time.monotonic() > deadline:
                raise PlaneFailed(f"{name} did not come up\n{self.last_words()}")
            time.sleep(0.05)


def _made_of() -> str:
    """What the tables come from: other services, or another release of one, have others."""
    return hashlib.sha256(software.LOCK.read_bytes() + " ".join(DATABASES).encode()).hexdigest()


def kept() -> bool:
    """Whether the snapshot is there, and of these services."""
    place = SNAPSHOT / "place.json"
    return place.exists() and json.loads(place.read_text()).get("of") == _made_of()


def _sockets(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied."""
    return [name for name in names if Path(folder, name).is_socket()]


def _claim(address: str, first: int = 15000) -> tuple[int, socket.socket]:
    """Finds nine free ports in a row, and keeps other planes from finding them as well."""
    for base in range(first, first + 1000, 10):
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind((address, base))
            for port in range(base, base + 9):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
            return base, claim
        except OSError:
            claim.close()
    raise PlaneFailed(f"no free ports from {first} on")


@contextlib.contextmanager
def running(home: Path) -> Iterator[Plane]:
    """A plane for the length of a block."""
    with Plane(home) as plane:
        yield plane


__all__ = ["Plane", "PlaneFailed", "Refused", "kept", "running"]
