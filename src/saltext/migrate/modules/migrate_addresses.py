"""
Find old addresses and names in configuration, replace what may be replaced, and take it back.

It needs no master: give the pillar. ``docs/addresses.md`` says what each verdict means.
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

__virtualname__ = "migrate_addresses"


def __virtual__() -> str:
    return __virtualname__


def scan(
    roots: list[str] | str | None = None,
    pillar: dict[str, Any] | None = None,
    scope: str | None = None,
) -> dict[str, Any]:
    """
    Find every old address and name in trees of files of this host. Nothing is written.

    roots
        Directories or files; ``migrate:addresses:roots`` (``/srv``) where none are given.
    pillar
        The pillar, or the value of its key ``migrate``; of that ``nodes`` and ``addresses`` are enough.
        This minion's own pillar where it is left out.
    scope
        Only the files of a level or environment, a name of ``migrate:addresses:scopes``.

    Returns ``hits`` (each with ``path``, ``line``, ``column``, ``token``, ``form``, ``node``, ``verdict``), ``counts``,
    ``table`` (a line for each file), ``remaining``, ``files``, ``bytes`` and ``skipped``. The exit code is 1 while
    ``stale`` or ``unknown`` hits remain. Raises an error where a root is not there or the pillar does not fit.

    CLI Example:

    .. code-block:: bash

        salt-call --local migrate_addresses.scan roots='["/srv"]' pillar='{"nodes": {"old": {}, "new": {}}}' --out=json
    """
    found = _call("addresses.scan", pillar, roots=_list(roots), scope=scope)
    __context__["retcode"] = 1 if found["remaining"] else 0
    return found


def remap(
    roots: list[str] | str | None = None,
    pillar: dict[str, Any] | None = None,
    scope: str | None = None,
    test: bool = True,
    proposal: bool = False,
) -> dict[str, Any]:
    """
    Replace every ``stale`` address and name whose successor is known, all at once.

    roots, pillar, scope
        As of :py:func:`scan`.
    test
        Only show the diff. **It is the default**: say ``test=False`` to write.
    proposal
        Write nothing, and return a pillar of the nodes' addresses with the expressions that ask for them.

    Returns ``diff`` (what looks like a password is masked), ``files``, ``replacements``, ``undecided`` (hits that a
    person must change), ``left`` (files that are not touched, and why), ``manifest`` (by which :py:func:`restore` takes
    it back) and ``verdict``. The exit code is 1 while anything is left. Raises an error where a file could not be
    replaced; then all are as they were.

    CLI Example:

    .. code-block:: bash

        salt-call --local migrate_addresses.remap roots='["/srv/salt"]' scope=production
        salt-call --local migrate_addresses.remap roots='["/srv/salt"]' scope=production test=False
    """
    arguments = {"roots": _list(roots), "scope": scope, "test": bool(test)}
    done = _call("addresses.remap", pillar, proposal=bool(proposal), **arguments)
    __context__["retcode"] = 1 if done["left"] or done.get("undecided") else 0
    return done


def restore(
    manifest: str | None = None,
    pillar: dict[str, Any] | None = None,
    test: bool = True,
) -> dict[str, Any]:
    """
    Bring back what a remap replaced, in the files that are still as it wrote them.

    manifest
        The name that :py:func:`remap` returned; the latest where it is left out.
    pillar
        As of :py:func:`scan`.
    test
        Only show which files. **It is the default**: say ``test=False`` to write.

    Returns ``files``, ``changed_since`` (files that somebody changed after the remap; they are left alone) and
    ``verdict``. The exit code is 1 where there are such files. Raises an error where nothing was ever remapped.

    CLI Example:

    .. code-block:: bash

        salt-call --local migrate_addresses.restore
        salt-call --local migrate_addresses.restore test=False
    """
    done = _call("addresses.restore", pillar, manifest=manifest, test=bool(test))
    __context__["retcode"] = 1 if done["changed_since"] else 0
    return done


def _list(roots: list[str] | str | None) -> list[str] | None:
    return [roots] if isinstance(roots, str) else roots


def _call(command: str, pillar: dict[str, Any] | None, **arguments: Any) -> Any:
    return bridge.call(
        command,
        {**arguments, "commands": bridge.TARGETING},
        opts=__opts__,
        pillar=bridge.given(pillar) or __pillar__,
        functions=__salt__,
    )
