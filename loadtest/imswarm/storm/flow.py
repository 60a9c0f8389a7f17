"""The messages of one session to another, in an open loop: each has a time at which it is due, whatever happens."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from imswarm.checker import Arrivals


class Sender(Protocol):
    """What a flow needs of the session that sends."""

    @property
    def is_live(self) -> bool: ...

    def say(self, request: dict[str, Any]) -> None: ...


class Flow:
    """One message is under way at a time, as with real clients: so one that has to be repeated is not overtaken."""

    __slots__ = (
        "_arrivals",
        "_body",
        "_complete",
        "_flying",
        "_name",
        "_sent",
        "_to",
        "answered",
        "delivered",
        "due",
        "numbers",
    )

    def __init__(self, name: str, to: str, body_bytes: int, numbers: tuple[int, int]) -> None:
        """`name`: no other flow has it; `numbers`: of the sending and the receiving session."""
        self._name, self._to, self.numbers = name, to, numbers
        self._body = "." * body_bytes
        self.due: list[int] = []  # nanoseconds, as all times here; the index is a message's number
        self.answered: list[int] = []
        self.delivered: list[int] = []  # 0: not yet
        self._arrivals = Arrivals()
        self._flying = False
        self._complete = 0  # so many, from the first on, are answered and delivered
        self._sent = 0  # messages that have left once at least

    # -- sending

    def fall_due(self, due_ns: int) -> None:
        self.due.append(due_ns)
        self.delivered.append(0)

    def pump(self, sender: Sender) -> None:
        """Sends the first message without an answer, unless it is under way."""
        number = len(self.answered)
        if self._flying or number == len(self.due) or not sender.is_live:
            return
        self._flying = True
        request = {"op": "send", "ref": number, "id": f"{self._name}:{number}", "to": self._to, "body": self._body}
        if number < self._sent:
            request["again"] = True
        self._sent = max(self._sent, number + 1)
        sender.say(request)

    def interrupted(self) -> None:
        """The connection was lost, or the message refused for now: it is sent again."""
        self._flying = False

    def answer(self, number: int, now_ns: int) -> None:
        """Answered with ok, or seen in the sender's own log. A second time says nothing new."""
        if number == len(self.answered):
            self.answered.append(now_ns)
            self._flying = False

    # -- receiving

    def number_of(self, message_id: str) -> int | None:
        """None: not one of this flow."""
        name, _, number = message_id.rpartition(":")
        return int(number) if name == self._name else None

    def deliver(self, number: int, now_ns: int) -> None:
        if self._arrivals.note(number):
            self.delivered[number] = now_ns

    # -- what became of it

    @property
    def oldest_missing(self) -> int | None:
        """When the first message was due that is not delivered, or not answered."""
        while self._complete < len(self.answered) and self.delivered[self._complete]:
            self._complete += 1
        return self.due[self._complete] if self._complete < len(self.due) else None

    def record(self) -> FlowRecord:
        return FlowRecord(
            sender=self.numbers[0],
            recipient=self.numbers[1],
            due=tuple(self.due),
            delivered=tuple(self.delivered),
            answered=len(self.answered),
            duplicated=self._arrivals.repeated,
            reordered=self._arrivals.late,
        )


class FlowRecord(msgspec.Struct, frozen=True):
    """What became of the messages of a flow, in nanoseconds of the machine's monotonic clock; 0: never delivered."""

    sender: int
    recipient: int
    due: tuple[int, ...]
    delivered: tuple[int, ...]
    answered: int
    duplicated: int
    reordered: int

    @property
    def lost(self) -> int:
        """Answered with ok, and never delivered."""
        return sum(not delivered for delivered in self.delivered[: self.answered])
