"""Files that people write through the site move with it, and back: nobody's picture is lost, and none is taken away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import world
from tests.lab.direct import DRILL
from tests.lab.loopback import MINION, Chain
from tests.lab.sabotage import journal
from tests.lab.salt import Ran, SaltMaster

ADDRESSES = {"old": "127.0.0.14", "new": "127.0.0.24"}
STALE = 1_700_000_000


class Storage:
    """A folder of people's files on each side; one machine plays both nodes."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.home = chain.state / "storage"
        shutil.rmtree(self.home, ignore_errors=True)
        self.old, self.new = self.home / "old" / "images", self.home / "new" / "images"
        self.old.mkdir(parents=True)

    def pillar(self) -> dict[str, Any]:
        pillar = self.chain.pillar()
        for side, address in ADDRESSES.items():
            pillar["nodes"][side]["storage1"] = {"private": address, "minion": MINION}
        pillar["prepare"] = {}
        pillar["uploads"] = {
            "wiki": {
                "old": "storage1",
                "new": "storage1",
                "port": 14446,
                "folder": str(self.home / "carry"),
                "paths": [{"old": str(self.old), "new": str(self.new)}],
                "exclude": [str(self.old / "thumb")],
            }
        }
        return pillar

    def files(self, side: str) -> dict[str, str]:
        root = self.old if side == "old" else self.new
        return {
            str(path.relative_to(root)): path.read_text()
            for path in root.rglob("*")
            if path.is_file()
        }

    @contextlib.contextmanager
    def people(self, side: str, obey: bool = True) -> Iterator[dict[str, str]]:
        """Uploads one picture after another, until the side's notice is up where people obey; yields what was kept."""
        root, notice = (self.old if side == "old" else self.new), self.chain.notice_path(side)
        kept: dict[str, str] = {}
        over = threading.Event()

        def upload() -> None:
            number = 0
            while not over.is_set() and not (obey and notice.exists()):
                number += 1
                name = f"{number % 16:x}/by-people-{side}-{number}.png"
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_text(f"picture {number} of {side}")
                kept[name] = f"picture {number} of {side}"
                time.sleep(0.01)

        uploader = threading.Thread(target=upload)
        uploader.start()
        try:
            yield kept
        finally:
            over.set()
            uploader.join()


@pytest.fixture(scope="module")
def storage(chain: Chain) -> Iterator[Storage]:
    chain.reset()
    yield Storage(chain)
    chain.reset()


@pytest.fixture(scope="module")
def master(storage: Storage) -> Iterator[SaltMaster]:
    with SaltMaster(storage.pillar()) as running:
        yield running


def run(master: SaltMaster, phase: str, *more: str) -> Ran:
    return master.run("state.orchestrate", f"migrate.{phase}", *more, timeout=240)


def state(ran: Ran, phase: str) -> dict[str, Any]:
    return ran.states[phase]


def found(master: SaltMaster, phase: str) -> list[dict[str, Any]]:
    answer = master.run("migrate.preflight", phase).answer
    return [finding for finding in answer if finding["topic"] == "uploads"]


def test_a_flip_without_what_carries_files_is_refused(storage: Storage, master: SaltMaster) -> None:
    (storage.old / "a").mkdir()
    (storage.old / "a" / "Castle.png").write_text("castle")
    ran = run(master, "flip")
    assert ran.rc != 0
    assert f"nothing that carries files is on it, or on {MINION}" in str(state(ran, "flip"))
    assert "state.orchestrate migrate.prepare" in str(state(ran, "flip"))
    assert world.writable(storage.chain) == ["old-db1"]


