"""What a session remembers of what it has forwarded: nobody is left out, and nothing is told that was not kept."""

from hypothesis import given
from hypothesis import strategies as st

from imserver.model import START, Entry, Position, position_order
from imserver.session.forwarded import MOST_SENDERS, PATIENCE, Recent
from imserver.store.conversation_calls import Forwarded
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
    return course


class Store:
    """Tells senders as the store does: `told`, by sender, the newest message; `watermark`: of all up to there."""

    def __init__(self) -> None:
        self.log: list[str] = []  # senders; the first entry is number 1
        self.told: dict[str, int] = {}
        self.watermark = self.looks = 0

    def newest(self, upto: int) -> dict[str, int]:
        return {sender: number for number, sender in enumerate(self.log[:upto], 1)}

    def keep(self, upto: int, forwarded: Forwarded | None) -> None:
        if forwarded is None or position_order(forwarded.since)[0] > self.watermark:
            self.looks += 1
            self.told |= self.newest(upto)
            self.watermark = max(self.watermark, upto)
            return
        for sender, mark in forwarded.marks:
            number = position_order(mark.upto)[0]
            assert mark.id == f"m{number}"
            assert self.log[number - 1] == sender
            assert number <= upto, "it has been kept"
            self.told[sender] = max(number, self.told.get(sender, 0))
        self.watermark = max(self.watermark, position_order(forwarded.upto)[0])
        assert self.watermark <= upto


@given(courses())
def test_of_each_sender_the_newest_that_was_kept_is_told_in_the_end(course: list[tuple[list[str], int]]) -> None:
    """The end is that of the session: then the store looks for what was put off."""
    recent, store, kept = Recent(START), Store(), 0
    for senders, kept in course:
        for sender in senders:
            store.log.append(sender)
            number = len(store.log)
            assert forward(recent, entry(number, sender, device="pad" if number % 2 else "phone"))
        store.keep(kept, recent.take(at(kept), at(len(store.log))))
        for sender, number in store.newest(store.watermark).items():
            assert store.told[sender] >= number, "everybody up to the watermark has been told"
    if recent.untold is not None:
        store.keep(position_order(recent.untold)[0], None)
    assert store.told.items() >= store.newest(kept).items()
    assert store.watermark == kept or not store.newest(kept).keys() - store.newest(store.watermark).keys()


def test_while_more_comes_than_is_acknowledged_the_store_looks_once() -> None:
    recent = Recent(START)
    assert recent.take(at(0), at(0)) is None, "the first time the store looks what others have left"
    forward(recent, entry(1, "bob"))
    assert _ids(recent.take(at(1), at(1))) == ["m1"]
    told = []
    for number in range(2, 4 + 2 * PATIENCE):
        forward(recent, entry(number, "bob"))
        told.append(_ids(recent.take(at(number - 1), at(number))))
    assert told[0] is None
    assert [ids for ids in told[1:] if ids] == [["m3"], [f"m{3 + PATIENCE}"]]
    assert _ids(recent.take(at(number), at(number))) == [f"m{number}"]


def _ids(forwarded: Forwarded | None) -> list[str] | None:
    return None if forwarded is None else [mark.id for _, mark in forwarded.marks]


def test_it_is_told_when_that_is_more_than_it_can_remember() -> None:
    recent = Recent(START)
    assert all(forward(recent, entry(number, f"user{number}")) for number in range(1, MOST_SENDERS + 1))
    assert not forward(recent, entry(MOST_SENDERS + 1, "one.more"))


def test_only_messages_count() -> None:
    recent = Recent(START)
    assert forward(recent, Entry(at(1), START, b'{"ev":"contact","user":"bob","state":"asked"}'))
    assert recent.take(at(1), at(1)) is None
    assert _ids(recent.take(at(1), at(1))) == []
