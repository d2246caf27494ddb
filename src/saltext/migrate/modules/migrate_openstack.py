"""
Look at the clouds of the migration, from the Salt master's pillar. Nothing here changes anything.

Works where the pillar key ``migrate`` is: on the master, by ``salt-run salt.cmd``.
"""

from __future__ import annotations

import typing
from typing import Any

from saltext.migrate import bridge

if typing.TYPE_CHECKING:
    __context__: dict[str, Any]
    __opts__: dict[str, Any]
    __pillar__: dict[str, Any]
    __salt__: dict[str, Any]

__virtualname__ = "migrate_openstack"


def __virtual__() -> str:
    return __virtualname__


def check() -> dict[str, Any]:
    """
    Gather everything that stands between the pillar and a new cloud with its servers.

    Login, catalogue, quotas, images, flavors, networks, addresses, security groups, keys. Where the pillar has only
    ``migrate:clouds``, access alone is looked at. Returns ``findings`` (each with ``topic``, ``subject``, ``found``,
    ``mend`` and ``blocking``), ``refused``, and ``looked_at`` (``access`` or ``everything``). The exit code is 1 where
    any finding blocks.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_openstack.check
    """
    found: dict[str, Any] = _call("cloud.check")
    __context__["retcode"] = 1 if found["refused"] else 0
    return found


def flavors() -> dict[str, Any]:
    """
    Show, for each server, the best three flavors and why the others are not taken.

    Returns, by node, ``best`` (each with ``flavor``, ``distance``, ``why``, ``short``), ``near_misses`` and ``pinned``.
    Raises an error where an image is not there.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_openstack.flavors
    """
    return _call("cloud.flavors")


def inventory(grains: bool = True) -> dict[str, Any]:
    """
    Show what the old side consists of, by its API, its minions and the pillar, and propose it as pillar.

    grains
        Whether the minions are asked.

    Returns ``nodes``, ``disagreements`` (sentences), ``left`` (nodes that stay), ``problems`` (who did not answer) and
    ``pillar`` (what to put into the pillar key ``migrate``).

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_openstack.inventory
        salt-run salt.cmd migrate_openstack.inventory grains=False
    """
    return _call("cloud.inventory", grains=bool(grains))


def _call(command: str, **arguments: Any) -> Any:
    return bridge.call(command, arguments, opts=__opts__, pillar=__pillar__, functions=__salt__)
