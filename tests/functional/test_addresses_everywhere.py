"""The search beyond files: what is rendered for a minion, its live files, the databases; with a real master."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.loopback import MINION, Chain
from tests.lab.salt import COMMANDS, SaltMaster

OLD_APP = "127.0.0.13"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    (folder / "my.conf").write_text(f"[client]\n# was {OLD_APP}\nhost = {OLD_APP}\nport = 1\n")
    (folder / "binary").write_bytes(b"\0" + OLD_APP.encode())
    # The migration's own files name the old side on purpose.
    (folder / "saltext-migrate").mkdir()
    (folder / "saltext-migrate" / "tripwire.nft").write_text(f"ip daddr {OLD_APP} counter\n")
    (folder / "95-saltext-migrate-masters.conf").write_text(f"master: [{OLD_APP}]\n")
    return folder


@pytest.fixture(scope="module")
def settings(chain: Chain, live: Path) -> dict[str, Any]:
    chain.reset()
    pillar = chain.pillar()
    pillar["addresses"] = {
        "ranges": [{"old": "127.0.0.8/29"}],
        "live": [str(live)],
        "roots": [str(live)],
        "columns": ["site.config.value"],
    }
    return pillar


@pytest.fixture(scope="module")
def master(settings: dict[str, Any]) -> Iterator[SaltMaster]:
    with SaltMaster(settings) as running:
        roots = running.pillar.parent
        (roots / "top.sls").write_text(f"base:\n  '*_master': [migrate]\n  {MINION}: [app]\n")
        (roots / "app.sls").write_text(f"app:\n  database:\n    host: {OLD_APP}\n")
        (running.states / "top.sls").write_text(f"base:\n  {MINION}: [app]\n")
        (running.states / "app.sls").write_text(
            "/nonexistent/saltext-addr:\n  file.managed:\n"
            "    - contents: server {{ pillar['app']['database']['host'] }}:80\n"
        )
        yield running


def test_everything_that_names_the_old_side_is_found(
    master: SaltMaster, chain: Chain, live: Path
) -> None:
    chain.old.run(
        f"CREATE USER 'wiki'@'{OLD_APP}'; CREATE USER 'wide'@'127.0.0.%%'; CREATE USER 'other'@'10.1.2.3';"
        "CREATE TABLE site.config (value TEXT); INSERT INTO site.config VALUES"
        f" ('http://{OLD_APP}/logo.png'), ('http://docs.example.org/'), ('{OLD_APP}0');"
        f"CREATE DEFINER='wiki'@'{OLD_APP}' PROCEDURE site.old_definer() SELECT 1",
        (),
    )
    ran = master.run("migrate.addresses", "roots=[]")
    assert ran.rc == 1, ran.stderr
    found = ran.answer
    stale = {(h["path"], h["token"]) for h in found["hits"] if h["verdict"] == "stale"}
    assert [h for h in found["hits"] if h["path"].startswith("pillar")], found["hits"]
    assert stale == {
        (f"pillar://{MINION}/app:database:host", OLD_APP),
        (f"states://{MINION}//nonexistent/saltext-addr:file:contents", f"{OLD_APP}:80"),
        (f"{MINION}:{live}/my.conf", OLD_APP),
        ("database://old-db1/grants", OLD_APP),
        ("database://old-db1/site.config.value", OLD_APP),
        ("database://old-db1/definers/site.old_definer", OLD_APP),
    }
    (line,) = [
        h["line"]
        for h in found["hits"]
        if h["path"].endswith("my.conf") and h["verdict"] == "stale"
    ]
    assert line == 3
    verdicts = {h["token"]: h["verdict"] for h in found["hits"]}
    assert verdicts["127.0.0.%"] == "allowed", "it lets the new side in as well"
    # Each part can be left out.
    less = master.run("migrate.addresses", "roots=[]", "live=False", "databases=False").answer
    assert {h["path"].split(":")[0] for h in less["hits"]} == {"pillar", "states"}


def test_the_tripwire_is_applied_by_states(master: SaltMaster, settings: dict[str, Any]) -> None:
    if not shutil.which("nft"):
        pytest.skip("no nft")
    # With test=True: the minion lives on this machine.
    shown = master.run("state.orchestrate", "migrate.tripwire", "test=True")
    (states,) = shown.answer.values()
    (state,) = states.values()
    assert state["result"] is None, state
    told = state["changes"]["ret"][MINION]
    by_name = {value["name"]: value for value in told.values()}
    assert by_name["/etc/saltext-migrate/tripwire.nft"]["result"] is None
    assert by_name["nft -f /etc/saltext-migrate/tripwire.nft"]["result"] is None
    rules = master.run("migrate.tripwire").answer[MINION]["rules"]
    assert json.dumps(rules)
    assert "table inet saltext_migrate_tripwire" in rules


def test_the_command_line_works_without_a_master(tmp_path: Path) -> None:
    root = tmp_path / "srv"
    root.mkdir()
    (root / "a.sls").write_text("host: 10.4.10.18\npassword: hunter2 # for 10.4.10.18\n")
    (root / "b.py").write_text('url = "mysql://u:hunter3@10.4.10.18/x"\n')
    nodes = {"old": {"db1": {"private": "10.4.10.18"}}, "new": {"db1": {"private": "10.0.0.1"}}}
    pillar = {"migrate": {"state_dir": str(tmp_path / "state"), "nodes": nodes}}

    def call(function: str, *arguments: str) -> tuple[int, Any]:
        ran = subprocess.run(
            [COMMANDS / "salt-call", "--local", "-c", tmp_path, "-l", "quiet", "--out=json"]
            + [f"migrate_addresses.{function}", f"pillar={json.dumps(pillar)}", *arguments],
            capture_output=True,
            text=True,
        )
        assert "hunter" not in ran.stdout + ran.stderr
        return ran.returncode, json.loads(ran.stdout)["local"]

    roots = f'roots=["{root}"]'
    code, found = call("scan", roots)
    assert (code, found["remaining"], len(found["hits"])) == (1, 2, 3)
    code, shown = call("remap", roots)
    assert (code, shown["verdict"], shown["files"]) == (0, "test", 2)
    assert "+host: 10.0.0.1" in shown["diff"]
    code, proposed = call("remap", roots, "proposal=True")
    assert proposed["pillar"] == {"nodes": {"db1": {"private": "10.0.0.1"}}}
    assert proposed["edits"][0]["new"] == "{{ pillar['nodes']['db1']['private'] }}"
    code, done = call("remap", roots, "test=False")
    assert (code, done["verdict"], done["replacements"]) == (0, "done", 2)
    code, found = call("scan", roots)
    assert (code, found["remaining"]) == (0, 0)
    code, back = call("restore", "test=False")
    assert (code, back["verdict"], len(back["files"])) == (0, "done", 2)
    assert (root / "a.sls").read_text().startswith("host: 10.4.10.18\n")
