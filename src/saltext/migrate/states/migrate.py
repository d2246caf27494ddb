"""
The phases of the migration as states of the master, for orchestrations.

.. code-block:: yaml

    flip:
      migrate.flipped: []

With ``test=True`` they show the real plan as changes, and write nothing.
"""

from __future__ import annotations

import typing
from typing import Any

from salt.exceptions import CommandExecutionError
from salt.state import STATE_INTERNAL_KEYWORDS

from saltext.migrate import bridge

if typing.TYPE_CHECKING:
    __opts__: dict[str, Any]
    __pillar__: dict[str, Any]
    __salt__: dict[str, Any]

__virtualname__ = "migrate"


def __virtual__() -> str:
    return __virtualname__


def prepared(
    name: str, force: str | list[str] | None = None, reason: str = "", **unknown: Any
) -> dict[str, Any]:
    """
    Ensure that the new side stands: its servers, and its databases as copies that follow the old side.

    name
        Any text; it names the state.
    force, reason
        The id of a finding that would refuse it (or a list of such ids), and why.

    .. code-block:: yaml

        prepare:
          migrate.prepared: []
    """
    return _state(name, "prepare", force, reason, unknown)


def tested(
    name: str, force: str | list[str] | None = None, reason: str = "", **unknown: Any
) -> dict[str, Any]:
    """
    Ensure that the new side is a read-only mirror that people may try, and that old and new were compared.

    name
        Any text; it names the state.
    force, reason
        The id of a finding that would refuse it (or a list of such ids), and why.

    .. code-block:: yaml

        test:
          migrate.tested: []
    """
    return _state(name, "test", force, reason, unknown)


def flipped(
    name: str, force: str | list[str] | None = None, reason: str = "", **unknown: Any
) -> dict[str, Any]:
    """
    Ensure that the site is served by the new side.

    name
        Any text; it names the state.
    force, reason
        The id of a finding that would refuse it (or a list of such ids), and why.

    .. code-block:: yaml

        flip:
          migrate.flipped: []
    """
    return _state(name, "flip", force, reason, unknown)


def reverted(
    name: str, force: str | list[str] | None = None, reason: str = "", **unknown: Any
) -> dict[str, Any]:
    """
    Ensure that the site is served by the old side, with everything that was written since.

    name
        Any text; it names the state.
    force, reason
        The id of a finding that would refuse it (or a list of such ids), and why.

    .. code-block:: yaml

        revert:
          migrate.reverted: []
    """
    return _state(name, "revert", force, reason, unknown)


def cleaned(
    name: str, force: str | list[str] | None = None, reason: str = "", **unknown: Any
) -> dict[str, Any]:
    """
    Ensure that what was made for the move is gone, and that the old side is on its way out.

    name
        Any text; it names the state.
    force, reason
        The id of a finding that would refuse it (or a list of such ids), and why.

    .. code-block:: yaml

        cleanup:
          migrate.cleaned: []
    """
    return _state(name, "cleanup", force, reason, unknown)


def _state(
    name: str,
    phase: str,
    force: str | list[str] | None,
    reason: str,
    unknown: dict[str, Any],
) -> dict[str, Any]:
    state: dict[str, Any] = {"name": name, "result": False, "changes": {}, "comment": ""}
    # Salt takes an orchestration with an argument that a state has not for a success.
    wrong = [key for key in unknown if key not in STATE_INTERNAL_KEYWORDS and key[:2] != "__"]
    if wrong:
        state["comment"] = f"{', '.join(wrong)}: found in the SLS, and no argument of this state"
        return state
    command = "plan" if __opts__["test"] else "apply"
    try:
        arguments = {"phase": phase, "force": force, "reason": reason}
        done = bridge.call(command, arguments, opts=__opts__, pillar=__pillar__, functions=__salt__)
    except CommandExecutionError as error:
        state["comment"] = str(error)
        return state
    changes = {
        change["step"]: {"old": change["old"], "new": _new(change)} for change in done["changes"]
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
        # What was taken back is no change; where the run stands in the middle, the report tells what is.
        return state
    state["result"] = True
    state["changes"] = changes
    window = done["report"]["runs"][0]["window_ms"]
    state["comment"] = [
        "already so"
        if not changes
        else f"run {done['run']} is done"
        + ("" if window is None else f"; the databases were closed for {window:.1f} ms"),
        *findings,
    ]
    return state


def _new(change: dict[str, Any]) -> Any:
    return "known only in the act" if change["new"] is None else change["new"]
