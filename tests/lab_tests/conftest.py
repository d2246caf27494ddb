"""The tests that need the whole lab: marked `lab`, root only, one lab for all of them."""

from __future__ import annotations

import os
import shutil

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: needs root and the whole lab of two clouds; slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = [tool for tool in ("systemd-nspawn", "mariadbd", "nft") if not shutil.which(tool)]
    if os.geteuid() == 0 and not lacking:
        return
    reason = f"needs root and {', '.join(lacking) or 'namespaces'}"
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason=reason))
