"""The test site: a mirror that people may try and cannot change, and what is handed over when the site moves."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymysql.err import OperationalError

from tests.lab import direct, world
from tests.lab.loopback import Chain
from tests.lab.salt import COMMANDS, REPOSITORY, SaltMaster

NOTICE = "This is a test site: edits are not saved."
# The init system of a host that has none: a unit is a folder, and what it is are files there.
UNITS = """
    from pathlib import Path

    def _unit(name):
        return Path(__opts__["lab_units"], name)

    def _is(word):
        return lambda name, *more, **keywords: (_unit(name) / word).exists()

    def _make(word, there):
        def make(name, *more, **keywords):
            (_unit(name) / word).touch() if there else (_unit(name) / word).unlink(missing_ok=True)
            return True
        return make

    def available(name):
        return _unit(name).is_dir()

    status, enabled = _is("running"), _is("enabled")
    start, stop = _make("running", True), _make("running", False)
    enable, disable = _make("enabled", True), _make("enabled", False)

    def disabled(name, **keywords):
        return not enabled(name)

    def offline():
        return False
"""


class House:
    """The files of both sides' hosts, which are one host here."""

    def __init__(self, folder: Path, chain: Chain) -> None:
        self.folder = folder
        self.crons = {side: folder / side / "runjobs" for side in ("old", "new")}
        for cron in self.crons.values():
            cron.parent.mkdir()
            cron.write_text("7 * * * * www-data /usr/bin/true\n")
        self.backup = folder / "backup"
        self.backup.write_text("1 1 * * * root /usr/bin/true\n")
        self.noindex = folder / "noindex.conf"
        self.lock = folder / "deploy.lock"
        self.pillar = chain.pillar() | {
            "test": {
                "notice": NOTICE,
                "noindex": {"path": str(self.noindex)},
                "announcement": {"when": "Sunday, 04:00 UTC", "contact": "ops@example.org",
                                 "limits": ["searching"]},
            },
            "vhosts": {"docs": {"hosts": ["docs.example.org"], "node": "app1"}},
            "freeze": {"lock": str(self.lock), "nodes": ["app1"], "highstate": True,
                       "crons": [str(self.backup)]},
        }  # fmt: skip

    def running(self) -> list[str]:
        """The sides whose job runner's cron is read."""
        return [side for side, cron in self.crons.items() if cron.exists()]


@pytest.fixture
def house(fresh_chain: Chain, salt_master: SaltMaster, tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, fresh_chain)
    salt_master.set_pillar(house.pillar)
    yield house
    salt_master.set_pillar(fresh_chain.pillar())


def disabled(master: SaltMaster) -> Any:
    return master.call_minion("grains.get", "state_runs_disabled").data


def test_the_test_site_stands_and_the_flip_and_the_revert_hand_over(
    house: House, fresh_chain: Chain, salt_master: SaltMaster
) -> None:
    planned = salt_master.run("state.orchestrate", "migrate.test", "test=True")
    assert planned.rc == 0, planned.stdout
    changes = planned.states["test"]["changes"]
    assert changes.keys() == {"notice.new", "noindex"}
    assert not house.noindex.exists()
    assert fresh_chain.notice_path("new").exists() is False

    done = salt_master.run("state.orchestrate", "migrate.test")
    assert done.rc == 0, done.stdout
    assert fresh_chain.notice_path("new").read_text() == f"{NOTICE}\n"
    assert "noindex" in house.noindex.read_text()
    again = salt_master.run("migrate.test")
    assert (again.rc, again.answer["verdict"]) == (0, "unchanged")
    assert salt_master.run("migrate.plan", "test").answer["changes"] == []

    # Frozen through window and soak; the test's traces on the new side go.
    flipped = salt_master.run("migrate.flip")
    assert flipped.rc == 0, flipped.stdout
    assert not house.noindex.exists()
    assert not fresh_chain.notice_path("new").exists()
    assert "being moved" in house.lock.read_text()
    assert not house.backup.exists()
    assert disabled(salt_master) == ["highstate"]
    refused = salt_master.call_minion("state.highstate")
    assert "disabled" in json.dumps(refused.data)
    assert salt_master.run("migrate.plan").answer["changes"] == []
    # The new side serves: a test would fence it.
    late = salt_master.run("migrate.test")
    assert late.rc == 1
    assert "refuses writes" in late.stdout
    assert "follows nobody" in late.stdout
    assert world.writable(fresh_chain) == ["new-db1"]

    assert salt_master.run("migrate.revert").rc == 0
    assert not house.lock.exists()
    assert house.backup.exists()
    assert not disabled(salt_master)
    assert salt_master.run("migrate.plan", "revert").answer["changes"] == []


