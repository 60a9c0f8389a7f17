"""What one resuming session says to another, or to a group, and what became of it. Its sender may be away."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from imswarm.checker import Arrivals, Ledger
from imswarm.stamps import FIRST_REF


class Speaker(Protocol):
    """What a flow needs of the session that sends."""

    @property
    def number(self) -> int: ...

    @property
    def is_live(self) -> bool: ...

    @property
    def is_out(self) -> bool:
        """It has left on purpose, and says nothing until it is back."""

    def send(self, data: bytes) -> None: ...


class ResumingFlow:
    """One direction of a conversation: `sender` to the session with the number `recipient`."""

    __slots__ = ("_recipient", "_sender", "_template", "ledger", "prefix", "unanswered")

    def __init__(self, prefix: bytes, template: bytes, sender: Speaker, recipient: int) -> None:
        self.prefix = prefix
        self.ledger = Ledger()
        self.unanswered: dict[int, int] = {}  # number to time, in the order of sending
        self._template = template
        self._sender = sender
        self._recipient = recipient

    @property
    def alive(self) -> bool:
        return not self._sender.is_out

    def is_from(self, number: int) -> bool:
        return self._sender.number == number

    def send(self, count: int, time_ns: int) -> None:
        for _ in range(count):
            number = self.ledger.send()
            self.unanswered[number] = time_ns
            if self._sender.is_live:
                self._sender.send(self._frame(number, time_ns))

    def repeat(self) -> None:
        """All that has no answer, in its order."""
        if self.unanswered:
            self._sender.send(b"".join(self._frame(number, time_ns) for number, time_ns in self.unanswered.items()))

    def answered(self, number: int) -> bool:
        """False if it was answered before."""
        self.unanswered.pop(number, None)
        return self.ledger.answer(number)

    def is_for(self, number: int) -> bool:
        return number == self._recipient

    def deliver(self, number: int, to: int) -> bool:
        """Message `number` has come to the session `to`; false if it had come before."""
        return self.ledger.deliver(number)

    # -- what became of it

    @property
    def outstanding(self) -> int:
        return self.ledger.outstanding

    @property
    def lost(self) -> int:
        return self.ledger.lost

    @property
    def duplicated(self) -> int:
        return self.ledger.duplicated

    @property
    def reordered(self) -> int:
        return self.ledger.reordered

    def _frame(self, number: int, time_ns: int) -> bytes:
        return self._template % (FIRST_REF + number, number, time_ns, number, time_ns)


class GroupFlow(ResumingFlow):
    """What one member says to all the others."""

    __slots__ = ("_arrivals", "_delivered")

    def __init__(self, prefix: bytes, template: bytes, sender: Speaker, others: Collection[int]) -> None:
        super().__init__(prefix, template, sender, -1)
        self._arrivals = {number: Arrivals() for number in others}
        self._delivered = 0  # to all of them together

    def is_for(self, number: int) -> bool:
        return number in self._arrivals

    def deliver(self, number: int, to: int) -> bool:
        first = self._arrivals[to].note(number)
        self._delivered += first
        return first

    @property
    def outstanding(self) -> int:
        """Answers and deliveries that are missing."""
        return self.ledger.unanswered + self.ledger.sent * len(self._arrivals) - self._delivered

    @property
    def lost(self) -> int:
        return sum(map(self.ledger.lost_of, self._arrivals.values()))

    @property
    def duplicated(self) -> int:
        return sum(arrivals.repeated for arrivals in self._arrivals.values())

    @property
    def reordered(self) -> int:
        return sum(arrivals.late for arrivals in self._arrivals.values())
