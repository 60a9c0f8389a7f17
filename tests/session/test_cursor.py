"""The decision that no gap is possible unseen, case by case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imserver.model import Position
from imserver.session.cursor import Verdict, is_newer, judge

FORWARD, DUPLICATE, GAP = Verdict.FORWARD, Verdict.DUPLICATE, Verdict.GAP


@pytest.mark.parametrize(
    ("position", "at", "prev", "verdict"),
    [
        #  forwarded   entry     the one before  what to do
        (b"0-0", b"5-0", b"0-0", FORWARD),
        (b"5-0", b"5-1", b"5-0", FORWARD),
        (b"5-0", b"9-0", b"5-0", FORWARD),
        (b"5-0", b"5-0", b"4-0", DUPLICATE),
        (b"5-0", b"4-9", b"4-8", DUPLICATE),
        (b"10-0", b"9-0", b"8-0", DUPLICATE),
        (b"5-10", b"5-9", b"5-8", DUPLICATE),
        (b"5-0", b"7-0", b"6-0", GAP),
        (b"5-0", b"7-0", b"4-0", GAP),
        (b"0-0", b"7-0", b"6-0", GAP),
        (b"9-0", b"11-0", b"10-0", GAP),
        (b"00-0", b"7-0", b"0-0", GAP),  # a client's own spelling of a position: the log is read, nothing is missed
    ],
)
def test_table(position: bytes, at: bytes, prev: bytes, verdict: Verdict) -> None:
    assert judge(Position(position), Position(at), Position(prev)) is verdict


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), unique=True, min_size=1), st.data())
def test_whoever_forwards_as_judged_has_a_prefix_without_holes(
    numbers: list[tuple[int, int]], data: st.DataObject
) -> None:
    log = [Position(b"0-0"), *(Position(b"%d-%d" % number) for number in sorted(numbers))]
    position, forwarded = log[0], [log[0]]
    for index in data.draw(st.lists(st.integers(1, len(log) - 1), max_size=40)):
        if judge(position, log[index], log[index - 1]) is FORWARD:
            position = log[index]
            forwarded.append(position)
    assert forwarded == log[: len(forwarded)]


def test_newer_is_by_number() -> None:
    assert is_newer(Position(b"10-0"), Position(b"9-5"))
    assert is_newer(Position(b"9-10"), Position(b"9-9"))
    assert not is_newer(Position(b"9-5"), Position(b"9-5"))
