"""Prepare on real hosts: Debian's own MariaDB and units, and a wide-area network between."""

from __future__ import annotations

import pytest

from tests.lab import database
from tests.lab.emptied import NEW, PREPARE, empty, prepare
from tests.lab.site import Site

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def site(lab: Site) -> Site:
    empty(lab)
    lab.write_pillar({"prepare": PREPARE, "edge": None})
    return lab


@pytest.mark.parametrize("records", [17, 33])
def test_killed_where_it_stands_the_same_command_goes_on(site: Site, records: int) -> None:
    # One after the other: the first dies among the copies, the second behind the files.
    killed = prepare(site, f"crash-after:{records}")
    assert killed.rc == -9, killed.stdout + killed.stderr


def test_fresh_hosts_become_a_chain_that_a_flip_accepts(site: Site) -> None:
    ran = prepare(site)
    print(ran.stderr)
    assert ran.rc == 0, ran.stdout + ran.stderr
    for name, source in database.CHAIN.items():
        status = site.sql(name, "SHOW SLAVE STATUS")[0]
        assert status["Master_Host"] == site[source].address
        assert (status["Slave_IO_Running"], status["Slave_SQL_Running"]) == ("Yes", "Yes")
    pages = {str(site.sql(name, "SELECT COUNT(*) n FROM wiki.page")) for name in ("old-db1", *NEW)}
    assert len(pages) == 1
    assert site["new-app1"].read("/srv/code/deep/down") == "here\n"
    assert site["new-app1"].run(["readlink", "/srv/code/link"]).stdout == "/srv/code/deep\n"
    # Its application says what its databases would.
    assert "edits are not saved" in site["new-app1"].read("/etc/mediawiki/readonly")
    found = site.salt_run("migrate.preflight")
    assert found.rc == 0, found.stdout


def test_again_changes_nothing_and_a_reboot_leaves_a_replica(site: Site) -> None:
    again = prepare(site)
    assert again.rc == 0, again.stdout
    assert "already so" in again.stdout
    site["new-db1"].reboot()
    site["new-db1"].wait("mariadb.service")
    assert site.sql("new-db1", "SELECT @@read_only r, @@event_scheduler e") == [
        {"r": 1, "e": "OFF"}
    ]
    database.wait_following([site["new-db1"]], site.secrets["admin"])
