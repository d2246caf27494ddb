"""Who may flip: an account of the master's `external_auth` with that right, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.loopback import Chain
from tests.lab.salt import Ran, SaltMaster

PASSWORDS = {"stranger": "gb7-stranger", "watcher": "kq2-watcher", "mover": "zt9-mover"}


@pytest.fixture
def master(fresh_chain: Chain, tmp_path: Path) -> Iterator[SaltMaster]:
    users = tmp_path / "users"
    users.write_text("".join(f"{name}:{password}\n" for name, password in PASSWORDS.items()))
    rights = {
        "^filename": str(users),
        "stranger": ["test.*"],
        "watcher": [{"@runner": ["migrate.status", "migrate.preflight"]}],
        "mover": [{"@runner": ["migrate.*"]}],
    }
    with SaltMaster(fresh_chain.pillar(), {"external_auth": {"file": rights}}) as running:
        yield running


def run(master: SaltMaster, user: str, *command: str, password: str | None = None) -> Ran:
    login = ("--username", user, "--password", password or PASSWORDS[user])
    return master.run("-a", "file", *login, *command)


def test_a_user_without_the_right_to_run_the_runner_cannot_flip(
    fresh_chain: Chain, master: SaltMaster
) -> None:
    for user in ("stranger", "watcher"):
        for command in (
            ("migrate.flip",),
            ("state.orchestrate", "migrate.flip"),
            ("salt.cmd", "migrate_mysql.status", "old-db1"),
        ):
            ran = run(master, user, *command)
            # Salt's words for a right that is missing; its exit code is 0 all the same.
            words = f'Authentication failure of type "eauth" occurred for user {user}.'
            assert ran.data == words, (user, command, ran.stdout)
    # Somebody's name alone is nothing.
    ran = run(master, "mover", "migrate.flip", password="guessed")
    assert "Authentication failure" in ran.stdout + ran.stderr
    assert fresh_chain.serving() is fresh_chain.old
    assert not list((fresh_chain.state / "migrate" / "runs").glob("*"))
    # What each may do they can do, so that it was the right that was missing.
    seen = run(master, "watcher", "migrate.status")
    assert '"primary": "old"' in seen.stdout, seen.stdout
    flipped = run(master, "mover", "migrate.flip")
    assert '"verdict": "done"' in flipped.stdout, flipped.stdout + flipped.stderr
    assert fresh_chain.serving() is fresh_chain.new
