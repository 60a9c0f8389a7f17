"""The life of a session and of a tail: every pair of state and event is in the table or refused."""

from itertools import product
from pathlib import Path

import pytest

from imserver.protocol.lifecycle import SESSION, TAIL, Event, IllegalTransition, State, TailState, advance
from tests.protocol.diagram import DIAGRAMS

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_tables_have_every_state() -> None:
    assert set(SESSION) == set(State)
    assert set(TAIL) == set(TailState)


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_a_session_moves_as_the_table_says_or_not_at_all(state: State, event: Event) -> None:
    after = SESSION[state].get(event)
    if after is not None:
        assert advance(SESSION, state, event) is after
        return
    with pytest.raises(IllegalTransition, match=f"'{state.value}' can't take the event '{event.value}'"):
        advance(SESSION, state, event)


@pytest.mark.parametrize(("state", "event"), list(product(TailState, Event)))
def test_a_tail_moves_as_the_table_says_or_not_at_all(state: TailState, event: Event) -> None:
    after = TAIL[state].get(event)
    if after is not None:
        assert advance(TAIL, state, event) is after
        return
    with pytest.raises(IllegalTransition, match=f"'{state.value}' can't take the event '{event.value}'"):
        advance(TAIL, state, event)


def test_a_session_can_end_from_every_state_and_never_comes_back() -> None:
    assert all(Event.CLOSE in row for state, row in SESSION.items() if state is not State.CLOSED)
    assert SESSION[State.CLOSED] == {}


def test_whatever_happens_to_a_tail_leads_back_to_live() -> None:
    for state in set(TailState) - {TailState.ENDED}:
        reached, seen = {state}, set[TailState]()
        while reached - seen:
            seen |= reached
            reached = {after for here in seen for after in TAIL[here].values()} | seen
        assert TailState.LIVE in reached


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_architecture_shows_the_tables(name: str) -> None:
    assert DIAGRAMS[name] in ARCHITECTURE.read_text(encoding="utf-8")
