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

import salt.utils.user
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
        except (TypeError, ValueError) as error:
            # Of a value that is of another kind.
            called = f"migrate.{function.__name__}"
            return _with_code(f"{called}: {error}\nhint: salt-run -d {called}", 1)

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
        ``prepare``, ``test``, ``flip`` (default), ``revert`` or ``cleanup``.

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
        ``prepare``, ``test``, ``flip`` (default), ``revert`` or ``cleanup``.

    Returns the findings, each with ``id``, ``topic``, ``subject``, ``found``, ``mend``, ``blocking`` and ``forceable``;
    the exit code is 1 where any blocks.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.preflight
    """
    planned = _call("plan", phase=phase)
    return _with_code(planned["findings"], 1 if planned["refused"] else 0)


@_clean
def prepare(force: str | list[str] | None = None, reason: str = "") -> Any:
    """
    Build the new side: security groups, key pairs, ports and servers, then its databases, from copies of the old side.

    What is there already, from a run that died or stopped, is taken over.

    force
        The id of a finding that would refuse it (``migrate.preflight prepare`` shows it), or a list of such ids.
    reason
        Why; it stands in the journal and in the report.

    Returns what was done, by step; the exit code is 0 only where everything stands in the end.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.prepare
        salt-run migrate.prepare force=seeding/old-db1/3f2a reason='that table is written at night only'
    """
    return _carried(_call("apply", phase="prepare", force=force, reason=reason))


@_clean
def test(force: str | list[str] | None = None, reason: str = "") -> Any:
    """
    Make the new side a read-only mirror that people may try, and compare it with the old one.

    force
        The id of a finding that would refuse it (``migrate.preflight test`` shows it), or a list of such ids.
    reason
        Why; it stands in the journal and in the report.

    Returns what was done, by step; the exit code is 0 only where the test site stands in the end. What differs between
    old and new is no failure of the test: it stands against the flip (``migrate.preflight``).

    CLI Example:

    .. code-block:: bash

        salt-run migrate.test
    """
    return _carried(_call("apply", phase="test", force=force, reason=reason))


@_clean
def compare() -> Any:
    """
    Compare old and new, page by page, as ``migrate_site.compare`` does; a record of it is kept.

    Returns what that does; the exit code is 1 where anything differs.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.compare
    """
    seen = _call("compare")
    return _with_code(seen, 1 if seen["differences"] else 0)


@_clean
def rehearse() -> Any:
    """
    Rehearse the flip: the switch of the CDN on the copied services (staged, activated, seen at every point of
    presence), and, where ``migrate:rehearsal`` names a throw-away replica, the databases' part on that.

    Production's services are neither written nor asked, of its databases only positions are read. What was measured
    becomes the budget of the flip: what takes more than five times as long, and two seconds at the CDN, half a second
    at a database, is taken back, whatever the deadlines of the pillar say.

    Returns ``seen`` (for each service ``staged_ms``, ``activated_ms`` and ``everywhere_ms``; for the databases
    ``fence`` and ``promotion``) and ``foretold``: for each part ``predicted_ms`` and ``budget_ms``. Needs the copies
    (``migrate.test``), or the replica.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.rehearse
    """
    return _carried(_call("rehearse"))


@_clean
def checksum(source: str, replica: str, tables: Any = None) -> Any:
    """
    Compare the data of a server with that of one of its replicas; see :py:func:`migrate_mysql.checksum
    <saltext.migrate.modules.migrate_mysql.checksum>`. The exit code is 1 where anything differs.

    source, replica
        Side and node, as ``old-db1`` and ``new-db1``.
    tables
        Only these, as ``database.table``: one, or a list.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.checksum old-db1 new-db1
    """
    chosen = [tables] if isinstance(tables, str) else tables
    done = _call("database.checksum", source=source, replica=replica, tables=chosen)
    _carried(done)
    seen = done["seen"]["compared"]
    return _with_code(seen, 1 if seen["differences"] else 0)


@_clean
def announcement() -> Any:
    """
    Show the text for the people who use the site: what happens when, how to try it, what will not work.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.announcement --out=txt
    """
    return _with_code(_call("announcement"), 0)


@_clean
def signoff(role: str | None = None, note: str = "", gate: str = "flip") -> Any:
    """
    Say go, in a role that the pillar names; without a role, show how every role stands.

    A sign-off holds for what is there now: the plan, the pillar, the comparison of old and new. Whatever of that
    changes makes it stale; so does a flip or a revert, and the time of ``migrate:signoff:hours``.

    role
        One of ``migrate:signoff:flip``, or of ``migrate:signoff:cleanup``.
    note
        What was looked at; it stands in the report.
    gate
        ``flip`` (default) or ``cleanup``.

    Returns ``signoffs`` (each with ``role``, ``who``, ``note``, ``at``, ``until``, ``missing``) and ``missing``, the
    roles that still have to sign; the exit code is 1 while there are any.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.signoff
        salt-run migrate.signoff role=operations note='the rehearsal took 3 s, all services were back'
        salt-run migrate.signoff role=operations note='nobody comes any more' gate=cleanup
    """
    who = salt.utils.user.get_specific_user()
    told = _call("signoff", role=role, note=note, gate=gate, who=who)
    return _with_code(told, 1 if told["missing"] else 0)


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
def revert(
    force: str | list[str] | None = None,
    reason: str = "",
    accept_loss: str | None = None,
    is_off: str | None = None,
) -> Any:
    """
    Bring the site back to the old side, with everything that was written since.

    force
        The id of a finding that would refuse it (``migrate.preflight`` shows it), or a list of such ids.
    reason
        Why; it stands in the journal and in the report.
    accept_loss
        Only where the new primary is gone for good: the last transaction that the old side received, as
        ``migrate.status`` shows it. Whatever the new primary acknowledged after it is lost.
    is_off
        With ``accept_loss``, where the new primary does not answer: its name (``new-db1``), once somebody made sure
        that it is off.

    Returns what was done, by step; the exit code is 0 only where the site is on the old side in the end. With
    ``accept_loss`` it is refused as long as the new primary may accept writes.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.revert
        salt-run migrate.revert force=privileges/old-db1/3f2a reason='the account only reads'
        salt-run migrate.revert accept_loss=0-21-1234 is_off=new-db1 reason='its host burnt, and the disk with it'
    """
    told = {"force": force, "reason": reason, "accept_loss": accept_loss, "is_off": is_off}
    return _carried(_call("apply", phase="revert", **told))


@_clean
def cleanup(force: str | list[str] | None = None, reason: str = "") -> Any:
    """
    Take down what was made for the move, and the old side after it: stopped first, deleted by a later run.

    force
        The id of a finding that would refuse it (``migrate.preflight cleanup`` shows it), or a list of such ids.
    reason
        Why; it stands in the journal and in the report.

    Returns what was done, by step; the report has what was removed, what was kept and why, and which credentials to
    change. The exit code is 0 only where everything that was due is gone.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.cleanup
    """
    return _carried(_call("apply", phase="cleanup", force=force, reason=reason))


@_clean
def abort(is_off: str | None = None, reason: str = "") -> Any:
    """
    Take a run back that died before its commit point; one that turns out to be committed is finished instead.

    It needs no journal: a run of a controller that is gone is taken back by what the servers say, from any machine that
    has the extension and the pillar.

    is_off
        The name of the new primary (``new-db1``), where it is gone for good before a flip ever promoted it, and
        somebody made sure that it is off: what stands on the new side stays there, and the run ends once the old side
        serves.
    reason
        Why it does not come back; it stands in the journal and in the report.

    Returns what was taken back, and under ``left`` what stays of a run that makes things, or of a side that is gone;
    nothing is done where no run is unfinished. The exit code is 1 where a run is still in the middle.

    CLI Example:

    .. code-block:: bash

        salt-run migrate.abort
        salt-run migrate.abort is_off=new-db1 reason='its host burnt, and the disk with it'
    """
    done = _call("abort", is_off=is_off, reason=reason)
    in_the_middle = done["verdict"] == "stopped" and not done.get("left")
    return _with_code(done, 1 if in_the_middle else 0)


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
        raise CommandExecutionError(bridge.failure(done))
    return _with_code(done, 0)


def _with_code(data: Any, code: int) -> Any:
    # Both are needed: the one for the command line, the other for a step of an orchestration.
    __context__["retcode"] = code
    # A step takes what is wrapped for the result of states, and finds it wanting.
    return {"data": data, "outputter": "nested", "retcode": code} if code else data
