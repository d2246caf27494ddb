"""
Ask and change what the migration has at the CDN, apart from a flip: copies for the tests, versions ready ahead.

Works where the pillar key ``migrate`` is: on the master, in an orchestration or by ``salt-run salt.cmd``.
Nothing here changes what people see.
"""

from __future__ import annotations

import typing
from typing import Any

from salt.exceptions import CommandExecutionError

from saltext.migrate import bridge

if typing.TYPE_CHECKING:
    __opts__: dict[str, Any]
    __pillar__: dict[str, Any]
    __salt__: dict[str, Any]

__virtualname__ = "migrate_fastly"


def __virtual__() -> str:
    return __virtualname__


def copy(service: str | None = None, test: bool = False) -> dict[str, Any]:
    """
    Copy services that have ``copy`` in the pillar to services of their own, which serve test domains from the new
    side; a copy that stands and is like its service is left alone, one that is half done is finished.

    service
        The pillar's name of one service; without it all are copied.
    test
        Only show what would be done, with the number of writes.

    Returns ``changes``, ``findings`` and, by step, what was ``seen``: id, version, backends, what was left out.
    Raises an error where a copy could not be made like its service.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_fastly.copy docs
        salt-run salt.cmd migrate_fastly.copy test=True
    """
    return _phase("copy", service, test)


def remove_copies(service: str | None = None, test: bool = False) -> dict[str, Any]:
    """
    Delete the copies of the services in the pillar. Only what carries the migration's mark is deleted.

    service
        The pillar's name of one service; without it the copies of all are deleted.
    test
        Only show what would be deleted.

    Returns ``changes`` and, by step, the ids that were deleted.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_fastly.remove_copies test=True
        salt-run salt.cmd migrate_fastly.remove_copies docs
    """
    return _phase("remove-copies", service, test)


def stage(service: str | None = None, test: bool = False) -> dict[str, Any]:
    """
    Make the versions ready to which a flip will switch: cloned, pointed to the new side, validated, locked.

    service
        The pillar's name of one service; without it all are made ready.
    test
        Only show what would be done, with the number of writes.

    Returns ``changes``, ``findings`` and, by step, the versions. A later flip takes them as they are.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_fastly.stage test=True
        salt-run salt.cmd migrate_fastly.stage
    """
    return _phase("stage", service, test)


def trial(service: str | None = None, test: bool = False) -> dict[str, Any]:
    """
    Make versions ready, and put them on the CDN's staging network, where they can be tried before the flip.

    service
        The pillar's name of one service; without it all are put there.
    test
        Only show what would be done.

    Returns ``changes`` and, by step, what was ``seen``: the version, and by domain the address to ask.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_fastly.trial docs
    """
    return _phase("trial", service, test)


def status(service: str | None = None) -> dict[str, Any]:
    """
    Show how services stand: active version, where its backends point, versions made ready, copies.

    service
        The pillar's name of one service; without it all are shown.

    CLI Example:

    .. code-block:: bash

        salt-run salt.cmd migrate_fastly.status
        salt-run salt.cmd migrate_fastly.status docs
    """
    shown: dict[str, Any] = _call("edge.status", service=service)
    return shown


def _phase(phase: str, service: str | None, test: bool) -> dict[str, Any]:
    if test:
        planned: dict[str, Any] = _call("edge.plan", phase=phase, service=service)
        return planned
    done: dict[str, Any] = _call("edge.apply", phase=phase, service=service)
    if done["error"]:
        raise CommandExecutionError(bridge.failure(done))
    return done


def _call(command: str, **arguments: Any) -> Any:
    return bridge.call(command, arguments, opts=__opts__, pillar=__pillar__, functions=__salt__)
