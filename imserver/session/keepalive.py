"""A timer wheel: one slot a second, swept once a second. Pure: the time is an argument.

A timer object for every session would cost more memory than the session. A member stands in one slot and, when its
slot is swept, says itself when it wants to be looked at again; activity in between costs nothing.
"""

from typing import Protocol


class Member(Protocol):
    def on_timer(self, now: float) -> float | None:
        """Called about when it was due; returns when it is due next, None for never again."""


class TimerWheel:
    __slots__ = ("_slots", "_swept")

    def __init__(self, now: float) -> None:
        self._slots: dict[int, list[Member]] = {}
        self._swept = int(now)

    def add(self, member: Member, due: float) -> None:
        """`member` is looked at in the sweep after `due` (seconds, of the clock given to `sweep`)."""
        self._slots.setdefault(max(int(due), self._swept) + 1, []).append(member)

    def sweep(self, now: float) -> None:
        """Looks at all members that are due."""
        while self._swept < int(now):
            self._swept += 1
            for member in self._slots.pop(self._swept, ()):
                again = member.on_timer(now)
                if again is not None:
                    self.add(member, again)
