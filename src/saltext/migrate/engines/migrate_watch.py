"""
Watch the migration from the Salt master, and raise an alarm within seconds.

It asks what ``salt-run migrate.status`` asks, but for what hosts and the CDN are asked (room on disks, crossings,
services gone astray), again and again. It fires an event ``migrate/alarm`` and writes a line in the master's log when
an alarm appears, and ``migrate/alarm/over`` when it is gone: a stopped channel, a write on a fenced primary, a fence
that nobody owns, two primaries, a run that died.

.. code-block:: yaml

    # /etc/salt/master.d/migrate.conf
    engines:
      - migrate_watch:
          interval: 5
"""

from __future__ import annotations

import logging
import threading
import typing
from typing import Any

import salt.utils.event
from salt.exceptions import CommandExecutionError

from saltext.migrate import bridge

if typing.TYPE_CHECKING:
    __opts__: dict[str, Any]
    __runners__: dict[str, Any]

log = logging.getLogger(__name__)
__virtualname__ = "migrate_watch"


def __virtual__() -> str:
    return __virtualname__


def start(interval: float = 5.0) -> None:
    """
    Watch until the master stops.

    interval
        Seconds between two looks.
    """
    # Only the engine's own process needs the runners.
    from salt.runner import Runner

    runners = Runner(dict(__opts__)).functions
    known: set[str] = set()
    with salt.utils.event.get_event(
        "master", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=False
    ) as bus:
        # An event that nobody sets: the wait ends with the process.
        forever = threading.Event()
        while True:
            known = _look(bus, runners, known)
            forever.wait(interval)


def _look(bus: Any, runners: dict[str, Any], known: set[str]) -> set[str]:
    try:
        # Without the hosts' disks: a minion that does not answer would hold up every other alarm.
        order = {"hosts": False}
        shown = bridge.call("status", order, opts=__opts__, pillar={}, functions=runners)
        alarms = set(shown["alarms"])
    except CommandExecutionError as error:
        # Nothing of what was known is over by that.
        alarms = known | {f"the migration cannot be watched: {error}"}
    for alarm in sorted(alarms - known):
        log.error("migrate: %s", alarm)
        bus.fire_event({"alarm": alarm}, "migrate/alarm")
    for alarm in sorted(known - alarms):
        log.warning("migrate: over: %s", alarm)
        bus.fire_event({"alarm": alarm}, "migrate/alarm/over")
    return alarms
