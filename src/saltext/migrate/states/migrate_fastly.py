"""
Copies of CDN services, and versions made ready ahead, as states of the master.

.. code-block:: yaml

    docs:
      migrate_fastly.service_copy: []

With ``test=True`` they show the real plan as changes, and write nothing.
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


def service_copy(name: str, service: str | None = None) -> dict[str, Any]:
    """
    Ensure that the copy of a service serves its test domains from the new side, and differs in nothing else.

    name
        The pillar's name of the service, or any text where ``service`` is given.
    service
        The pillar's name of the service; ``*`` stands for every service that has a copy.

    .. code-block:: yaml

        docs:
          migrate_fastly.service_copy: []
    """
    return _state(name, "copy", service or name)


def service_copy_absent(name: str, service: str | None = None) -> dict[str, Any]:
    """
    Ensure that a service has no copy any more; only what carries the migration's mark is deleted.

    name
        The pillar's name of the service, or any text where ``service`` is given.
    service
        The pillar's name of the service; ``*`` stands for every service.

    .. code-block:: yaml

        docs:
          migrate_fastly.service_copy_absent: []
    """
    return _state(name, "remove-copies", service or name)


def service_staged(name: str, service: str | None = None) -> dict[str, Any]:
    """
    Ensure that a version of a service stands ready to which a flip will switch.

    name
        The pillar's name of the service, or any text where ``service`` is given.
    service
        The pillar's name of the service; ``*`` stands for every service.

    .. code-block:: yaml

        docs:
          migrate_fastly.service_staged: []
    """
    return _state(name, "stage", service or name)


def _state(name: str, phase: str, service: str) -> dict[str, Any]:
    state: dict[str, Any] = {"name": name, "result": False, "changes": {}, "comment": ""}
    command = "edge.plan" if __opts__["test"] else "edge.apply"
    arguments = {"phase": phase, "service": None if service == "*" else service}
    try:
        done = bridge.call(command, arguments, opts=__opts__, pillar=__pillar__, functions=__salt__)
    except CommandExecutionError as error:
        state["comment"] = str(error)
        return state
    changes = {
        change["step"]: {"old": change["old"], "new": change["new"]}
        for change in done["changes"]
        if not change["guard"]
    }
    findings = [
        f"[{finding['topic']}] {finding['subject']}: {finding['found']}; mend: {finding['mend']}"
        for finding in done["findings"]
    ]
    if __opts__["test"]:
        state["changes"] = changes
        state["result"] = False if done["refused"] else (None if changes else True)
        state["comment"] = [f"{len(changes)} steps would change something", *findings]
        return state
    if done["error"]:
        state["comment"] = bridge.failure(done)
        return state
    state["result"] = True
    state["changes"] = changes
    state["comment"] = [f"run {done['run']} is done" if changes else "already so", *findings]
    return state