def test_prepare_says_that_the_new_side_keeps_nothing_until_it_serves(
    house: House, fresh_chain: Chain, salt_master: SaltMaster, tmp_path: Path
) -> None:
    notice = fresh_chain.notice_path("new")
    states = {name: salt_master.states / f"{name}.sls" for name in ("top", "app")}
    states["top"].write_text("base:\n  '*': [app]\n")
    states["app"].write_text(f"{tmp_path}/app:\n  file.managed:\n    - contents: here\n")
    pillar = {key: value for key, value in house.pillar.items() if key not in ("freeze", "test")}
    pillar["prepare"] = {"highstate": {"old": [], "new": ["app1"]}, "deadlines": {"host": 300_000}}
    try:
        salt_master.set_pillar(pillar)
        ran = salt_master.run("state.orchestrate", "migrate.prepare")
        assert ran.rc == 0, ran.stdout
        assert ran.states["prepare"]["changes"].keys() == {"highstate.new-app1", "notice.new"}
        assert notice.read_text() == f"{NOTICE}\n"
        assert salt_master.run("migrate.prepare").answer["verdict"] == "unchanged"
        notice.write_text("words of somebody else\n")
        assert salt_master.run("migrate.prepare").answer["verdict"] == "unchanged"
        assert salt_master.run("migrate.flip").rc == 0
        assert not notice.exists()
        # Somebody adds a node, while people save.
        assert salt_master.run("migrate.prepare").answer["verdict"] == "unchanged"
        assert not notice.exists()
        assert salt_master.run("migrate.revert").rc == 0
    finally:
        for state in states.values():
            state.unlink()


def test_what_runs_on_one_side_alone_is_handed_over_by_file(
    house: House, salt_master: SaltMaster
) -> None:
    # One host plays both sides, so each side's cron is a singleton of a host of its own here.
    state = {"saltext_migrate": {"singletons": {"jobs": {"node": "app1", "cron": str(house.crons["new"])}},
                                 "held": True}}  # fmt: skip
    for held in (True, False, False):
        state["saltext_migrate"]["held"] = held
        told = json.dumps(state)
        tried = salt_master.call_minion(
            "state.apply", "migrate.host.singletons", f"pillar={told}", "test=True"
        )
        before = house.running()
        results = [one["result"] for one in tried.data.values()]
        assert results == [True if ("new" not in before) == held else None]
        done = salt_master.call_minion("state.apply", "migrate.host.singletons", f"pillar={told}")
        assert [one["result"] for one in done.data.values()] == [True]
        assert ("new" in house.running()) is not held


