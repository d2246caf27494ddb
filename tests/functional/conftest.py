"""What functional tests of the cloud share: one control plane, and what a fresh cloud has in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.lab.cloud.furnished import Furnished
from tests.lab.cloud.plane import Plane


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """A control plane with flavors, images and networks; as the last test left it."""
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed")
    with Plane(tmp_path_factory.mktemp("cloud") / "plane") as plane:
        yield Furnished(plane)


@pytest.fixture
def cloud(furnished: Furnished) -> Iterator[Furnished]:
    """The same, with nothing in its projects but networks, and every quota and fault as at first."""
    yield furnished
    furnished.clear()
