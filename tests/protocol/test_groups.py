"""Who may do what in a group: the table, row by row, and what holds for all rows."""

from itertools import product
from pathlib import Path

import pytest

from imserver.protocol.groups import MEMBERS, RULES, STANDINGS, is_hidden, may_look, may_post

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
SELF = {"join", "leave", "set"}  # an actor concerns itself


@pytest.mark.parametrize("action", RULES)
def test_a_row_holds_pairs_of_standings_each_once(action: str) -> None:
    rule = RULES[action]
    pairs = rule.may.split() + rule.done.split()
    assert len(pairs) == len(set(pairs))
    assert all(len(pair) == 2 and set(pair) <= set(STANDINGS) for pair in pairs)
    if action in SELF:
        assert all(pair[0] == pair[1] for pair in pairs)


@pytest.mark.parametrize("action", sorted(set(RULES) - SELF))
def test_only_owner_and_admins_act_upon_others_and_nobody_upon_the_owner(action: str) -> None:
    for actor, target in map(tuple, RULES[action].may.split()):
        assert actor in "oa"
        assert target != "o"
        assert actor == "o" or target != "a"


@pytest.mark.parametrize("action", sorted(set(RULES) - {"join", "leave"}))
def test_strangers_can_do_nothing_and_are_told_nothing(action: str) -> None:
    pairs = RULES[action].may.split() + RULES[action].done.split()
    assert {pair[0] for pair in pairs} <= set(MEMBERS)


def test_who_comes_in_was_no_member_and_who_goes_was_one_or_was_invited() -> None:
    for action in ("add", "join"):
        assert {pair[1] for pair in RULES[action].may.split()} & set(MEMBERS + "b") == set()
    for action in ("leave", "kick"):
        assert {pair[1] for pair in RULES[action].may.split()} <= set(MEMBERS + "i")


def test_a_closed_group_is_entered_by_invitation_only() -> None:
    assert RULES["join"].may.split() == ["ii", "vv"]


@pytest.mark.parametrize("standing", STANDINGS)
def test_members_post_and_in_a_channel_only_those_who_lead_it(standing: str) -> None:
    assert may_post(standing, announcing=False) == (standing in "oam")
    assert may_post(standing, announcing=True) == (standing in "oa")


def test_whoever_may_look_is_not_denied_the_group() -> None:
    assert [letter for letter in STANDINGS if may_look(letter) and is_hidden(letter)] == []


def table() -> list[str]:
    """The rows of the table in docs/protocol.md."""
    rows = []
    for action, actor in product(RULES, "oamivb-"):
        over = [STANDINGS[pair[1]] for pair in RULES[action].may.split() if pair[0] == actor]
        if over:
            rows.append(f"| `{action}` | {STANDINGS[actor]} | {'' if action in SELF else ', '.join(over)} |")
    return rows


def test_the_protocol_shows_the_table() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    missing = [row for row in table() if row not in text]
    assert missing == [], "\n".join(missing)
