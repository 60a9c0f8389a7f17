"""What a session remembers of what it has forwarded: nobody is left out, and nothing is told that was not kept."""

from hypothesis import given
from hypothesis import strategies as st

from imserver.model import START, Entry, Position, position_order
from imserver.session.forwarded import MOST_SENDERS, PATIENCE, Recent
from tests.store.node import message


def at(number: int) -> Position:
    return Position(b"%d-0" % number)


def entry(number: int, sender: str, device: str = "pad") -> Entry:
    return Entry(at(number), at(number - 1), message(sender, "alice", f"m{number}", device=device).content)


def forward(recent: Recent, entry: Entry) -> bool:
    """As a tail does."""
    if entry.content.startswith(recent.prefix):
        recent.last = entry
        return True
    return recent.add(entry)


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[list[str], int]]:
    """Time after time: who says something, and up to which of all entries the client acknowledges then."""
    counts = draw(st.lists(st.lists(st.sampled_from(["bob", "carol", "dave"]), max_size=4), min_size=1, max_size=8))
    total, course, kept = 0, [], 0
    for senders in counts:
        total += len(senders)
        kept = draw(st.integers(kept, total))
        course.append((senders, kept))
    return [*course, ([], total)]


@given(courses())
def test_of_each_sender_the_newest_that_was_kept_is_told_in_the_end(course: list[tuple[list[str], int]]) -> None:
    recent, total = Recent(START), 0
    newest: dict[str, int] = {}
    told: dict[str, int] = {}
    reached = 0
    for senders, kept in course:
        for sender in senders:
            total += 1
            newest[sender] = total
            assert forward(recent, entry(total, sender, device="pad" if total % 2 else "phone"))
        forwarded = recent.take(at(kept), at(total))
        assert position_order(forwarded.since) == (reached, 0), "behind what was told before"
        reached = position_order(forwarded.upto)[0]
        for sender, mark in forwarded.marks:
            number = position_order(mark.upto)[0]
            assert mark.id == f"m{number}"
            assert told.get(sender, 0) < number <= kept
            told[sender] = number
    assert told == newest
    assert reached == total


def test_what_came_since_the_last_acknowledgement_waits_for_the_next() -> None:
    recent = Recent(START)
    forward(recent, entry(1, "bob"))
    assert [mark.id for _, mark in recent.take(at(1), at(1)).marks] == ["m1"]
    for number in range(2, 5):
        forward(recent, entry(number, "bob"))
    assert recent.take(at(3), at(4)).marks == []
    told = []
    for number in range(5, 5 + 2 * PATIENCE):
        forward(recent, entry(number, "bob"))
        told += [mark.id for _, mark in recent.take(at(number - 1), at(number)).marks]
    assert told == ["m4", f"m{4 + PATIENCE}"]
    assert [mark.id for _, mark in recent.take(at(number), at(number)).marks] == [f"m{number}"]


def test_it_is_told_when_that_is_more_than_it_can_remember() -> None:
    recent = Recent(START)
    assert all(forward(recent, entry(number, f"user{number}")) for number in range(1, MOST_SENDERS + 1))
    assert not forward(recent, entry(MOST_SENDERS + 1, "one.more"))


def test_only_messages_count() -> None:
    recent = Recent(START)
    assert forward(recent, Entry(at(1), START, b'{"ev":"contact","user":"bob","state":"asked"}'))
    assert recent.take(at(1), at(1)).marks == []
