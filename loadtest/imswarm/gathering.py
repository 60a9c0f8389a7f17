"""Before a run: groups are made, and people become contacts. A bounded number of requests is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from imswarm.resuming import SETUP, ResumingSession
from imswarm.stats import Tally

_AT_ONCE = 50
_MEMBERS_AT_ONCE = 100  # what `group.create` takes

_Request = tuple[ResumingSession, dict[str, Any]]


class Gathering:
    """Asks one kind of thing after the other, each only when all of the one before is answered."""

    def __init__(
        self,
        everybody: Sequence[ResumingSession],
        groups: Sequence[Sequence[ResumingSession]],
        contacts: int,
        tally: Tally,
        on_gathered: Callable[[], None],
    ) -> None:
        """`on_gathered`: called once."""
        self._steps = iter((_founded(groups), _joined(groups), _related(everybody, contacts)))
        self._step: Iterator[_Request] = iter(())
        self._under_way = 0
        self._tally = tally
        self._on_gathered: Callable[[], None] | None = on_gathered
        self._go_on()

    def on_reply(self, reply: dict[str, Any]) -> None:
        if "err" in reply:
            self._tally.errors[f"preparing: {reply['err']['code']}: {reply['err']['text']}"] += 1
        self._under_way -= 1
        self._go_on()

    def _go_on(self) -> None:
        while self._on_gathered is not None and self._under_way < _AT_ONCE:
            request = next(self._step, None)
            if request is not None:
                session, fields = request
                self._under_way += 1
                session.say({**fields, "ref": SETUP})
            elif self._under_way:
                return
            elif (step := next(self._steps, None)) is not None:
                self._step = step
            else:
                on_gathered, self._on_gathered = self._on_gathered, None
                on_gathered()


def _founded(groups: Sequence[Sequence[ResumingSession]]) -> Iterator[_Request]:
    for members in groups:
        founder, *others = members
        names = [other.user for other in others[:_MEMBERS_AT_ONCE]]
        yield founder, {"op": "group.create", "group": founder.group, "name": "swarm", "open": True, "members": names}


def _joined(groups: Sequence[Sequence[ResumingSession]]) -> Iterator[_Request]:
    """Those whom the founder could not name at once."""
    for members in groups:
        for member in members[1 + _MEMBERS_AT_ONCE :]:
            yield member, {"op": "group.join", "group": member.group}


def _related(everybody: Sequence[ResumingSession], contacts: int) -> Iterator[_Request]:
    """Everybody asks the `contacts / 2` in front, and those behind: requests that cross become mutual."""
    count = len(everybody)
    for step in range(1, min(contacts // 2, (count - 1) // 2) + 1):
        for number, session in enumerate(everybody):
            other = everybody[(number + step) % count]
            yield session, {"op": "contact.add", "user": other.user}
            yield other, {"op": "contact.add", "user": session.user}
