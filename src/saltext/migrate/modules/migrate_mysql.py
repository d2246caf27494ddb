"""
Ask the database servers of the migration, from the Salt master's pillar.

Works where the pillar key ``migrate`` is: on the master (``salt-call --local`` with the pillar given, or the runner).
"""

from __future__ import annotations

import typing
from typing import Any

from saltext.migrate import bridge

if typing.TYPE_CHECKING:
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

        salt-call migrate_mysql.status old-db1
    """
    return _call("database.status", server=server)


def position(server: str) -> str:
    """
    Return a database server's GTID position.

    server
        Side and node, as ``old-db1``.

    CLI Example:

    .. code-block:: bash

        salt-call migrate_mysql.position new-db1
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

        salt-call migrate_mysql.wait new-db1 0-1-4711 milliseconds=2000
    """
    return _call(
        "database.wait", server=server, position=str(position), milliseconds=int(milliseconds)
    )


def _call(command: str, **arguments: Any) -> Any:
    return bridge.call(command, arguments, opts=__opts__, pillar=__pillar__, functions=__salt__)
