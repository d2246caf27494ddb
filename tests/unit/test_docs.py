"""The documents name only what is there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from saltext.migrate import _native

REPOSITORY = Path(__file__).resolve().parents[2]
SHIMS = REPOSITORY / "src" / "saltext" / "migrate"
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
# Hints and examples in the code are read by the same operators.
SOURCES = [*(REPOSITORY / "src").rglob("*.rs"), *SHIMS.rglob("*.py")]
SOURCES += [*(REPOSITORY / "salt").rglob("*.sls"), *(REPOSITORY / "pillar-example").rglob("*.sls")]


def functions(path: str) -> set[str]:
    tree = ast.parse((SHIMS / path).read_text())
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name for name in found if not name.startswith("_")}


def named(pattern: str) -> dict[str, str]:
    """What the first group of a pattern matched, and where."""
    found = {}
    for path in [*PAGES, *SOURCES]:
        for match in re.finditer(pattern, path.read_text()):
            found[match[1]] = str(path.relative_to(REPOSITORY))
    return found


def module(name: str) -> set[str]:
    """The functions of an execution module, and of the state module that bears the same name."""
    beside = SHIMS / "states" / f"{name}.py"
    return functions(f"modules/{name}.py") | (
        functions(f"states/{name}.py") if beside.exists() else set()
    )


STATE_FILES = {path.stem for path in (REPOSITORY / "salt" / "migrate").glob("*.sls")}
NAMED = {
    "runner": (r"salt-run migrate\.(\w+)", functions("runners/migrate.py")),
    **{
        path.stem: (rf"\b{path.stem}\.(\w+)", module(path.stem))
        for path in sorted((SHIMS / "modules").glob("migrate_*.py"))
    },
    "orchestration": (r"state\.orchestrate migrate\.(\w+)", STATE_FILES),
    "make": (
        r"`make ([a-z-]+)`",
        set(re.findall(r"(?m)^([a-z-]+):", (REPOSITORY / "Makefile").read_text())),
    ),
    "page": (
        r"\b(docs/[\w.-]+)",
        {f"docs/{path.name}" for path in (REPOSITORY / "docs").iterdir()},
    ),
    "state file": (
        r"salt://migrate/([\w./-]+)",
        {
            str(path.relative_to(REPOSITORY / "salt" / "migrate"))
            for path in (REPOSITORY / "salt" / "migrate").rglob("*.*")
        },
    ),
}


@pytest.mark.parametrize(("pattern", "known"), NAMED.values(), ids=NAMED)
def test_what_is_named_exists(pattern: str, known: set[str]) -> None:
    assert known
    unknown = {name: where for name, where in named(pattern).items() if name not in known}
    assert not unknown


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text()):
            if not target.startswith("http") and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_troubleshooting_has_every_kind_of_error() -> None:
    kinds = re.findall(r'=> "([a-z-]+)",', (REPOSITORY / "src" / "error.rs").read_text())
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    assert set(kinds) == set(re.findall(r"(?m)^## `([a-z-]+)`", page))


def test_every_check_has_its_line() -> None:
    topics = set()
    for path in (REPOSITORY / "src" / "steps" / "checks").glob("*.rs"):
        topics |= set(re.findall(r'Notes::new\("([a-z-]+)"\)', path.read_text()))
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    assert {topic for topic in topics if f"`[{topic}]`" not in page} == set()


def test_every_step_of_the_flip_has_its_line() -> None:
    files = sorted((REPOSITORY / "src" / "phases" / "transfer").glob("*.rs"))
    phase = "".join(path.read_text() for path in files)
    steps = set(re.findall(r'\.add\(\s*"([a-z.-]+)"', phase))
    steps |= set(re.findall(r'= "([a-z-]+)";', phase))
    steps |= {f"{name}." for name in re.findall(r'format!\("([a-z-]+)\.\{', phase)}
    page = (REPOSITORY / "docs" / "flip.md").read_text()
    assert {step for step in steps if f"`{step}" not in page} == set()


def test_every_step_of_prepare_has_its_line() -> None:
    names = ("prepare", "databases", "deployment")
    phase = "".join((REPOSITORY / "src" / "phases" / f"{name}.rs").read_text() for name in names)
    steps = set(re.findall(r'"([a-z-]+\.)\{', phase)) | set(re.findall(r'= "([a-z.-]+)";', phase))
    page = (REPOSITORY / "docs" / "prepare.md").read_text()
    assert len(steps) > 15
    assert {step for step in steps if f"`{step}" not in page} == set()


def refusal(pillar: dict[str, Any]) -> str:
    """The kind of the error of a command that reads the settings, and then a report that is not there."""
    arguments = (
        "report",
        json.dumps(pillar),
        "{}",
        lambda question: "",
        lambda event: None,
        lambda: False,
    )
    with pytest.raises(_native.MigrateError) as stopped:
        _native.run(*arguments)
    message, kind, _hint = stopped.value.args
    return str(message) if kind == "settings" else str(kind)


def pillar(text: str, tmp_path: Path) -> dict[str, Any]:
    found = yaml.safe_load(text)["migrate"]
    return {**found, "state_dir": str(tmp_path)}


EXAMPLE = (REPOSITORY / "pillar-example" / "migrate.sls").read_text()


def test_the_example_pillar_is_accepted(tmp_path: Path) -> None:
    assert refusal(pillar(EXAMPLE, tmp_path)) == "journal"


def test_what_the_example_shows_as_comment_is_accepted_as_well(tmp_path: Path) -> None:
    whole = re.sub(r"(?m)^(\s*)# ([a-z_]+: )", r"\1\2", EXAMPLE)
    assert whole.count("\n") == EXAMPLE.count("\n")
    assert refusal(pillar(whole, tmp_path)) == "journal"


def test_a_key_too_many_is_refused(tmp_path: Path) -> None:
    assert "migrate:nodes" in refusal(pillar(EXAMPLE, tmp_path) | {"nodes": {"ancient": {}}})


def settings() -> set[str]:
    """Every key that the product reads."""
    sources = (REPOSITORY / "src" / "settings").glob("*.rs")
    found = (re.findall(r"(?m)^    pub (\w+):", path.read_text()) for path in sources)
    return set().union(*found) - {"hash"}


def test_a_key_that_the_pages_name_is_read() -> None:
    for page in PAGES:
        for path in re.findall(r"`migrate:([a-z_:]+)`", page.read_text()):
            assert set(path.split(":")) <= settings(), f"{page.name}: migrate:{path}"


def test_every_key_that_is_read_is_named_somewhere() -> None:
    everything = EXAMPLE + "".join(page.read_text() for page in PAGES)
    assert {key for key in settings() if not re.search(rf"\b{key}\b", everything)} == set()


def test_the_top_file_keeps_the_secrets_to_the_master() -> None:
    top = yaml.safe_load((REPOSITORY / "pillar-example" / "top.sls").read_text())
    # A pattern would let in whoever chooses such an id.
    assert list(top["base"]) == ["salt.example.org_master"]
