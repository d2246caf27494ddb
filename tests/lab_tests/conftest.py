"""The tests that need the whole lab: marked `lab`, root only, one lab for all of them.

It is brought up once, and each file finds it as the one before left it: the old side serves, and the new one follows.
The last one, by its name, empties the new side.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.lab import leftovers
from tests.lab.site import Site


@pytest.fixture(scope="session")
def lab() -> Iterator[Site]:
    with Site.running() as site:
        print(f"\nbring-up, seconds: {site.timings}")
        yield site
    assert not any(leftovers.found().values()), leftovers.found()


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