def test_prepare_brings_them_while_people_upload_and_takes_nothing(
    storage: Storage, master: SaltMaster
) -> None:
    castle = storage.old / "a" / "Castle.png"
    os.chown(castle, 1234, 2345)
    os.utime(castle, (STALE, STALE))
    (storage.old / "thumb").mkdir()
    (storage.old / "thumb" / "Castle-120px.png").write_text("made anew over there")
    storage.new.mkdir(parents=True)
    (storage.new / "only-here.png").write_text("only here")
    planned = run(master, "prepare", "test=True")
    assert "uploads.wiki" in state(planned, "prepare")["changes"]
    # Where the site's states run on that node they come first: they mount the volume.
    pillar = storage.pillar()
    pillar["prepare"] = {"highstate": {"old": [], "new": ["storage1"]}}
    master.set_pillar(pillar)
    (master.states / "top.sls").write_text("base:\n  '*': [site]\n")
    (master.states / "site.sls").write_text(
        f"{storage.home}/site:\n  file.managed: [{{contents: x}}]\n"
    )
    steps = [change["step"] for change in master.run("migrate.plan", "prepare").answer["changes"]]
    assert steps.index("highstate.new-storage1") < steps.index("uploads.wiki")
    master.set_pillar(storage.pillar())
    assert list(storage.files("new")) == ["only-here.png"]
    with storage.people("old") as kept:
        ran = run(master, "prepare")
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert (storage.new / "a" / "Castle.png").stat().st_uid == 1234
    assert (storage.new / "a" / "Castle.png").stat().st_mtime == STALE
    assert storage.files("new")["only-here.png"] == "only here"
    assert not (storage.new / "thumb").exists()
    # What came after the passes is the next run's.
    assert kept
    assert run(master, "prepare").rc == 0
    assert kept.items() <= storage.files("new").items()
    assert state(run(master, "prepare"), "prepare")["changes"] == {}


def test_whoever_uploads_until_the_notice_has_it_on_the_other_side(
    storage: Storage, master: SaltMaster
) -> None:
    (storage.old / "z-late.png").write_text("late")
    (finding,) = found(master, "flip")
    assert not finding["blocking"]
    assert f"gets them before anybody waits: {storage.old}/z-late.png" in finding["found"]
    moved(storage, master, "flip", "old", "new")
    assert run(master, "flip", "test=True").states["flip"]["changes"] == {}
    # People go on over there; a prepare brings nothing of the side that they left, and keeps the way back open.
    (storage.home / "carry" / "carry.sh").unlink()
    assert any("nothing that carries files" in f["found"] for f in found(master, "revert"))
    (storage.new / "a" / "Castle.png").write_text("castle, by day")
    (storage.new / "z-late.png").unlink()
    (storage.old / "a" / "Castle.png").write_text("of somebody on the old side")
    assert "uploads.wiki" not in state(run(master, "prepare"), "prepare")["changes"]
    assert storage.files("new")["a/Castle.png"] == "castle, by day"
    os.utime(storage.old / "a" / "Castle.png", (STALE, STALE))
    moved(storage, master, "revert", "new", "old")
    files = storage.files("old")
    assert files["a/Castle.png"] == "castle, by day"
    assert files["z-late.png"] == "late", "nothing is taken away"
    assert files["thumb/Castle-120px.png"] == "made anew over there"


def moved(storage: Storage, master: SaltMaster, phase: str, side: str, other: str) -> None:
    with storage.people(side) as kept:
        ran = run(master, phase)
    assert ran.rc == 0, ran.stdout + ran.stderr
    assert len(kept) > 10
    assert kept.items() <= storage.files(other).items(), (phase, "an upload is lost")
    (told,) = master.run("migrate.report").answer["runs"]
    steps = {step["id"]: step["result"] for step in told["steps"]}
    assert steps["uploads.wiki.ahead"] == steps["uploads.wiki"] == "done"


def test_a_pass_that_fails_before_anybody_waits_takes_the_run_back(
    storage: Storage, master: SaltMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DRILL, "fail-after:uploads.wiki.ahead")
    ran = run(master, "flip")
    assert str(state(ran, "flip")["comment"]).startswith("aborted:")
    assert world.writable(storage.chain) == ["old-db1"]


def test_who_writes_in_spite_of_the_notice_is_told_of_and_the_same_command_ends_it(
    storage: Storage, master: SaltMaster
) -> None:
    with storage.people("old", obey=False) as kept:
        ran = run(master, "flip")
        assert ran.rc != 0
        said = str(state(ran, "flip")["comment"])
        assert said.startswith("stopped:"), said
        assert f"{MINION}: somebody still writes there, though its notice is up" in said
        assert "by-people-old-" in said
        # People wait for none of it.
        assert world.writable(storage.chain) == ["new-db1"]
        assert not storage.chain.notice_path("new").exists()
    ran = run(master, "flip")
    assert ran.rc == 0, ran.stdout
    assert kept.items() <= storage.files("new").items()