def test_what_runs_on_one_side_alone_is_handed_over_by_service(tmp_path: Path) -> None:
    # Salt looks for modules in a folder of that name.
    unit, modules = tmp_path / "units" / "mw-jobs", tmp_path / "modules"
    for folder in (unit, modules):
        folder.mkdir(parents=True)
    (modules / "lab_units.py").write_text(textwrap.dedent(UNITS))
    minion = {
        "root_dir": str(tmp_path),
        "module_dirs": [str(tmp_path)],
        "lab_units": str(unit.parent),
    }
    minion["providers"] = {"service": "lab_units"}
    (tmp_path / "minion").write_text(json.dumps(minion))

    def applied(held: bool, *more: str) -> tuple[bool | None, set[str]]:
        """How the state ended, and what the unit is then."""
        singletons = {"jobs": {"node": "app1", "service": "mw-jobs"}}
        told = {"saltext_migrate": {"singletons": singletons, "held": held}}
        ran = subprocess.run(
            [COMMANDS / "salt-call", "--local", "-c", tmp_path, "--out=json", "-l", "quiet"]
            + [f"--file-root={REPOSITORY / 'salt'}", "state.apply", "migrate.host.singletons"]
            + [f"pillar={json.dumps(told)}", *more],
            capture_output=True,
            text=True,
        )
        (state,) = json.loads(ran.stdout)["local"].values()
        return state["result"], {path.name for path in unit.iterdir()}

    for word in ("running", "enabled"):
        (unit / word).touch()
    assert applied(True, "test=True") == (None, {"running", "enabled"})
    # Neither now nor after a reboot.
    assert applied(True) == (True, set())
    assert applied(True, "test=True") == (True, set())
    assert applied(False) == (True, {"running", "enabled"})


def test_they_are_held_on_the_new_side_while_people_test(
    house: House, salt_master: SaltMaster
) -> None:
    jobs = {"node": "app1", "cron": str(house.crons["new"])}
    salt_master.set_pillar(house.pillar | {"singletons": {"jobs": jobs}})
    done = salt_master.run("state.orchestrate", "migrate.test")
    assert done.rc == 0, done.stdout
    changes = done.states["test"]["changes"]
    assert changes.keys() == {"notice.new", "noindex", "singletons.new-app1"}
    assert house.running() == ["old"]
    assert salt_master.run("migrate.plan", "test").answer["changes"] == []


