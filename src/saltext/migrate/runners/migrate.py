"""
Look at the migration, and carry it out, from the Salt master.

The settings are the pillar key ``migrate`` of ``<master id>_master``; ``pillar-example/migrate.sls`` shows it whole.
An orchestration (``salt-run state.orchestrate migrate.flip``) calls the same functions.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from salt.exceptions import CommandExecutionError

from saltext.migrate import bridge

if typing.TYPE_CHECKING:
    __context__: dict[str, Any]
    __opts__: dict[str, Any]
    __pillar__: dict[str, Any]
    __salt__: dict[str, Any]

__virtualname__ = "migrate"


def _clean(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Show an expected failure as its words and a non-zero code: Salt would print a traceback.

    Arguments that the function has not are refused here as well: of those Salt makes a success.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in kwargs.items() if not name.startswith("__")}
        try:
            signature.bind(*args, **given)
        except TypeError as error:
            called = f"migrate.{function.__name__}"
            return _with_code(f"{called}: {error}\nhint: salt-run -d {called}", 1)
        try:
            return function(*args, **given)
        except CommandExecutionError as error:
            return _with_code(str(error), 1)

    # Salt looks through it, and would judge the arguments itself.
    del wrapper.__wrapped__
    return wrapper


def __virtual__() -> str:
    return __virtualname__


@_clean
def plan(phase: str = "flip") -> Any:
    """
    Look at the world and show what a phase would change in it. Nothing is written.

    phase
        ``prepare``, ``flip`` (default) or ``revert``.

    Returns ``changes`` (each with ``step``, ``old``, ``new``, ``after``), ``findings``, ``unchanged`` and ``refused``.
    Raises an error where a server cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.plan
        salt-run migrate.plan revert
    """
    return _with_code(_call("plan", phase=phase), 0)


@_clean
def preflight(phase: str = "flip") -> Any:
    """
    Gather everything that stands against a phase, all at once. Nothing is written.

    phase
        ``prepare``, ``flip`` (default) or ``revert``.

    Returns the findings, each with ``id``, ``topic``, ``subject``, ``found``, ``mend``, ``blocking`` and ``forceable``;
    the exit code is 1 where any blocks.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.preflight
    """
    planned = _call("plan", phase=phase)
    return _with_code(planned["findings"], 1 if planned["refused"] else 0)


@_clean
def prepare() -> Any:
    """
    Build what the new cloud is to have: security groups, key pairs, ports, servers.

    What is there already, from a run that died or stopped, is taken over. Returns what was done, by step; the exit code
    is 0 only where every server is up in the end.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.prepare
    """
    return _carried(_call("apply", phase="prepare"))


@_clean
def flip(force: str | list[str] | None = None, reason: str = "") -> Any:
    """
    Cut the site over to the new side. A flip that died is finished, or taken back, first.

    force
        The id of a finding that would refuse it (``migrate.preflight`` shows it), or a list of such ids.
    reason
        Why; it stands in the journal and in the report.

    Returns what was done, by step; the exit code is 0 only where the site is on the new side in the end.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.flip
        salt-run migrate.flip force=privileges/old-db1/3f2a reason='the account only reads'
    """
    return _carried(_call("apply", phase="flip", force=force, reason=reason))


@_clean
def revert(force: str | list[str] | None = None, reason: str = "") -> Any:
    """
    Bring the site back to the old side, with everything that was written since.

    force
        The id of a finding that would refuse it (``migrate.preflight`` shows it), or a list of such ids.
    reason
        Why; it stands in the journal and in the report.

    Returns what was done, by step; the exit code is 0 only where the site is on the old side in the end.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.revert
        salt-run migrate.revert force=privileges/old-db1/3f2a reason='the account only reads'
    """
    return _carried(_call("apply", phase="revert", force=force, reason=reason))


@_clean
def abort() -> Any:
    """
    Take a run back that died before its commit point; one that turns out to be committed is finished instead.

    Returns what was taken back; nothing is done where no run is unfinished.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.abort
    """
    done = _call("abort")
    return _with_code(done, 1 if done["verdict"] == "stopped" else 0)


@_clean
def status() -> Any:
    """
    Show who runs, how the last run ended, how every server stands, what a revert would cost now, and every alarm.

    The exit code is 1 where there is an alarm.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.status
    """
    shown = _call("status")
    return _with_code(shown, 1 if shown["alarms"] else 0)


@_clean
def report() -> Any:
    """
    Show the report of the last run.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.report
    """
    return _with_code(_call("report"), 0)


@_clean
def addresses(
    roots: list[str] | None = None,
    scope: str | None = None,
    rendered: bool = True,
    live: bool = True,
    databases: bool = True,
    minions: list[str] | None = None,
    seconds: int = 60,
) -> dict[str, Any]:
    """
    Find old addresses and names everywhere: in the trees of this host, in what is rendered for each minion, in files of
    live nodes, in the databases. Nothing is written.

    roots, scope
        As of ``migrate_addresses.scan``.
    rendered
        Search the pillar and states of each minion.
    live
        Search ``migrate:addresses:live`` (``/etc``) on each minion.
    databases
        Search accounts, definers and ``migrate:addresses:columns`` of the serving primary.
    minions
        Whom to ask; those of the new side where it is left out.
    seconds
        How long a minion may take to answer.

    Returns what ``migrate_addresses.scan`` does; the exit code is 1 while ``stale`` or ``unknown`` hits remain.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.addresses
        salt-run migrate.addresses roots='["/srv/pillar"]' live=False databases=False
    """
    found = _call(
        "addresses.scan",
        roots=[roots] if isinstance(roots, str) else roots,
        scope=scope,
        rendered=bool(rendered),
        live=bool(live),
        databases=bool(databases),
        minions=minions,
        seconds=int(seconds),
        commands=bridge.TARGETING,
    )
    return _with_code(found, 1 if found["remaining"] else 0)


@_clean
def tripwire() -> dict[str, Any]:
    """
    Return the packet filter's rules that watch for crossings, by minion. Nothing is loaded.

    Each has ``side``, ``node``, ``mark`` (the counter that is there while these rules are loaded) and ``rules``.
    ``salt-run state.orchestrate migrate.tripwire`` puts them onto the hosts.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.tripwire
    """
    return _with_code(_call("addresses.tripwire"), 0)


@_clean
def crossings(deserted: bool = False) -> dict[str, Any]:
    """
    Show what crossed between the sides within the configured time, as the hosts' own kernels counted it.

    deserted
        Ask also that nobody at all arrived at old hosts: before they go away.

    Returns ``hosts``, ``findings`` and ``quiet``; the exit code is 1 where it was not quiet, or not watched
    long enough.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.crossings
        salt-run migrate.crossings deserted=True
    """
    told = _call("addresses.crossings", deserted=bool(deserted))
    return _with_code(told, 0 if told["quiet"] else 1)


def _call(command: str, **arguments: Any) -> Any:
    return bridge.call(command, arguments, opts=__opts__, pillar=__pillar__, functions=__salt__)


def _carried(done: dict[str, Any]) -> Any:
    if done["error"]:
        error = done["error"]
        raise CommandExecutionError(f"{done['verdict']}: {error['message']}\nhint: {error['hint']}")
    return _with_code(done, 0)


def _with_code(data: Any, code: int) -> Any:
    # Both are needed: the one for the command line, the other for a step of an orchestration.
    __context__["retcode"] = code
    # A step takes what is wrapped for the result of states, and finds it wanting.
    return {"data": data, "outputter": "nested", "retcode": code} if code else data
