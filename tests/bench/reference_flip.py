"""The fixed reference: the fastest flip a good plain script does, with no checks and no way back.

Open connections, one packet per act, a wait in the server, everything else outside the window.
It is reviewed, and it does not change to please a comparison.

    python -m tests.bench.reference_flip PILLAR.json          # old -> new
    python -m tests.bench.reference_flip PILLAR.json --back   # new -> old: the declared chain again
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT


@dataclass(frozen=True)
class Words:
    """What a family of servers says in its own words."""

    position: str
    fence: str
    open: str
    wait: str
    forget: str
    stop: str
    start: str
    follow: str
    demote: str


MARIADB = Words(
    position="SELECT @@gtid_binlog_pos",
    fence="SET GLOBAL read_only=1",
    open="SET GLOBAL read_only=0",
    wait="SELECT MASTER_GTID_WAIT('{}', 5)",
    forget="STOP SLAVE; RESET SLAVE ALL",
    stop="STOP SLAVE",
    start="START SLAVE",
    follow="CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='{user}',"
    " MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
    demote=", MASTER_DEMOTE_TO_SLAVE=1",
)
MYSQL = Words(
    position="SELECT @@global.gtid_executed",
    fence="SET GLOBAL super_read_only=1",
    open="SET GLOBAL read_only=0",
    wait="SELECT WAIT_FOR_EXECUTED_GTID_SET('{}', 5)",
    forget="STOP REPLICA; RESET REPLICA ALL",
    stop="STOP REPLICA",
    start="START REPLICA",
    follow="CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, SOURCE_USER='{user}',"
    " SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1,"
    " GET_SOURCE_PUBLIC_KEY=1",
    demote="",
)


class Server:
    """One server and the connection that stays open to it."""

    def __init__(self, address: str, databases: Mapping[str, Any]) -> None:
        admin = databases["accounts"]["admin"]
        self.address = address
        self._connection = pymysql.connect(
            host=address,
            port=databases["port"],
            user=admin["user"],
            password=admin["password"],
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
        )

    def act(self, sql: str) -> Any:
        """Sends one packet; returns the first column of the last result set."""
        found = None
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            while True:
                if cursor.description:
                    found = cursor.fetchone()[0]
                if not cursor.nextset():
                    return found


class Script:
    """Both directions over the connections of one run."""

    def __init__(self, pillar: Mapping[str, Any]) -> None:
        self._databases = pillar["databases"]
        old, new = pillar["nodes"]["old"], pillar["nodes"]["new"]
        self._old = Server(old["db1"]["private"], self._databases)
        self._relay = Server(new["relay"]["private"], self._databases)
        self._new = Server(new["db1"]["private"], self._databases)
        self._new_replica = Server(new["db2"]["private"], self._databases)
        self._words = MARIADB if "MariaDB" in self._old.act("SELECT VERSION()") else MYSQL

    def flip(self) -> None:
        """Old to new."""
        self._transfer(self._old, self._new)
        self._point(self._new_replica, self._new)
        self._point(self._old, self._new, demote=True)

    def back(self) -> None:
        """New to old, and the declared chain again."""
        position = self._transfer(self._new, self._old)
        # The relay hears of the last writes through old db1; those below it must not be ahead.
        self._wait(self._relay, position)
        self._wait(self._new_replica, position)
        self._point(self._new, self._relay, demote=True)
        self._point(self._new_replica, self._relay)

    def _transfer(self, source: Server, target: Server) -> str:
        # Warm: every statement of the window once, and never a fence in the middle of a backlog.
        for _ in range(20):
            self._wait(target, source.act(self._words.position))
        position = source.act(f"{self._words.fence}; {self._words.position}")
        self._wait(target, position)
        target.act(self._words.open)
        # The window is over.
        target.act(self._words.forget)
        return str(position)

    def _wait(self, server: Server, position: str) -> None:
        if server.act(self._words.wait.format(position)) != 0:
            raise SystemExit(f"{server.address} did not reach {position}")

    def _point(self, replica: Server, source: Server, demote: bool = False) -> None:
        account = self._databases["accounts"]["replication"]
        words = self._words
        follow = words.follow.format(
            host=source.address,
            port=self._databases["port"],
            user=account["user"],
            password=account["password"],
        )
        replica.act(f"{words.stop}; {follow}{words.demote if demote else ''}; {words.start}")


def main() -> None:
    """Runs one direction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pillar", type=Path, help="the value of the pillar key, as JSON")
    parser.add_argument("--back", action="store_true")
    arguments = parser.parse_args()
    script = Script(json.loads(arguments.pillar.read_text()))
    (script.back if arguments.back else script.flip)()


if __name__ == "__main__":
    main()
