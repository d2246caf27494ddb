"""
Reach the new side as people will, past the CDN: for testers, and to see what they would see.

It needs no master: give the pillar.
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

__virtualname__ = "migrate_site"


def __virtual__() -> str:
    return __virtualname__


def hosts(pillar: dict[str, Any] | None = None) -> dict[str, str]:
    """
    Return the lines that testers put into their hosts file, by service.

    pillar
        The pillar, or the value of its key ``migrate``; of that ``nodes`` and ``vhosts`` are enough.
        This minion's own pillar where it is left out.

    CLI Example:

    .. code-block:: bash

        salt-call --local migrate_site.hosts
    """
    return _call("site.hosts", pillar)


def check(pillar: dict[str, Any] | None = None) -> dict[str, Any]:
    """
    Ask for every vhost through those lines, with the right Host header and TLS server name.

    pillar
        As of :py:func:`hosts`.

    Returns ``vhosts``, each with ``service``, ``host``, ``address``, ``url``, ``status``, ``redirects``, ``bounces``
    (a redirect would lead a tester to production) and ``problem``; and ``failed``, how many have one.
    The exit code is 1 where any has.

    CLI Example:

    .. code-block:: bash

        salt-call --local migrate_site.check --out=json
    """
    checked = _call("site.check", pillar)
    __context__["retcode"] = 1 if checked["failed"] else 0
    return checked


def _call(command: str, pillar: dict[str, Any] | None) -> Any:
    return bridge.call(
        command, {}, opts=__opts__, pillar=bridge.given(pillar) or __pillar__, functions=__salt__
    )
