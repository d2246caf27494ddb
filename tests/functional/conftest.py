"""What functional tests share: one control plane, what a fresh cloud has in it, and chains by kind of server."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pymysql.err import MySQLError

from tests.lab.authority import Authority
from tests.lab.cloud.furnished import Furnished
from tests.lab.cloud.plane import Plane
from tests.lab.kinds import KINDS
from tests.lab.loopback import ADDRESSES, Chain
from tests.lab.mariadb import ServerFailed
from tests.lab.unpacked import Unavailable


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


@dataclass(frozen=True)
class Certified:
    """A chain whose servers show certificates, and who signed them."""

    chain: Chain
    authority: Authority


Certify = Callable[[str], Certified]


@pytest.fixture(scope="session")
def certify() -> Iterator[Certify]:
    """Makes a chain of a kind when it is first asked for; it is as the last test left it."""
    made: dict[str, Certified] = {}
    with contextlib.ExitStack() as stack:
        # Not below a folder that only its owner may enter: servers read certificates as their own user.
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinds-")))
        home.chmod(0o755)

        def make(kind: str) -> Certified:
            if kind in made:
                return made[kind]
            if not shutil.which("mariadbd"):
                pytest.skip("MariaDB is not installed")
            authority = Authority(home / kind / "ca")
            options = {}
            for name, address in ADDRESSES.items():
                certificate, key = authority.sign(name, address)
                options[name] = {
                    "ssl_ca": str(authority.certificate),
                    "ssl_cert": str(certificate),
                    "ssl_key": str(key),
                }
            try:
                chain = Chain(home / kind / "chain", options=options, kinds=KINDS[kind])
                stack.enter_context(chain)
            except Unavailable as why:
                pytest.skip(str(why))
            made[kind] = Certified(chain, authority)
            return made[kind]

        yield make


@pytest.fixture
def mysql(certify: Certify) -> Chain:
    """MySQL servers in the declared chain, in clear, with the data that tests before left."""
    chain = certify("mysql-9").chain
    try:
        chain.home()
    except (ServerFailed, MySQLError):
        # Whatever the last test left: it has failed, and this one has not.
        chain.reset()
    if chain.ca:
        chain.secure(None)
    return chain
