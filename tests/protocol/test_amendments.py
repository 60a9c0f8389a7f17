"""Who may change what was said: the table, row by row, and that the docs show it."""

from pathlib import Path

import pytest

from imserver.config import Settings
from imserver.errors import NotAllowed
from imserver.protocol.amendments import RULES, Rule, check
from imserver.protocol.groups import MEMBERS, STANDINGS

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
DAY = 86_400.0


def allowed(action: str, *, is_author: bool, standing: str | None, age: float = 0.0, most: int | None = None) -> bool:
    try:
        check(action, is_author=is_author, standing=standing, age_seconds=age, most_seconds=most)
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize("action", RULES)
def test_authors_may_for_a_while(action: str) -> None:
    for standing in (None, *MEMBERS):
        assert allowed(action, is_author=True, standing=standing, age=9.9, most=10)
        assert allowed(action, is_author=True, standing=standing, age=9 * DAY, most=None)
        assert not allowed(action, is_author=True, standing=standing, age=10.1, most=10)
        assert not allowed(action, is_author=True, standing=standing, age=0.0, most=0)


@pytest.mark.parametrize("action", RULES)
def test_others_may_what_the_table_says_at_any_time(action: str) -> None:
    rule = RULES[action]
    assert allowed(action, is_author=False, standing=None, age=99 * DAY, most=1) == rule.partner
    for standing in MEMBERS:
        assert allowed(action, is_author=False, standing=standing, age=99 * DAY, most=1) == (standing in rule.group)


def test_the_table() -> None:
    assert {
        "edit": Rule("edit", True, False, "", "edit_seconds"),
        "delete": Rule("delete", True, False, "oa", "delete_seconds"),
        "react": Rule("reaction", True, True, "oam", None),
    } == RULES
    assert all(rule.within is None or getattr(Settings(), rule.within) == 2 * DAY for rule in RULES.values())


def test_the_protocol_shows_the_table() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    for action, rule in RULES.items():
        author = "yes" if rule.within is None else f"within `{rule.within}`"
        group = ", ".join(STANDINGS[letter] for letter in rule.group)
        row = f"| `{action}` | `{rule.ev}` | {author} | {'yes' if rule.partner else ''} | {group} |"
        assert row in text
