"""
Reach the new side as people will, past the CDN, to see what testers would see; and compare it with the old one.

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

        salt-run salt.cmd migrate_site.hosts
    """
    return _call("site.hosts", pillar)


def check(pillar: dict[str, Any] | None = None) -> dict[str, Any]:
    """
    Ask for every vhost through those lines, with the right Host header and TLS server name.

    pillar
        As of :py:func:`hosts`.

    Returns ``vhosts``, each with ``service``, ``host``, ``address``, ``url``, ``status``, ``redirects``, ``bounces``
    (a redirect would lead a tester to production) and ``problem``; and ``failed``, how many have one.
    The return code is 1 where any has; ``salt-run salt.cmd`` makes 0 of it, so look at ``failed``.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_site.check --out=json
    """
    checked = _call("site.check", pillar)
    __context__["retcode"] = 1 if checked["failed"] else 0
    return checked


def compare(pillar: dict[str, Any] | None = None) -> dict[str, Any]:
    """
    Compare old and new, page by page: each is asked for on the old side, there again, and on the new one.

    What differs beyond old and old again is told: status, redirects, headers, cookies, certificates, bodies; a redirect
    that would lead a tester to production; an edit that is not refused; a notice that does not show. The old side is
    only read. A record of it is kept in ``migrate:state_dir``: sign-offs are bound to it.

    pillar
        The pillar, or the value of its key ``migrate``, whole. This minion's own pillar where it is left out.

    Returns ``urls`` (how many were asked for), ``differences`` (each with ``way``, ``url``, ``what``, ``old`` and
    ``new``), ``remarks``, ``latency`` (medians in milliseconds, old and new), ``certificate_days`` and ``hash``.
    The return code is 1 where anything differs; ``salt-run salt.cmd`` makes 0 of it, and ``salt-run migrate.compare``
    does not.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_site.compare --out=json
    """
    seen = _call("compare", pillar)
    __context__["retcode"] = 1 if seen["differences"] else 0
    return seen


def _call(command: str, pillar: dict[str, Any] | None) -> Any:
    return bridge.call(
        command, {}, opts=__opts__, pillar=bridge.given(pillar) or __pillar__, functions=__salt__
    )