def test_singletons_go_with_the_site(
    house: House, salt_master: SaltMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both sides are one host here, and the new one's cron ran already: so only the old one's half is seen.
    settings = house.pillar | {
        "singletons": {"jobs": {"node": "app1", "cron": str(house.crons["old"])}}
    }
    salt_master.set_pillar(settings)
    # A flip that is taken back lets everything go on; a lock of somebody else is no work of its own.
    house.lock.write_text("we mend something\n")
    with monkeypatch.context() as patch:
        patch.setenv(direct.DRILL, "fail-before:fence")
        failed = salt_master.run("migrate.flip")
    assert failed.rc == 1
    assert "aborted" in failed.stdout
    done_steps = {line.split()[2] for line in failed.stderr.splitlines() if "  done  " in line}
    assert {"freeze.databases", "singletons.old-app1"} <= done_steps
    assert house.crons["old"].exists()
    assert house.backup.exists()
    assert house.lock.read_text() == "we mend something\n"
    house.lock.unlink()
    assert not disabled(salt_master)

    done = salt_master.run("migrate.flip")
    assert done.rc == 0, done.stdout
    steps = [s["id"] for s in done.answer["report"]["runs"][0]["steps"]]
    assert steps.index("singletons.old-app1") < steps.index("fence")
    cron = house.crons["old"]
    held = cron.with_name("runjobs.held")
    assert held.exists()
    assert not cron.exists()
    assert salt_master.run("migrate.revert").rc == 0
    assert cron.exists()
    cron.unlink()
    blocked = salt_master.run("migrate.preflight", "test")
    assert blocked.rc == 1
    assert "to hold" in blocked.stdout


def test_even_an_app_user_with_every_grant_but_one_cannot_write(fresh_chain: Chain) -> None:
    fresh_chain.old.run("CREATE USER tester@'%' IDENTIFIED BY 'pw'; GRANT ALL ON *.* TO tester@'%'")
    fresh_chain.old.run("REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM tester@'%'")
    fresh_chain.settle()
    # Somebody opened a server of the test site.
    fresh_chain["new-db2"].run("SET GLOBAL read_only=0")
    settings = fresh_chain.pillar() | {"test": {}}
    done = direct.run(settings, "apply", phase="test")
    assert done.verdict == "done", done.problem
    assert "read-only.new-db2" in [change["step"] for change in done.answer["changes"]]
    for name in ("new-db1", "new-db2", "relay"):
        with fresh_chain[name].connect("tester", "pw") as connection:
            with pytest.raises(OperationalError) as refused:
                connection.query(
                    "INSERT INTO site.writes VALUES (NULL, 1, 1, 1, 'new', SYSDATE(6))"
                )
            assert refused.value.args[0] == 1290


def readers(settings: dict[str, Any], phase: str = "test") -> list[str]:
    """Who is named as a reader of the old primary's binlog."""
    findings = direct.run(settings, "plan", phase=phase).answer["findings"]
    return [f["found"] for f in findings if "reads its binlog" in f["found"] and not f["blocking"]]


def test_who_could_write_all_the_same_and_a_stopped_replica_stop_the_test(
    fresh_chain: Chain, tmp_path: Path
) -> None:
    assert readers(fresh_chain.pillar() | {"test": {}}) == []
    assert readers(fresh_chain.pillar(), "flip") == []
    fresh_chain.old.run("GRANT READ_ONLY ADMIN ON *.* TO app@'%'")
    fresh_chain.settle()
    fresh_chain["new-db2"].run("STOP SLAVE")
    # Whoever else reads the binlog stops nothing, and is told.
    fresh_chain.old.run("GRANT REPLICATION SLAVE ON *.* TO app@'%'")
    archiver = subprocess.Popen(
        ["mariadb-binlog", "--no-defaults", "--read-from-remote-server", "--stop-never", "--raw"]
        + [f"--host={fresh_chain.old.address}", f"--port={fresh_chain.port}"]
        + [f"--user={fresh_chain.app.user}", f"--result-file={tmp_path}/", "binlog.000001"],
        env=os.environ | {"MYSQL_PWD": fresh_chain.app.password},
    )
    settings = fresh_chain.pillar() | {"test": {}}
    try:
        deadline = time.monotonic() + 60
        while not (warned := readers(settings)):
            assert archiver.poll() is None
            assert time.monotonic() < deadline
        assert [reader.partition("@")[0] for reader in warned] == ["app"]
        assert readers(settings, "flip") == warned
    finally:
        archiver.kill()
        archiver.wait(10)
    done = direct.run(settings, "apply", phase="test")
    assert done.problem["kind"] == "refused"
    words = done.problem["message"]
    assert "[privileges] new-db2: app@% can write past the fence" in words
    assert "[test] new-db2: its replication from" in words
    assert not fresh_chain.notice_path("new").exists()


@pytest.mark.parametrize("records", [3, 5])
def test_killed_the_same_command_ends_with_a_test_site(fresh_chain: Chain, records: int) -> None:
    settings = fresh_chain.pillar() | {"test": {"notice": NOTICE}}
    fresh_chain["relay"].run("SET GLOBAL read_only=0")
    assert direct.run(settings, "apply", f"crash-after:{records}", phase="test").rc == -9
    done = direct.run(settings, "apply", phase="test")
    assert done.verdict in ("done", "unchanged"), done.problem
    assert fresh_chain.notice_path("new").read_text() == f"{NOTICE}\n"
    assert world.writable(fresh_chain) == ["old-db1"]
    assert direct.run(settings, "apply", phase="test").verdict == "unchanged"


def test_the_announcement_says_when_how_and_what_not(house: House, salt_master: SaltMaster) -> None:
    text = salt_master.run("migrate.announcement").answer
    for words in (
        *("Sunday, 04:00 UTC", "127.0.0.23 docs.example.org", "ops@example.org"),
        *("searching", "keeps nothing", NOTICE),
    ):
        assert words in text
    assert "{" not in text
    copy = {"name": "docs-copy", "domains": ["docs-copy.example.org"]}
    edge = {"token": "x", "services": {"docs": {"id": "x", "copy": copy}}}
    tested = direct.run(house.pillar | {"edge": edge}, "announcement").answer
    assert tested.index("docs-copy.example.org") < tested.index("127.0.0.23 docs.example.org")
    assert "docs-copy" not in text
    house.pillar["test"]["announcement"]["template"] = "Soon: {when}"
    salt_master.set_pillar(house.pillar)
    assert salt_master.run("migrate.announcement").answer == "Soon: Sunday, 04:00 UTC"
