"""What became of every message of one direction of a conversation.

Messages are numbered 0, 1, 2, ... by their sender. A message counts as

* lost: the server said `ok`, and it never came;
* duplicated: it came more than once (each time after the first counts);
* reordered: it came after one with a higher number.

A message the server refused need not come. It may nevertheless: a refusal can leave the outcome
open.
"""

from __future__ import annotations


class Arrivals:
    """Which of the numbers 0, 1, 2, ... have come.

    Only the numbers skipped so far are remembered, so that it stays small in a run of any length.
    """

    __slots__ = ("_missing", "_next", "late", "repeated")

    def __init__(self) -> None:
        self._next = 0
        self._missing: set[int] = set()
        self.late = 0
        self.repeated = 0

    def note(self, number: int) -> bool:
        """Count an arrival; false if this number had come before."""
        if number == self._next:
            self._next = number + 1
        elif number > self._next:
            self._missing.update(range(self._next, number))
            self._next = number + 1
        elif number in self._missing:
            self._missing.remove(number)
            self.late += 1
        else:
            self.repeated += 1
            return False
        return True

    def __contains__(self, number: int) -> bool:
        return number < self._next and number not in self._missing

    def absent(self, end: int) -> list[int]:
        """The numbers below `end` that have not come."""
        return sorted(self._missing) + list(range(self._next, end))


class Ledger:
    """Everything sent in one direction, answered to its sender and delivered to its recipient."""

    __slots__ = ("_answered", "_answers", "_deliveries", "_refused", "_settled", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self._answers = Arrivals()
        self._answered = 0
        self._refused: set[int] = set()
        self._deliveries = Arrivals()
        self._settled = 0

    def send(self) -> int:
        """The number of the next message, which the caller sends now."""
        number = self.sent
        self.sent = number + 1
        return number

    def answer(self, number: int) -> bool:
        """The sender got `ok`; false if it had been answered before."""
        first = self._answers.note(number)
        if first:
            self._answered += 1
        return first

    def refuse(self, number: int) -> bool:
        """The sender got `err`; false if it had been answered before."""
        first = self.answer(number)
        if first:
            self._refused.add(number)
            self._settled += number not in self._deliveries
        return first

    def deliver(self, number: int) -> bool:
        """The recipient got it; false if it had got it before."""
        first = self._deliveries.note(number)
        if first and number not in self._refused:
            self._settled += 1
        return first

    @property
    def outstanding(self) -> int:
        """How many are still to be answered, or to be delivered and not refused."""
        return self.sent - min(self._answered, self._settled)

    @property
    def unanswered(self) -> int:
        return self.sent - self._answered

    @property
    def lost(self) -> int:
        return self.lost_of(self._deliveries)

    def lost_of(self, deliveries: Arrivals) -> int:
        """The same, of one of several recipients."""
        return sum(number in self._answers and number not in self._refused for number in deliveries.absent(self.sent))

    @property
    def duplicated(self) -> int:
        return self._deliveries.repeated

    @property
    def reordered(self) -> int:
        return self._deliveries.late