def test_a_lot_whose_node_is_gone_for_good_holds_nothing_up_once_the_pillar_loses_it(
    storage: Storage, master: SaltMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DRILL, "fail-before:uploads.wiki")
    assert run(master, "revert").rc != 0
    monkeypatch.delenv(DRILL)
    assert world.writable(storage.chain) == ["old-db1"]
    pillar = storage.pillar()
    del pillar["uploads"]
    master.set_pillar(pillar)
    try:
        ran = run(master, "revert")
    finally:
        master.set_pillar(storage.pillar())
    assert ran.rc == 0, ran.stdout


def test_a_folder_that_is_not_there_is_named_before_anybody_waits(
    storage: Storage, master: SaltMaster
) -> None:
    pillar = storage.pillar()
    nowhere = str(storage.home / "nowhere")
    pillar["uploads"]["wiki"]["paths"].append(nowhere)
    master.set_pillar(pillar)
    try:
        findings = found(master, "flip")
        prepared = run(master, "prepare")
    finally:
        master.set_pillar(storage.pillar())
    assert f"there is no {nowhere}" in str(state(prepared, "prepare")["comment"])
    assert [f["found"] for f in findings if f["blocking"]] == [f"there is no {nowhere}"]
    assert not Path(nowhere).exists()


class Carrying:
    """Two ends of one host that carry one tree to another; the end that pushes has an rsync of the test's."""

    def __init__(self, storage: Storage, home: Path) -> None:
        self.home = home
        self.carry, self.old, self.new = (home / name for name in ("carry", "old", "new"))
        shutil.copytree(
            storage.home / "carry", self.carry, ignore=shutil.ignore_patterns("uploads-*")
        )
        self.old.mkdir()
        self.new.mkdir()

    @contextlib.contextmanager
    def under_way(self, pushing: str, exclude: str = "") -> Iterator[None]:
        """A pass; what `pushing` says runs in a shell with rsync's arguments. Ends once the pass has."""
        shim = self.home / "bin" / "rsync"
        shim.parent.mkdir()
        rsync = shutil.which("rsync")
        shim.write_text(
            f'#!/bin/sh\nrsync={rsync}\ncase "$*" in *--server*) exec $rsync "$@";; esac\n{pushing}\n'
        )
        shim.chmod(0o755)
        told = {"PEER": (self.carry / "cert.pem").read_text(), "ADDRESS": "127.0.0.24"}
        told |= {"PORT": "14447", "LIMIT": "60", "EXCLUDE": exclude, "ADD": "1"}
        for role, paths in (("take", self.new), ("push", self.old)):
            settings = told | {"ROLE": role, "PATHS": str(paths)}
            lines = "".join(f"{name}='{value}'\n" for name, value in settings.items())
            environment = {"SETTINGS": lines, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
            subprocess.run([self.carry / "carry.sh", "start", role], env=environment, check=True)
        try:
            yield
            asked = [self.carry / "carry.sh", "status", "push", "60"]
            said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        finally:
            subprocess.run([self.carry / "carry.sh", "reset", "take"], check=True)
        assert "state=done" in said, said


def test_files_that_vanish_while_they_are_carried_end_nothing(
    storage: Storage, tmp_path: Path
) -> None:
    carrying = Carrying(storage, tmp_path)
    (carrying.old / "stays.png").write_text("stays")
    # One that is gone when its turn comes: rsync calls that an error.
    once = f"[ -e {tmp_path}/once ] && exit $code\n: >{tmp_path}/once"
    pushing = f'$rsync "$@"; code=$?\n{once}; touch {carrying.old}/renamed.png; exit 24'
    with carrying.under_way(pushing):
        pass
    assert sorted(path.name for path in carrying.new.iterdir()) == ["renamed.png", "stays.png"]


def test_what_is_uploaded_anew_while_its_older_self_comes_in_stays(
    storage: Storage, tmp_path: Path
) -> None:
    carrying = Carrying(storage, tmp_path)
    old, new = carrying.old, carrying.new
    (old / "d").mkdir()
    (old / "a.png").write_bytes(os.urandom(800_000))
    for name in ("b.png", "c.png", "d/e.png", "#recycle"):
        (old / name).write_text("of the old side")
    (old / "to-folder").mkdir()
    (old / "link").symlink_to("b.png")
    (old / "to-link").symlink_to("b.png")
    for name in ("b.png", "c.png", "d/e.png", "link", "to-link"):
        os.utime(old / name, (STALE, STALE), follow_symlinks=False)
    os.utime(old / "to-folder", (STALE, STALE))
    # What is newer, and another kind of thing: rsync asks for no times there.
    (new / "link").symlink_to("c.png")
    for name in ("to-link", "to-folder"):
        (new / name).write_text("a file by now")
    with carrying.under_way('exec $rsync --bwlimit=400 "$@"', exclude="#recycle\nnew*\nold*"):
        # It has looked at all of them, and the large one is on its way.
        deadline = time.monotonic() + 60
        while not any(new.glob(".a.png.*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (new / "b.png").write_text("uploaded anew")
        (new / "d").mkdir(exist_ok=True)
        (new / "d/e.png").write_text("uploaded anew")
    assert (new / "a.png").read_bytes() == (old / "a.png").read_bytes()
    assert [(new / name).read_text() for name in ("b.png", "d/e.png")] == ["uploaded anew"] * 2
    assert (new / "c.png").read_text() == "of the old side"
    assert str((new / "link").readlink()) == "c.png"
    assert (new / "to-link").read_text() == "a file by now"
    assert (new / "to-folder.newer").read_text() == "a file by now"
    assert not (new / "#recycle").exists()
    assert not any(new.glob(".saltext*"))
    # A pattern that the tree's own name fits leaves out nothing but what is in it.
    told = {
        "PATHS": str(new),
        "TREES": str(new),
        "PARTS": "all",
        "FACTS": "times",
        "EXCLUDE": "ne[w]",
    }
    manifest = [carrying.carry / "carry.sh", "manifest"]
    said = subprocess.run(
        manifest, env=os.environ | told, check=True, capture_output=True, text=True
    )
    assert "part=" in said.stdout


def test_two_that_ask_for_the_certificate_at_once_are_told_the_same(
    storage: Storage, tmp_path: Path
) -> None:
    carry = Carrying(storage, tmp_path).carry
    for _ in range(8):
        for kept in carry.glob("*.pem"):
            kept.unlink()
        asking = [
            subprocess.Popen([carry / "carry.sh", "identity"], stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        told = {process.communicate(timeout=60)[0] for process in asking}
        assert told == {(carry / "cert.pem").read_bytes()}
        fits = ["openssl", "x509", "-in", carry / "cert.pem", "-noout", "-pubkey"]
        public = subprocess.run(fits, check=True, capture_output=True).stdout
        key = ["openssl", "pkey", "-in", carry / "key.pem", "-pubout"]
        assert subprocess.run(key, check=True, capture_output=True).stdout == public


def test_a_node_that_does_not_answer_is_one_finding_among_all(
    storage: Storage, master: SaltMaster
) -> None:
    pillar = storage.pillar()
    pillar["nodes"]["new"]["storage1"]["minion"] = "silent"
    master.set_pillar(pillar)
    try:
        findings = master.run("migrate.preflight", "flip").answer
    finally:
        master.set_pillar(storage.pillar())
    assert {(f["topic"], f["subject"]) for f in findings if f["blocking"]} == {
        ("hosts", "minions"),
        ("uploads", "silent"),
    }


def test_a_run_that_died_carries_what_came_meanwhile(
    storage: Storage, master: SaltMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (storage.old / "first.png").write_text("first")
    assert run(master, "prepare").rc == 0
    records = [json.loads(line) for line in journal(storage.pillar()).read_text().splitlines()]
    done = [record["record"] == "done" and record["step"] == "uploads.wiki" for record in records]
    (storage.old / "before.png").write_text("before")
    monkeypatch.setenv(DRILL, f"crash-after:{done.index(True) + 1}")
    assert run(master, "prepare").rc != 0
    assert "before.png" in storage.files("new")
    monkeypatch.delenv(DRILL)
    (storage.old / "meanwhile.png").write_text("meanwhile")
    ran = run(master, "prepare")
    assert ran.rc == 0, ran.stdout
    assert {"before.png", "meanwhile.png"} <= storage.files("new").keys()


def test_a_file_is_missed_among_more_than_a_message_tells_of(
    storage: Storage, master: SaltMaster
) -> None:
    # In the last part of the manifest, and every part before it differs too.
    name = max((f"last-{number}.png" for number in range(999)), key=part)
    (storage.old / name).write_text("last")
    many = storage.new / "many"
    many.mkdir()
    for number in range(6000):
        (many / f"{'over-there-' * 6}{number}.png").touch()
    try:
        ran = run(master, "prepare")
        assert ran.rc == 0, ran.stdout
        assert "uploads.wiki" in state(ran, "prepare")["changes"]
        assert storage.files("new")[name] == "last"
    finally:
        shutil.rmtree(many)


def part(path: str) -> int:
    """The part of a manifest in which a path is, as carry.sh cuts it."""
    found = 0
    for sign in path.encode():
        found = (found * 31 + sign) % 1021
    return found


def test_links_old_times_and_odd_names(
    storage: Storage, master: SaltMaster, tmp_path: Path
) -> None:
    (tmp_path / "behind.png").write_text("behind")
    (storage.old / "archive").symlink_to(tmp_path)
    (storage.old / "inside").symlink_to("a")
    (storage.old / "put-back.png").write_text("as it was in June, put back")
    os.utime(storage.old / "put-back.png", (STALE, STALE))
    (storage.new / "put-back.png").write_text("of July")
    (storage.old / "odd\tname\n.png").write_text("odd")
    # A folder that is itself a link, and on the other side lies where nothing is yet.
    volume, link = storage.home / "volume", storage.home / "mounted"
    volume.mkdir()
    link.symlink_to(volume)
    (volume / "behind-the-link.png").write_text("there")
    beyond = storage.home / "not-there-yet" / "below"
    pillar = storage.pillar()
    pillar["uploads"]["wiki"]["paths"].append({"old": str(link), "new": str(beyond)})
    master.set_pillar(pillar)
    try:
        told = [finding["found"] for finding in found(master, "flip")]
        (links,) = [words for words in told if "links lead out" in words]
        assert links.endswith(f": {storage.old}/archive")
        (kept,) = [words for words in told if "newer, so they stay" in words]
        assert kept.endswith(f": {storage.old}/put-back.png")
        (lacking,) = [words for words in told if "it lacks files" in words]
        assert "odd\\tname\\n.png" in lacking
        assert f"{link}/behind-the-link.png" in lacking
        assert run(master, "prepare").rc == 0
        assert storage.files("new")["odd\tname\n.png"] == "odd"
        assert (beyond / "behind-the-link.png").read_text() == "there"
        assert beyond.parent.stat().st_mode & 0o777 == 0o755
        assert not any("it lacks" in finding["found"] for finding in found(master, "flip"))
    finally:
        master.set_pillar(storage.pillar())
        for side in (storage.old, storage.new):
            (side / "archive").unlink(missing_ok=True)


def test_a_manifest_that_breaks_off_is_none(storage: Storage, tmp_path: Path) -> None:
    shim = tmp_path / "find"
    shim.write_text(f'#!/bin/sh\n{shutil.which("find")} "$@"\nexit 1\n')
    shim.chmod(0o755)
    told = {"PATHS": str(storage.old), "TREES": str(storage.old), "PARTS": "all", "FACTS": "times"}
    carry = [storage.home / "carry" / "carry.sh", "manifest"]
    whole = subprocess.run(carry, env=os.environ | told, check=True, capture_output=True, text=True)
    assert "part=" in whole.stdout
    # More links out of it than are named are no failure.
    links = tmp_path / "links"
    links.mkdir()
    for number in range(300):
        (links / f"{number}").symlink_to("/nowhere")
    many = os.environ | told | {"PATHS": str(links), "TREES": str(links)}
    named = subprocess.run(carry, env=many, check=True, capture_output=True, text=True)
    assert named.stdout.count("outside=") == 20
    broken = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(carry, env=told | broken, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"not all of {storage.old} can be read" in done.stderr
    assert not list((storage.home / "carry").glob("manifest.*"))
