"""Old and new beside each other: what really differs is told, and what differs anyway is not."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import direct, world
from tests.lab.loopback import Chain
from tests.lab.salt import COMMANDS
from tests.lab.twosides import SIDES, TwoSides


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoSides]:
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make certificates with")
    with TwoSides(tmp_path_factory.mktemp("two"), days={"new": 20}) as sides:
        yield sides


@pytest.fixture
def sides(running: TwoSides) -> TwoSides:
    running.pages.clear()
    running.asked.clear()
    running.posted.clear()
    running.named.clear()
    running.resigned.clear()
    running.saves = False
    return running


def pillar(sides: TwoSides, state: Path, **compare: Any) -> dict[str, Any]:
    accounts = {who: {"user": who, "password": "x"} for who in ("admin", "marker", "replication")}
    node = {side: {"app1": {"private": f"10.{number}.0.1", "public": address},
                   "db1": {"private": f"10.{number}.0.2"}}
            for number, (side, address) in enumerate(SIDES.items())}  # fmt: skip
    return {
        "state_dir": str(state),
        "nodes": node,
        "databases": {"old": {"primary": "db1"}, "new": {"primary": "db1"}, "accounts": accounts},
        "notice": {"text": "wait", "nodes": {"old": [], "new": []}},
        **sides.pillar(**compare),
    }


def compare(settings: dict[str, Any]) -> dict[str, Any]:
    done = direct.run(settings, "compare")
    assert done.rc == 0, done.problem
    answer: dict[str, Any] = done.answer
    return answer


def told(seen: dict[str, Any]) -> set[tuple[str, str]]:
    return {(d["url"].partition("example.org")[2], d["what"]) for d in seen["differences"]}


def test_the_same_site_twice_differs_in_nothing_and_each_is_asked_by_its_name(
    sides: TwoSides, tmp_path: Path
) -> None:
    seen = compare(pillar(sides, tmp_path))
    assert seen["differences"] == []
    assert seen["urls"] == 3
    assert seen["certificate_days"]["origin docs"] == pytest.approx(20, abs=0.2)
    count = {side: sum(asked[0] == side for asked in sides.asked) for side in SIDES}
    assert count == {"old": 6, "new": 3}
    assert {host for _, host, _ in sides.asked} == {f"docs.example.org:{sides.port}"} or {
        host for _, host, _ in sides.asked
    } == {"docs.example.org"}
    assert sides.named == {"docs.example.org"}
    # The same again has the same hash: nobody has to sign anew.
    assert compare(pillar(sides, tmp_path))["hash"] == seen["hash"]


def test_what_differs_is_told_by_its_kind(sides: TwoSides, tmp_path: Path) -> None:
    sides.pages |= {
        ("new", "/wiki/A"): (200, {"Cache-Control": "no-store"}, ""),
        ("new", "/wiki/B"): (200, {}, "<html><body><p>Another text.</p></body></html>"),
        ("new", "/gone"): (404, {}, ""),
        ("old", "/moved"): (301, {"Location": "/wiki/A"}, ""),
        ("new", "/moved"): (301, {"Location": "/wiki/B"}, ""),
        ("new", "/cookie"): (200, {"Set-Cookie": "session=1; Path=/; Secure"}, ""),
    }
    paths = ["/wiki/A", "/wiki/B", "/gone", "/moved", "/cookie"]
    settings = pillar(sides, tmp_path, paths={"docs": paths})
    seen = compare(settings)
    found = told(seen)
    assert {
        ("/wiki/A", "header cache-control"),
        ("/wiki/B", "body"),
        ("/gone", "status"),
        ("/moved", "redirect"),
        ("/cookie", "cookies"),
    } <= found
    assert ("/wiki/Main", "body") not in found
    (body,) = [d for d in seen["differences"] if d["what"] == "body" and "/wiki/B" in d["url"]]
    assert "Some text to read." in body["old"] or "/wiki/B" in body["old"]
    assert "Another text." in body["new"]
    sides.pages.clear()
    assert compare(settings)["hash"] != seen["hash"]


def test_another_authority_is_told_and_a_slower_side_is_a_remark(
    sides: TwoSides, tmp_path: Path
) -> None:
    def slow() -> Any:
        time.sleep(0.4)
        return 200, {}, ""

    paths = ["/wiki/Main", "/wiki/A", "/wiki/B"]
    sides.pages |= {("new", path): slow for path in paths}
    seen = compare(pillar(sides, tmp_path))
    assert seen["differences"] == []
    (remark,) = seen["remarks"]
    assert remark.startswith("origin docs: half of the answers take ")
    # Whom the old side's authority trusts is good, and not who it was.
    sides.pages.clear()
    sides.resigned.add("new")
    seen = compare(pillar(sides, tmp_path))
    assert seen["remarks"] == []
    assert told(seen) == {(path, "certificate") for path in paths}
    assert {(d["old"][:9], d["new"][:9]) for d in seen["differences"]} == {("signed by",) * 2}
    assert len({d[side] for d in seen["differences"] for side in ("old", "new")}) == 2


def test_a_redirect_to_production_is_found(sides: TwoSides, tmp_path: Path) -> None:
    home = (302, {"Location": "https://www.example.org/"}, "")
    sides.pages |= {("old", "/home"): home, ("new", "/home"): home}
    settings = pillar(sides, tmp_path, paths={"docs": ["/home"]})
    settings["addresses"] = {"public": ["www.example.org"]}
    seen = compare(settings)
    assert told(seen) == {("/home", "production")}
    assert "www.example.org does not lead to the new side" in seen["differences"][0]["new"]
    # With a line of its own it stays on the side that is asked.
    settings["vhosts"]["docs"]["hosts"] = ["docs.example.org", "www.example.org"]
    location = f"https://www.example.org:{sides.port}/"
    sides.pages |= {(side, "/home"): (302, {"Location": location}, "") for side in SIDES}
    assert compare(settings)["differences"] == []


def test_edits_must_be_refused_and_the_notice_must_show(sides: TwoSides, tmp_path: Path) -> None:
    edit = {"vhost": "docs", "path": "/save", "form": {"text": "a b&c"}, "refused": "readonly"}
    settings = pillar(
        sides, tmp_path, edits=[edit], notices=[{"vhost": "docs", "path": "/wiki/A?edit"}]
    )
    settings["test"] = {"notice": "This is only a test."}
    found = told(compare(settings))
    assert found == {("/wiki/A?edit", "notice")}
    # The old side is only ever read.
    assert sides.posted == ["new /save text=a+b%26c"]
    sides.saves = True
    sides.pages["new", "/wiki/A?edit"] = (200, {}, "<p>This is only a test.</p>")
    assert told(compare(settings)) == {("/save", "edit")}


def test_paths_come_from_the_sitemap_and_the_log_and_are_limited(
    sides: TwoSides, tmp_path: Path
) -> None:
    address = f"https://docs.example.org:{sides.port}"
    index = f"<sitemapindex><sitemap><loc>{address}/part.xml</loc></sitemap></sitemapindex>"
    part = f"<urlset><url><loc>{address}/s1</loc></url><url><loc>https://other.org/x</loc></url></urlset>"
    sides.pages |= {
        ("old", "/sitemap.xml"): (200, {}, index),
        ("old", "/part.xml"): (200, {}, part),
    }
    log = tmp_path / "access.log"
    line = '192.0.2.1 - - [25/Nov/2026:10:00:00 +0000] "GET {} HTTP/1.1" 200 1 "-" "x"\n'
    log.write_text(line.format("/l1") + line.format("/l2") * 2)
    settings = pillar(sides, tmp_path, paths={}, sitemaps={"docs": "/sitemap.xml"},
                      access_logs={"docs": str(log)}, most=3)  # fmt: skip
    seen = compare(settings)
    assert seen["differences"] == []
    asked = {path for side, _, path in sides.asked if side == "new"}
    assert asked == {"/wiki/Main", "/s1", "/l2"}
    assert any("3 of 4 paths" in remark for remark in seen["remarks"])


def test_a_side_that_does_not_answer_or_whose_certificate_ends_is_a_difference(
    sides: TwoSides, tmp_path: Path
) -> None:
    seen = compare(pillar(sides, tmp_path, certificate_days=30, paths={}))
    assert told(seen) == {("/wiki/Main", "certificate")}
    assert (
        "valid for 2" in seen["differences"][0]["new"]
        or "valid for 19" in seen["differences"][0]["new"]
    )
    settings = pillar(sides, tmp_path, paths={})
    settings["nodes"]["new"]["app1"]["public"] = "127.0.0.45"
    seen = compare(settings)
    assert told(seen) == {("/wiki/Main", "answer")}
    assert "refused" in seen["differences"][0]["new"]


def test_what_the_pillar_names_may_differ(sides: TwoSides, tmp_path: Path) -> None:
    numbers = itertools.count()

    def served(by: str) -> Any:
        return lambda: (200, {"X-By": by}, f"<p>same</p>\n<!-- by {by}, {next(numbers)} -->")

    sides.pages |= {("old", "/wiki/A"): served("olda"), ("new", "/wiki/A"): served("newa")}
    assert told(compare(pillar(sides, tmp_path))) == {
        ("/wiki/A", "header x-by"),
        ("/wiki/A", "body"),
    }
    ignoring = pillar(sides, tmp_path, ignore=["<!-- by"], ignore_headers=["X-By"])
    assert compare(ignoring)["differences"] == []


def test_the_command_line_says_what_it_found(sides: TwoSides, tmp_path: Path) -> None:
    sides.pages["new", "/wiki/B"] = (200, {}, "<p>Another text.</p>")
    settings = pillar(sides, tmp_path / "state")
    ran = subprocess.run(
        [COMMANDS / "salt-call", "--local", "-c", tmp_path, "-l", "quiet", "--out=json"]
        + ["migrate_site.compare", f"pillar={json.dumps(settings)}"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stderr
    (difference,) = [
        d for d in json.loads(ran.stdout)["local"]["differences"] if d["what"] == "body"
    ]
    assert difference["url"] == "https://docs.example.org/wiki/B"


def test_the_flip_refuses_while_new_differs_from_old(sides: TwoSides, fresh_chain: Chain) -> None:
    settings = fresh_chain.pillar() | sides.pillar() | {"test": {}}
    settings["addresses"] = {"public": ["www.example.org"]}
    for side, address in SIDES.items():
        settings["nodes"][side]["app1"]["public"] = address

    def refused(pillar: dict[str, Any] = settings) -> str:
        done = direct.run(pillar, "apply", phase="flip")
        assert done.problem["kind"] == "refused"
        assert world.writable(fresh_chain) == ["old-db1"]
        return done.problem["message"]

    assert "[comparison] record: old and new were not compared" in refused()
    home = (302, {"Location": "https://www.example.org/"}, "")
    sides.pages |= {(side, "/wiki/A"): home for side in SIDES}
    sides.pages["new", "/wiki/B"] = (200, {}, "<p>Another text.</p>")
    # The test compares once all of it stands; what differs is the flip's to refuse.
    tested = direct.run(settings, "apply", phase="test")
    assert tested.verdict == "done", tested.problem
    assert tested.happened("done") == ["notice.new", "compared"]
    words = refused()
    url = "[comparison] https://docs.example.org/wiki"
    assert f"{url}/B: body: old " in words
    assert f"{url}/A: production: old stays on the side that is asked; new " in words
    assert "salt-run migrate.compare" in words

    sides.pages.clear()
    strict = settings | {"compare": settings["compare"] | {"certificate_days": 30}}
    compare(strict)
    assert f"{url}/B: certificate: old valid for 30 days or more; new valid for " in refused(strict)
    seen = compare(settings)
    assert direct.run(settings, "plan", phase="flip").answer["refused"] is False
    changed = settings | {"notice": settings["notice"] | {"drain": 1}}
    findings = direct.run(changed, "plan", phase="flip").answer["findings"]
    (stale,) = [found for found in findings if found["blocking"]]
    assert stale["found"] == "the pillar changed since old and new were compared"

    def due(pillar: dict[str, Any]) -> list[str]:
        return [c["step"] for c in direct.run(pillar, "plan", phase="test").answer["changes"]]

    assert (due(settings), due(changed)) == ([], ["compared"])

    # Days go by, and the certificate that was good then ends soon.
    days = seen["certificate_days"]["origin docs"]
    assert direct.run(settings, "status").answer["alarms"] == []
    record = Path(settings["state_dir"], "proofs", "comparison.json")
    proof = json.loads(record.read_text())
    record.write_text(json.dumps(proof | {"at": proof["at"] - 10 * 86400}))
    (alarm,) = direct.run(settings, "status").answer["alarms"]
    assert alarm == (
        f"origin docs: the new side's certificate is valid for {days - 10:.1f} more days"
    )
    assert "[comparison] record: old and new were compared 240 hours ago" in refused()
    assert due(settings) == ["compared"]
    compare(settings)
    done = direct.run(settings, "apply", phase="flip")
    assert done.verdict == "done", done.problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"paths": {"blog": ["/"]}}, "migrate:compare:paths:blog"),
        ({"paths": {"docs": ["wiki"]}}, "a path that begins with /"),
        ({"ways": ["sideways"]}, "migrate:compare:ways"),
        ({"access_logs": {"docs": "/nowhere"}}, "migrate:compare:access_logs:docs"),
    ],
)
def test_a_wrong_key_is_refused_with_its_path(
    sides: TwoSides, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    done = direct.run(pillar(sides, tmp_path, **change), "compare")
    assert done.problem["kind"] == "settings"
    assert words in done.problem["message"]


def test_who_is_sent_somewhere_is_awaited_by_a_warm_node_and_what_does_not_answer_is_told(
    sides: TwoSides, fresh_chain: Chain
) -> None:
    settings = fresh_chain.pillar() | sides.pillar(notices=[{"vhost": "docs", "path": "/edit"}])
    for side, address in SIDES.items():
        settings["nodes"][side]["app1"]["public"] = address

    def carried(phase: str) -> tuple[list[tuple[str, str]], list[str]]:
        sides.asked.clear()
        done = direct.run(settings, "apply", phase=phase)
        assert done.verdict == "done", done.problem
        # Nobody does without anything yet.
        order = done.happened("done")
        assert order.index("warmed") < order.index("chain-timed")
        told = [str(e["detail"]) for e in done.events if e["happening"] == "warning"]
        return sorted((side, path) for side, _, path in sides.asked), told

    compare(settings)
    pages = ["/edit", "/wiki/A", "/wiki/B", "/wiki/Main"]
    assert carried("flip") == ([("new", page) for page in pages], [])

    # The way back is not held up by what is down there.
    docs = settings["vhosts"]["docs"]
    sides.pages["old", "/wiki/Main"] = (503, {}, "no backend")
    for number, side in enumerate(SIDES):
        settings["nodes"][side]["app2"] = {"private": f"127.0.0.{33 + number}"}
    settings["nodes"]["new"]["app3"] = {"private": "127.0.0.35"}
    # The same names at another node, one that only the new side has, and one that nobody could ask.
    settings["vhosts"] |= {
        "more": docs | {"node": "app2"},
        "new": docs | {"node": "app3"},
        "odd": docs | {"ca": "/none.pem"},
    }
    del settings["compare"]
    asked, (told,) = carried("revert")
    assert asked == [("old", "/wiki/Main")]
    assert "docs: /wiki/Main at old-app1: it answers 503" in told
    assert "more: /wiki/Main at old-app2: " in told
    assert "migrate:vhosts:odd:ca" in told
    assert "app3" not in told
