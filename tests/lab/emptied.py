"""A new side whose database hosts hold nothing yet, as their packages leave them; and prepare, which changes that."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab import database, storage, wiki
from tests.lab.site import Said, Site

NEW = ("relay", "new-db1", "new-db2")
# What the lab's machine bears, and what lets two hops keep up with the demo's writers.
OPTIONS = {
    "innodb_buffer_pool_size": "96M",
    "innodb_log_file_size": "16M",
    "performance_schema": False,
    "max_connections": 120,
    "slave_net_timeout": 6,
    "slave_parallel_threads": 4,
}
PREPARE = {
    "databases": {"options": OPTIONS},
    "deployment": {"old": "app1", "new": "app1", "paths": ["/srv/code"], "exclude": []},
    "highstate": {"old": ["app1", "memcache1"], "new": ["app1", "memcache1"]},
    "backup": {"node": "db2", "folder": "/srv/backup/migrate"},
}


def empty(site: Site) -> None:
    """Makes every database host of the new side what it is once the package is installed."""
    for name in NEW:
        host = site[name]
        host.run(["systemctl", "stop", "mariadb.service"])
        host.run(["sh", "-c", "rm -rf /var/lib/mysql/* /var/lib/mysql/.[!.]*"])
        host.run(["rm", "-f", "/etc/mysql/mariadb.conf.d/70-site.cnf", database.ROLE_FILE])
        host.run(["mariadb-install-db", "--user=mysql", "--skip-test-db"])
        host.run(["systemctl", "start", "mariadb.service"])
    # What the site's own states bring is not there yet either.
    site["new-memcache1"].run(["systemctl", "disable", "--now", "memcached.service"])
    site["new-memcache1"].run(["rm", "/etc/memcached.conf"])
    site["new-app1"].run(["rm", "-f", wiki.READONLY_FILE])
    for name in ("old-storage1", "new-storage1"):
        storage.empty(site[name])
    site["old-app1"].write("/srv/code/deep/down", "here\n")
    site["old-app1"].run(["ln", "-sfn", "/srv/code/deep", "/srv/code/link"])


def prepare(site: Site, drill: str | None = None) -> Said:
    """Runs the orchestration; the pillar says what the new side is to have."""
    return site.salt_run("state.orchestrate", "migrate.prepare", timeout=500, drill=drill)


def from_nothing(site: Site, say: Callable[[str], None]) -> None:
    """Begins the story before its beginning: an empty new side, and one command that fills it."""
    empty(site)
    site.write_pillar({"prepare": PREPARE})
    say("the new side's databases are empty; salt-run state.orchestrate migrate.prepare")
    began = time.monotonic()
    said = prepare(site)
    site.write_pillar()
    if said.rc != 0:
        raise RuntimeError(f"migrate.prepare ended with {said.rc}:\n{said.stdout}\n{said.stderr}")
    say(f"they are copies that follow the old side, after {time.monotonic() - began:.0f} s")
