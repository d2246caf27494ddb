"""The servers that functional tests share: started once for a run, on loopback, ended with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.lab.loopback import Chain
from tests.lab.salt import SaltMaster


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Five MariaDB servers in the declared chain; as the last test left them."""
    if not shutil.which("mariadbd"):
        pytest.skip("MariaDB is not installed")
    with Chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture
def fresh_chain(chain: Chain) -> Chain:
    """The same servers, brought back to the declared chain and the seeded data."""
    chain.reset()
    return chain


@pytest.fixture(scope="session")
def salt_master(chain: Chain) -> Iterator[SaltMaster]:
    """A Salt master with the minion `loop`; its pillar describes the chain."""
    with SaltMaster(chain.pillar()) as running:
        yield running
