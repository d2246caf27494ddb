"""The search for old addresses, and the remap: on a generated site with an answer key."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from saltext.migrate import _native
from tests.lab import corpus


def run(command: str, pillar: dict[str, Any], **arguments: Any) -> Any:
    arguments.setdefault("commands", ["salt"])
    answer = _native.run(
        command,
        json.dumps(pillar),
        json.dumps(arguments),
        lambda question: "null",
        lambda event: None,
    )
    return json.loads(answer)


@pytest.fixture
def site(tmp_path: Path) -> tuple[corpus.Corpus, dict[str, Any]]:
    pillar = corpus.pillar(tmp_path / "state")
    return corpus.build(tmp_path / "srv", pillar), pillar


def test_every_planted_literal_is_found_and_no_decoy(site: Any) -> None:
    planted, pillar = site
    found = run("addresses.scan", pillar, roots=[str(planted.root)])
    hits = {
        corpus.Planted(
            h["path"], h["line"], h["column"], h["token"], h["form"], h["verdict"], h.get("node")
        )
        for h in found["hits"]
    }
    key = {k for k in planted.key if k.node != "ALL"}
    wide = {h for h in hits if h.token == "10.0.0.0/8"}
    missed = key - hits
    assert not missed, sorted(map(str, missed))[:20]
    extra = hits - key - wide
    # In an old range and nobody's: that is said, and is no decoy.
    nobodys = {h for h in extra if h.verdict == "unknown" and h.form in ("dotted", "ipv6")}
    assert not extra - nobodys, sorted(map(str, extra))[:20]
    assert len(nobodys) < 10
    assert {h.verdict for h in wide} == {"allowed"}
    assert len(key) > 250
    assert planted.decoys > 200
    assert found["remaining"] == sum(k.verdict in ("stale", "unknown") for k in key) + len(nobodys)


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_remap_changes_what_is_stale_and_nothing_else(site: Any) -> None:
    planted, pillar = site
    roots = [str(planted.root)]
    before = tree(planted.root)
    shown = run("addresses.remap", pillar, roots=roots)
    assert shown["verdict"] == "test"
    assert tree(planted.root) == before, "a diff is no change"
    assert shown["diff"]
    done = run("addresses.remap", pillar, roots=roots, test=False)
    assert done["verdict"] == "done"
    assert done["diff"] == shown["diff"]
    after = tree(planted.root)
    changed = {name for name in before if before[name] != after[name]}
    assert len(changed) == done["files"]
    assert not {name for name in changed if name.startswith("decoys/")}
    again = run("addresses.scan", pillar, roots=roots)
    stale = [h for h in again["hits"] if h["verdict"] == "stale"]
    # What is left is what only a person can move.
    assert all("new" not in hit for hit in stale)
    assert {h["form"] for h in stale} <= {
        "range",
        "regex",
        "prefix",
        "zone",
        "cidr",
        "wildcard",
        "ptr",
    }
    # A second remap has nothing to do.
    assert run("addresses.remap", pillar, roots=roots, test=False)["verdict"] == "unchanged"
    back = run("addresses.restore", pillar, test=False)
    assert back["verdict"] == "done"
    assert tree(planted.root) == before


def test_base64_is_written_anew_in_its_own_shape(site: Any) -> None:
    planted, pillar = site
    file = planted.root / "secrets" / "db1.yaml"
    before = file.read_text()
    run("addresses.remap", pillar, roots=[str(file)], test=False)
    after = file.read_text()
    rows = [line for line in after.splitlines() if line.startswith("    ")]
    assert {len(row) for row in rows[:-1]} == {80}
    text = base64.b64decode("".join(rows)).decode()
    assert "server 10.0.0.1\n" in text
    assert (
        base64.b64decode("".join(before.split("|\n")[1].split()))
        .decode()
        .replace(planted.address("db1"), "10.0.0.1")
        == text
    )


def renumbering(state: Path) -> dict[str, Any]:
    """Forty nodes: twenty in a chain, where each takes the next one's place, and twenty in a cycle."""
    old: dict[str, dict[str, str]] = {}
    new: dict[str, dict[str, str]] = {}
    for index in range(20):
        old[f"chain{index}"] = {"private": f"10.4.0.{10 + index}"}
        new[f"chain{index}"] = {"private": f"10.4.0.{11 + index}"}
        old[f"cycle{index}"] = {"private": f"10.5.0.{10 + index}"}
        new[f"cycle{index}"] = {"private": f"10.5.0.{10 + (index + 1) % 20}"}
    ranges = [{"old": "10.4.0.0/24"}, {"old": "10.5.0.0/24"}]
    return {
        "state_dir": str(state),
        "nodes": {"old": old, "new": new},
        "addresses": {"ranges": ranges},
    }


def test_old_and_new_overlap_in_a_chain_and_in_a_cycle(tmp_path: Path) -> None:
    pillar = renumbering(tmp_path / "state")
    nodes = pillar["nodes"]
    root = tmp_path / "srv"
    root.mkdir()
    text = "".join(
        f"{name}: {{a: {{0}}, b: '{{0}}:80', c: '{{0}}{{0}}'}}\n".replace("{0}{0}", "{0} {0}")
        .replace("{0}", "@" + name + "@")
        .replace("{{", "{")
        .replace("}}", "}")
        for name in nodes["old"]
    )

    def filled(side: str) -> str:
        out = text
        for name, node in nodes[side].items():
            out = out.replace(f"@{name}@", node["private"])
        return out

    for number in range(3):
        (root / f"{number}.yaml").write_text(filled("old"))
    done = run("addresses.remap", pillar, roots=[str(root)], test=False)
    assert done["replacements"] == 3 * 40 * 4
    for number in range(3):
        assert (root / f"{number}.yaml").read_text() == filled("new")
    # It is as it should be, though almost every new address is somebody's old one.
    found = run("addresses.scan", pillar, roots=[str(root)])
    assert found["remaining"] == 0
    assert run("addresses.remap", pillar, roots=[str(root)], test=False)["verdict"] == "unchanged"
    # A line by somebody else, afterwards: nobody can say any more which is meant.
    changed = root / "2.yaml"
    changed.write_text(changed.read_text() + "more: 10.4.0.15\n")
    found = run("addresses.scan", pillar, roots=[str(root)])
    assert {h["path"] for h in found["hits"]} == {str(changed)}
    assert {h["verdict"] for h in found["hits"] if "new" not in h} == {"unknown"}
    assert run("addresses.remap", pillar, roots=[str(root)])["files"] == 0 or all(
        h["node"] == "chain0" for h in found["hits"] if h["verdict"] == "stale"
    )
    back = run("addresses.restore", pillar, test=False)
    assert back["changed_since"] == [str(changed)]
    for number in range(2):
        assert (root / f"{number}.yaml").read_text() == filled("old")
    assert changed.read_text() == filled("new") + "more: 10.4.0.15\n"
