"""
Ask the database servers of the migration, from the Salt master's pillar.

Works where the pillar key ``migrate`` is: on the master, by ``salt-run salt.cmd``.
"""

from __future__ import annotations

import typing
from typing import Any

from salt.exceptions import CommandExecutionError

from saltext.migrate import bridge

if typing.TYPE_CHECKING:
    __context__: dict[str, Any]
    __opts__: dict[str, Any]
    __pillar__: dict[str, Any]
    __salt__: dict[str, Any]

__virtualname__ = "migrate_mysql"


def __virtual__() -> str:
    return __virtualname__


def status(server: str) -> dict[str, Any]:
    """
    Show how a database server stands: role, positions, settings that matter, its replication channel.

    server
        Side and node, as ``old-db1``.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_mysql.status old-db1
    """
    return _call("database.status", server=server)


def position(server: str) -> str:
    """
    Return a database server's GTID position.

    server
        Side and node, as ``old-db1``.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_mysql.position new-db1
    """
    return _call("database.position", server=server)


def wait(server: str, position: str, milliseconds: int = 10000) -> bool:
    """
    Wait until a database server has everything up to a position; false where the limit came first.

    server
        Side and node, as ``new-db1``.
    position
        A GTID position, as :py:func:`position` returns it.
    milliseconds
        The limit.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_mysql.wait new-db1 0-1-4711 milliseconds=2000
    """
    try:
        limit = int(milliseconds)
    except (TypeError, ValueError):
        raise CommandExecutionError(
            f"milliseconds: found {milliseconds!r}, expected a number\nhint: milliseconds=2000"
        ) from None
    return _call("database.wait", server=server, position=str(position), milliseconds=limit)


def checksum(source: str, replica: str, tables: list[str] | None = None) -> dict[str, Any]:
    """
    Compare the data of a server with that of one of its replicas, direct or not, row by row.

    Both are seen at one GTID position. A replica of MariaDB is stopped for the moment it takes to get there, and goes
    on; of MySQL nothing is stopped: snapshots are taken until both stood between the same two commits. Then
    ranges of primary keys are summed up (CRC32) in snapshots of both, and what differs is named row by row. After a
    minute a new position is taken. Works where replication is ROW, slows down where the replica falls behind, and
    goes on where it was when the same is asked again within a day. A look at every table leaves a record that the flip
    can demand (``migrate:databases:checksum_hours``).

    source, replica
        Side and node, as ``old-db1`` and ``new-db1``.
    tables
        Only these, as ``database.table``.

    Returns ``tables`` (rows and ranges of each), ``positions``, ``left_out``, ``seconds``, and ``differences``: table,
    ``what`` (``changed``, ``missing`` or ``extra`` at the replica), the range of keys, the key. The return code is 1
    where anything differs; ``salt-run salt.cmd`` makes 0 of it, and ``salt-run migrate.checksum`` does not.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_mysql.checksum old-db1 new-db1
    """
    chosen = [tables] if isinstance(tables, str) else tables
    done = _call("database.checksum", source=source, replica=replica, tables=chosen)
    if done["error"]:
        error = done["error"]
        raise CommandExecutionError(f"{error['message']}\nhint: {error['hint']}")
    seen: dict[str, Any] = done["seen"]["compared"]
    if seen["differences"]:
        __context__["retcode"] = 1
    return seen


def _call(command: str, **arguments: Any) -> Any:
    return bridge.call(command, arguments, opts=__opts__, pillar=__pillar__, functions=__salt__)
