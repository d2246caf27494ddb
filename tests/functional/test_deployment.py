"""The new deployment node, with every file of the old one; and the site's own states, tried there and run here."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.loopback import MINION
from tests.lab.salt import Ran, SaltMaster

ORCHESTRATE = ("state.orchestrate", "migrate.prepare")
NEW = "new-deployment"


def pillar(home: Path) -> dict[str, Any]:
    account = {"user": "nobody", "password": "never-used-17"}
    return {
        "state_dir": str(home / "state"),
        "nodes": {
            "old": {"db1": {"private": "127.0.0.41"}, "deployment": {"private": "127.0.0.42", "minion": MINION}},
            "new": {"db1": {"private": "127.0.0.51"}, "deployment": {"private": "127.0.0.52", "minion": NEW}},
        },
        "databases": {
            "old": {"primary": "db1"},
            "new": {"primary": "db1"},
            "accounts": {
                name: account | {"user": name} for name in ("admin", "marker", "replication")
            },
        },
        "notice": {"text": "Migration in progress", "nodes": {"old": [], "new": []}},
        "prepare": {
            "deployment": {
                "old": "deployment",
                "new": "deployment",
                "port": 14445,
                "folder": str(home / "carry"),
                # One machine plays both.
                "paths": [
                    {"old": str(home / "old" / name), "new": str(home / "new" / name)} for name in ("srv", "etc")
                ],
                "exclude": ["*.pyc", str(home / "old/etc/minion")],
            },
            "deadlines": {"host": 300_000},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("deployment")
    (home / "old" / "srv" / "code").mkdir(parents=True)
    (home / "old" / "etc" / "pki").mkdir(parents=True)
    srv, etc = home / "old" / "srv", home / "old" / "etc"
    (srv / "top.sls").write_text("base: {}\n")
    (srv / "a name, with signs").write_text("x" * 100_000)
    (srv / "left.pyc").write_text("old")
    os.link(srv / "top.sls", srv / "the same")
    (srv / "link").symlink_to("top.sls")
    (srv / "nowhere").symlink_to("/nowhere/at/all")
    os.chown(srv / "top.sls", 1234, 2345)
    os.setxattr(srv / "top.sls", "user.origin", b"old")
    (etc / "pki" / "master.pem").write_text("secret")
    (etc / "pki" / "master.pem").chmod(0o400)
    (etc / "pki").chmod(0o700)
    (etc / "minion").write_text("id: old")
    # Its own minion stays.
    (home / "new" / "etc").mkdir(parents=True)
    (home / "new" / "etc" / "minion").write_text("id: new")
    for line in ("init -q", "add top", "-c user.name=a -c user.email=a@b commit -qm one"):
        (srv / "code" / "top").write_text("one")
        subprocess.run(["git", "-C", str(srv / "code"), *line.split()], check=True)
    (srv / "code" / "top").write_text("two")
    return home


@pytest.fixture(scope="module")
def master(home: Path) -> Iterator[SaltMaster]:
    with SaltMaster(pillar(home)) as running, running.accepted_minion(NEW):
        assert running.answers(NEW)
        yield running


def prepare(master: SaltMaster, *more: str) -> Ran:
    return master.run(*ORCHESTRATE, *more, timeout=240)


def state(ran: Ran) -> dict[str, Any]:
    return ran.states["prepare"]


def listing(root: Path) -> set[tuple[Any, ...]]:
    """Everything below a folder, as `stat` and friends see it."""
    found = set()
    for path in root.rglob("*"):
        is_link, is_file = path.is_symlink(), path.is_file() and not path.is_symlink()
        at = path.lstat()
        found.add(
            (
                str(path.relative_to(root)), at.st_mode, at.st_uid, at.st_gid,
                at.st_nlink if is_file else 0,
                str(path.readlink()) if is_link else None,
                path.read_bytes() if is_file else None,
                tuple((name, os.getxattr(path, name)) for name in ([] if is_link else os.listxattr(path))),
            )
        )  # fmt: skip
    return found


def test_every_file_moves_as_it_is(home: Path, master: SaltMaster) -> None:
    planned = prepare(master, "test=True")
    assert planned.rc == 0, planned.stdout
    assert "deployment.files" in state(planned)["changes"]
    assert f"1 changes in {home}/old/srv/code that nobody committed" in str(
        state(planned)["comment"]
    )
    assert not (home / "new" / "srv").exists()
    assert not (home / "carry").exists()

    before = listing(home / "old")
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert listing(home / "old") == before
    (home / "old/srv/left.pyc").unlink()
    assert listing(home / "new" / "srv") == listing(home / "old" / "srv")
    assert (home / "new/etc/minion").read_text() == "id: new"
    assert listing(home / "new/etc/pki") == listing(home / "old/etc/pki")

    again = prepare(master)
    assert again.rc == 0, again.stdout
    assert state(again)["changes"] == {}


def test_another_run_brings_what_changed_and_what_only_a_hash_can_tell(
    home: Path, master: SaltMaster
) -> None:
    here, there = home / "old" / "srv", home / "new" / "srv"
    (here / "later").write_text("later")
    (here / "nowhere").unlink()
    (there / "top.sls").chmod(0o640)
    (there / "only here").write_text("a-word-of-its-own-4711")
    for number in range(25):
        (here / f"z{number:02}").touch()
    # Of the same size and time: neither a listing nor rsync would see it.
    at = (there / "a name, with signs").stat()
    (there / "a name, with signs").write_text("y" * 100_000)
    os.utime(there / "a name, with signs", ns=(at.st_atime_ns, at.st_mtime_ns))
    planned = prepare(master, "test=True")
    names = (
        f"{here} differs from {MINION}: a name, with signs (contents), later (only on {MINION}), "
        f"nowhere (only on {NEW}), only here (only on {NEW}), the same (mode), top.sls (mode), "
    )
    assert names in str(state(planned)["comment"])
    assert f"z13 (only on {MINION}) and 11 more" in str(state(planned)["comment"])
    assert "a-word-of-its-own-4711" not in planned.stdout + planned.stderr
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert listing(there) == listing(here)
    assert set(state(ran)["changes"]) == {"deployment.files"}


def test_what_does_not_become_alike_is_named(home: Path, master: SaltMaster) -> None:
    busy, over = home / "new" / "srv" / "busy", threading.Event()

    def write() -> None:
        while not over.wait(0.001):
            busy.touch()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        ran = prepare(master)
    finally:
        over.set()
        writer.join()
        busy.unlink(missing_ok=True)
    assert ran.rc == 1
    differs = f"after two passes it differs from {MINION} in {home}/old/srv: busy (only on {NEW})"
    assert differs in str(state(ran)["comment"])


def test_a_tree_that_is_not_there_is_named_before_anything_moves(
    home: Path, master: SaltMaster
) -> None:
    settings = pillar(home)
    nothing = {"old": str(home / "old" / "nothing"), "new": str(home / "new" / "nothing")}
    settings["prepare"]["deployment"]["paths"].append(nothing)
    master.set_pillar(settings)
    (home / "old" / "srv" / "more").write_text("to be moved")
    try:
        ran = prepare(master)
    finally:
        master.set_pillar(pillar(home))
    assert ran.rc == 1
    assert f"{MINION}: there is no {home}/old/nothing" in str(state(ran)["comment"])
    assert not (home / "new" / "nothing").exists()
    assert not (home / "new" / "srv" / "more").exists()
    (home / "old" / "srv" / "more").unlink()


def test_nobody_else_may_write_while_files_come_in(home: Path, master: SaltMaster) -> None:
    # The worker takes files from one certificate alone.
    carry = home / "carry"
    settings = carry / "deployment-take" / "settings"
    assert "ROLE='take'" in settings.read_text()
    start = [str(carry / "carry.sh"), "start", "deployment-take"]
    subprocess.run(start, check=True)
    try:
        subprocess.run(["sh", "-c", _STRANGER], cwd=home, check=True, capture_output=True)
        way = "socat - OPENSSL:127.0.0.52:14445,retry=20,interval=0.1,cert=both,verify=0"
        stranger = subprocess.run(
            ["rsync", "-a", "both", "rsync://127.0.0.52/tree1/"],
            env=os.environ | {"RSYNC_CONNECT_PROG": way},
            cwd=home,
            capture_output=True,
            timeout=30,
            check=False,
        )
    finally:
        subprocess.run([str(carry / "carry.sh"), "reset", "deployment-take"], check=True)
    assert stranger.returncode != 0
    assert not (home / "new" / "srv" / "both").exists()


_STRANGER = """\
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=saltext-migrate-carry -keyout key -out cert
cat key cert > both
"""


# -- the site's own states ------------------------------------------------------------------------


def with_states(home: Path, master: SaltMaster, old: str, new: str) -> None:
    (master.states / "top.sls").write_text(f"base:\n  {MINION}: [old]\n  {NEW}: [new]\n")
    (master.states / "old.sls").write_text(old)
    (master.states / "new.sls").write_text(new)
    told = pillar(home)
    told["prepare"] = {
        "highstate": {"old": ["deployment"], "new": ["deployment"]},
        "deadlines": {"host": 300_000},
    }
    master.set_pillar(told)


def test_the_sites_own_states_run_until_they_rest(home: Path, master: SaltMaster) -> None:
    file = home / "made"
    good = f"{file}:\n  file.managed:\n    - contents: here\n"
    # The first run fails, for it makes what it needs.
    needs = f"before:\n  cmd.run:\n    - name: test -e {file}\n    - unless: test -e {file}\n    - order: 1\n"

    with_states(home, master, "{{ nonsense.of(", good)
    ran = prepare(master)
    assert ran.rc == 1
    assert "the states do not render" in str(state(ran)["comment"])
    assert not file.exists()

    with_states(home, master, good.replace(str(file), str(home / "elsewhere")), needs + good)
    ran = prepare(master)
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert "1 states would change something, or fail" in str(state(ran)["comment"])
    assert not (home / "elsewhere").exists()
    assert file.read_text() == "here\n"
    assert set(state(ran)["changes"]) == {"highstate.new-deployment"}
    assert state(prepare(master))["changes"] == {}

    with_states(home, master, good, needs + good + "always:\n  cmd.run:\n    - name: 'true'\n")
    ran = prepare(master)
    assert ran.rc == 1
    assert "states that never come to rest: cmd.run always" in str(state(ran)["comment"])
