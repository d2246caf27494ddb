"""How long the control API takes to answer: server times recorded from the real one.

Seconds, medians. What has no record stands under ``write`` or ``read`` and is a guess of the same
order.
"""

from __future__ import annotations

RECORDED: dict[str, float] = {
    "activate": 1.14,
    "clone": 0.27,
    "create version": 0.43,
    "create service": 0.306,
    "delete service": 0.298,
    "create backend": 0.386,
    "update backend": 0.544,
    "create domain": 0.328,
    "details": 0.399,
    "lock": 0.25,
    "purge all": 0.25,
    "items": 0.19,
    "write": 0.39,
    "read": 0.16,
    "purge key": 0.05,
    "none": 0.0,
}
