"""The accounts that docs/what-it-needs.md has people make are enough, both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab import direct
from tests.lab.loopback import Chain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "what-it-needs.md"


@pytest.fixture
def by_the_book(fresh_chain: Chain) -> Chain:
    """The chain with its accounts made anew, word by word as the page says."""
    chain = fresh_chain
    blocks = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    blocks = [block for block in blocks if not block.startswith("-- MySQL")]
    assert len(blocks) == 1
    accounts = {account.user: account for account in (chain.admin, chain.marker, chain.replication)}
    for user in accounts:
        chain.old.run(f"DROP USER '{user}'@'%'")
    for statement in filter(str.strip, blocks[0].split(";")):
        made = re.search(r"CREATE USER '(\w+)'", statement)
        if made:
            statement = statement.replace("'...'", f"'{accounts.pop(made[1]).password}'")
        chain.old.run(statement)
    assert not accounts
    chain.settle()
    return chain


def test_the_documented_accounts_carry_a_flip_and_a_revert(by_the_book: Chain) -> None:
    pillar = by_the_book.pillar()
    for phase in ("flip", "revert"):
        done = direct.run(pillar, "apply", phase=phase)
        assert done.verdict == "done", done.problem
        # Nobody signs here.
        assert [f for f in done.answer["findings"] if f["topic"] != "signoff"] == []
    status = direct.run(pillar, "status")
    assert status.answer["primary"] == "old"
    assert status.answer["alarms"] == []
