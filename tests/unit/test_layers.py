"""The wall between the layers: who may know whom, and what may stand where."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SRC = REPOSITORY / "src"
RUST = sorted(SRC.rglob("*.rs"))
SHIMS = sorted((SRC / "saltext").rglob("*.py"))
# One folder per system: they stand side by side, and know no step and not each other.
CLIENTS = {"addresses", "cloud", "database", "edge", "site"}
# Methods of others that only share a name with what panics.
NO_PANIC = {"row.unwrap()"}


def offenders(
    paths: Iterable[Path], pattern: str, text: Callable[[Path], str] = Path.read_text
) -> dict[str, list[str]]:
    """The files in which a pattern is found, and what of them it matched."""
    found = {
        str(path.relative_to(SRC)): [m[0] for m in re.finditer(pattern, text(path))]
        for path in paths
    }
    return {name: matches for name, matches in found.items() if matches}


def layers() -> dict[str, int]:
    """The table at the top of src/lib.rs: each module with its height, the clients all at one."""
    heights: dict[str, int] = {}
    for line in (SRC / "lib.rs").read_text().splitlines():
        row = re.match(r"//! \| (.*?) \|", line)
        names = re.findall(r"`(\w+)`", row[1]) if row else []
        for name in names:
            side_by_side = name in CLIENTS and CLIENTS & heights.keys()
            heights[name] = max(heights.values(), default=0) + (0 if side_by_side else 1)
    return heights


def module_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".rs")


def product(path: Path) -> str:
    """A file's text without its tests."""
    if path.name == "tests.rs":
        return ""
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", path.read_text())[0]


def without_comments(text: str) -> str:
    return re.sub(r"(?m)^\s*//.*$", "", text)


def named_modules(text: str) -> Iterator[str]:
    """Every top-level module that a text reaches by `crate::…`, also inside braces."""
    for found in re.finditer(r"\bcrate::(\{[^;]*?\};|\w+)", without_comments(text)):
        if found[1].startswith("{"):
            # Only the first word of each entry at the outermost level is a module.
            depth, entry = 0, ""
            for letter in found[1]:
                depth += {"{": 1, "}": -1}.get(letter, 0)
                if letter == "," and depth == 1 or depth == 0:
                    yield re.findall(r"\w+", entry)[0] if re.search(r"\w", entry) else "crate"
                    entry = ""
                    if depth == 0:
                        break
                else:
                    entry += letter
        else:
            yield found[1]


def test_the_table_names_every_module() -> None:
    folders = {module_of(path) for path in RUST} - {"lib"}
    assert layers().keys() == folders


def test_a_module_knows_only_what_is_above_it() -> None:
    heights = layers()
    wrong = [
        f"{path.relative_to(SRC)} may not know {name}"
        for path in RUST
        for name in named_modules(path.read_text())
        if path.name != "lib.rs"
        and name != module_of(path)
        # A name that is no module at all is as wrong as one from below.
        and heights.get(name, 99) >= heights[module_of(path)]
    ]
    assert not wrong


def test_only_the_binding_names_python() -> None:
    elsewhere = [path for path in RUST if module_of(path) not in ("python", "lib")]
    assert not offenders(elsewhere, r"(?i)\bpy(o3|thon)\b")


def test_the_engine_names_no_system() -> None:
    engine = [path for path in RUST if module_of(path) in ("step", "engine", "journal", "event")]
    assert not offenders(engine, r"(?i)\b(mysql|mariadb|sql|fastly|cdn|openstack|http)\b")


def test_rust_never_names_salt() -> None:
    # But the crate, and the command line that an operator types next.
    functions = r"(?:state\.orchestrate )?migrate\.|salt\.cmd migrate_\w+\.|config\.get "
    ours = rf"(?i)saltext[-_.]migrate|salt-run (?:{functions})\w+"
    assert not offenders(RUST, r"(?i)\bsalt.*", lambda path: re.sub(ours, "", path.read_text()))


def test_nothing_panics_outside_tests() -> None:
    pattern = r"\w*\.unwrap\(\)|\.expect\(\s*\"|\b(?:panic|unreachable|todo|unimplemented)!"
    found = offenders(RUST, pattern, lambda path: without_comments(product(path)))
    assert {match for matches in found.values() for match in matches} <= NO_PANIC, found


def test_nothing_is_static() -> None:
    # The process that loads the module forks.
    pattern = (
        r"(?m)^\s*(?:pub(?:\(\w+\))? )?static \w.*"
        r"|\b(?:OnceLock|OnceCell|LazyLock|LazyCell|thread_local|lazy_static)\b"
    )
    assert not offenders(RUST, pattern, lambda path: without_comments(path.read_text()))


def test_a_file_opens_with_what_it_owns() -> None:
    assert not offenders(RUST, r"\A(?!//! )[^\n]+")


def test_salt_states_are_no_python_package() -> None:
    # Salt would take one for a module of its own.
    assert not list((REPOSITORY / "salt").rglob("__init__.py"))
    assert not (SRC / "saltext" / "__init__.py").exists(), "the namespace is shared"


def test_shims_speak_neither_sql_nor_http() -> None:
    statements = (
        r"\b(SELECT|INSERT|UPDATE|DELETE|REPLACE|SHOW|START SLAVE|CHANGE MASTER|SET GLOBAL) \w"
    )
    assert not offenders(SHIMS, statements)
    imported = {name: path for path in SHIMS for name in imports(path)}
    assert not imported.keys() & {
        *("http", "urllib", "urllib3", "requests", "aiohttp", "httpx"),
        *("socket", "ssl", "pymysql", "MySQLdb", "fastly", "openstack"),
    }


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
