"""A reader's place in one log.

It guards two invariants. *No gap is possible unseen*: an entry is taken only if it follows the one taken before it;
else something is missing, and the log must be read again from here. *No duplicate*: what is not newer is dropped.

Two positions matter. Up to `seen` everything has been received; the log is read from there after a lost connection. Up
to `kept` the application is done with everything; the server is told so, and a program that starts anew goes on there.

A message that this client sends is not pushed back to it: the reply stands for the entry. Its position is remembered
until what comes before it has been received.
"""

from collections import deque
from enum import Enum
from typing import NamedTuple

from imserver.model import START, parse_position, position_order

_START = START.decode()


class Verdict(Enum):
    NEXT = "next"
    DUPLICATE = "duplicate"
    GAP = "gap"


class _Unkept(NamedTuple):
    """An entry that was given to the application, which is not done with it."""

    at: str
    prev: str | None
    size: int


class Cursor:
    __slots__ = ("_replied", "_unkept", "is_cut", "seen")

    def __init__(self, seen: str | None = None) -> None:
        """`seen` None: nothing is known of the log; whatever comes first is in order."""
        self.seen = seen
        self._replied: dict[str, str | None] = {}  # own entries not seen yet: position -> prev, if told
        self.is_cut = False  # the log no longer has what follows `seen`
        self._unkept: deque[_Unkept] = deque()

    @property
    def is_fresh(self) -> bool:
        """It has held nothing yet: what the log has lost before it is no loss to it."""
        return self.seen is None or self.seen == _START

    # -- receiving

    def judge(self, at: str, prev: str) -> Verdict:
        """What the entry at `at` is to this reader; raises BadRequest where these are no positions."""
        if self.seen is None:
            return Verdict.NEXT
        if not is_newer(at, self.seen):
            return Verdict.DUPLICATE
        return Verdict.NEXT if self.is_cut or self._leads_back(prev) else Verdict.GAP

    def _leads_back(self, position: str | None) -> bool:
        """Only own entries lie between `seen` and `position`. A reply without `prev` is trusted: it came in order."""
        while position is not None and position != self.seen:
            if position not in self._replied:
                return False
            position = self._replied[position]
        return True

    def advance(self, at: str) -> None:
        """Everything up to `at` is received."""
        if self.seen is not None and not is_newer(at, self.seen):
            return
        self.seen = at
        self.is_cut = False
        if self._replied:
            self._replied = {own: prev for own, prev in self._replied.items() if is_newer(own, at)}
            self._take_replied()

    def replied(self, at: str, prev: str | None) -> None:
        """The entry at `at` is the application's own, known by the reply. `prev` None: the server didn't tell."""
        if self.seen is None or is_newer(at, self.seen):
            self._replied[at] = prev
            self._take_replied()

    def _take_replied(self) -> None:
        """`seen` moves over the own entries that follow it."""
        while (
            follower := next((at for at, prev in self._replied.items() if prev and prev == self.seen), None)
        ) is not None:
            del self._replied[follower]
            self.seen = follower

    def cut(self) -> None:
        """The log no longer has what follows: whatever comes next is in order."""
        self.is_cut = True

    def resume(self) -> str | None:
        """From where to read the log in a new connection. What was said of it in the old one is said again."""
        self.is_cut = False
        return self.seen

    def return_to(self, at: str) -> None:
        """The log has lost its end and goes on behind `at`."""
        self.seen = at
        self._replied.clear()

    # -- keeping

    @property
    def kept(self) -> str | None:
        """The application is done with everything up to here; None: nothing is known."""
        return self._unkept[0].prev if self._unkept else self.seen

    def give(self, at: str, prev: str | None, size: int) -> None:
        """The entry is the application's now; `size` bytes, more than none. `prev` None: nothing is known before it."""
        self._unkept.append(_Unkept(at, prev, size))

    @property
    def unkept_bytes(self) -> int:
        return sum(entry.size for entry in self._unkept)

    def keep(self, upto: str) -> int:
        """The application is done with everything up to `upto`; returns the bytes of it."""
        freed = 0
        while self._unkept and not is_newer(self._unkept[0].at, upto):
            freed += self._unkept.popleft().size
        if self._unkept and is_newer(upto, self._unkept[0].prev or _START):  # a part of a hole is filled
            self._unkept[0] = self._unkept[0]._replace(prev=upto)
        return freed


def is_newer(at: str, position: str) -> bool:
    """Raises BadRequest where one of them is no position."""
    return position_order(parse_position(at, "at")) > position_order(parse_position(position, "at"))
