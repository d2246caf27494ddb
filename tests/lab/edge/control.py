"""``/standin/...``: what tests ask of the stand-in itself, apart from the API it plays."""

from __future__ import annotations

from typing import Any

from tests.lab.edge.faults import Fault
from tests.lab.edge.latency import RECORDED
from tests.lab.edge.routes import Call, Platform


def control(p: Platform, call: Call) -> tuple[int, Any]:
    """Answers a control request; loopback needs no token for it."""
    asked = f"{call.method} {call.path.removeprefix('/standin/')}"
    if asked == "GET log":
        return 200, p.log.entries()
    if asked == "POST log/clear":
        p.log.clear()
        return 200, {}
    if asked == "GET activations":
        return 200, p.fleet.activations
    if asked == "POST faults":
        try:
            p.faults.add(Fault(**call.body))
        except (TypeError, ValueError) as error:
            return 400, {"msg": str(error)}
        return 200, {}
    if asked == "POST faults/release":
        p.faults.release()
        return 200, {}
    if asked == "DELETE faults":
        p.faults.clear()
        return 200, {}
    if asked == "PUT settings":
        return _settings(p, call.body)
    return 404, {"msg": f"no {asked}"}


def _settings(p: Platform, sent: dict[str, Any]) -> tuple[int, Any]:
    if "spread" in sent:
        p.fleet.spread = [float(ms) / 1000 for ms in sent["spread"]]
    if "delay" in sent:
        p.latency = dict(RECORDED) if sent["delay"] == "recorded" else {}
    if "remaining" in sent:
        p.quota.set_remaining(int(sent["remaining"]))
    if "resets" in sent:
        p.quota.resets = float(sent["resets"])
    if "ends" in sent:
        p.quota.end(float(sent["ends"]), sent.get("left"))
    if "unrunnable" in sent:
        p.fleet.hollow = sent["unrunnable"] == "hollow"
    if "domain_conflict" in sent:
        p.domain_conflict = sent["domain_conflict"]
    return 200, {}
