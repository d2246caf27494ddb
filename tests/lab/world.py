"""Owns the comparison of two moments of a chain: everything that an abort must bring back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.lab.loopback import SOURCES, Chain
from tests.lab.mariadb import MariaDB

World = dict[str, Any]


def look(chain: Chain) -> World:
    """Returns the roles, sources, domains and schedulers of all servers, and the files of hosts."""
    world: World = {}
    for name, server in chain.servers.items():
        world[name] = _settings(server) | {
            "channels": _channels(server),
            "role at boot": server.role_at_boot(),
        }
    world["break-glass page"] = _text(Path(chain.pillar()["databases"]["break_glass_file"]))
    for side in ("old", "new"):
        world[f"notice {side}"] = _text(chain.notice_path(side))
    return world


def rows(chain: Chain) -> set[int]:
    """Returns the number of rows on each server, as a set: of one element where all agree."""
    return {server.value("SELECT COUNT(*) FROM site.writes") for server in chain.servers.values()}


def declared(chain: Chain) -> dict[str, str]:
    """Returns the source of each server as the pillar declares it."""
    return {name: f"{chain[source].address}:{chain.port}" for name, source in SOURCES.items()}


def sources(chain: Chain) -> dict[str, str]:
    """Returns the source of each server that has one; both threads must run."""
    found: dict[str, str] = {}
    for name, server in chain.servers.items():
        for _, source, running in _channels(server):
            assert running, f"{name} does not replicate from {source}"
            found[name] = source
    return found


def writable(chain: Chain) -> list[str]:
    """Returns the servers that accept writes now."""
    found = [
        name
        for name, server in chain.servers.items()
        if server.running and not server.value("SELECT @@global.read_only")
    ]
    return sorted(found)


def _settings(server: MariaDB) -> World:
    return server.run(server.SETTINGS)[0]


def _channels(server: MariaDB) -> list[tuple[str, str, bool]]:
    # A replica whose source just restarted connects again within its one second.
    deadline = time.monotonic() + 60
    while True:
        rows = server.channels()
        found = [
            (
                row["Connection_name"],
                f"{row['Master_Host']}:{row['Master_Port']}",
                row["Slave_IO_Running"] == row["Slave_SQL_Running"] == "Yes",
            )
            for row in rows
        ]
        connecting = any(row["Slave_IO_Running"] in ("Connecting", "Preparing") for row in rows)
        if not connecting or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
