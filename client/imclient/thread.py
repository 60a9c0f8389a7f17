"""What a conversation looks like: a thread, from messages and amendments in whatever order they became known. Pure.

All devices that know the same entries show the same: of edits, and of the reactions of one user, the newest counts, and
a deletion counts for ever.
"""

from heapq import heappop, heappush
from typing import Any

import msgspec

from imclient.amendments import AnyAmendment, Deleted, Edited, Reacted
from imclient.events import Message, Page
from imserver.model import position_order
from imserver.protocol.extras import Reference


class Line(msgspec.Struct, frozen=True):
    """A message as it is to be shown. `reactions`: by user."""

    message: Message
    body: Any
    is_edited: bool
    reactions: dict[str, str]


class Thread:
    """Of one log's messages. Only what vanishes is forgotten; whoever shows many makes one for each conversation."""

    def __init__(self) -> None:
        self._messages: dict[Reference, Message] = {}
        self._edits: dict[Reference, Edited] = {}
        self._reactions: dict[Reference, dict[str, Reacted]] = {}
        self._deleted: set[Reference] = set()
        self._expiring: list[tuple[int, tuple[str, str, str]]] = []  # a heap: when, what Reference is made of

    def add(self, what: Message | AnyAmendment) -> None:
        """It may come before what it belongs to, and again."""
        match what:
            case Message():
                self._messages.setdefault(what.reference, what)
                self._note_expiry(what.reference, what.expires)
            case Edited():
                self._note_expiry(what.of, what.expires)
                self._edits[what.of] = max(what, self._edits.get(what.of, what), key=lambda it: it.order)
            case Reacted():
                known = self._reactions.setdefault(what.of, {})
                known[what.sender] = max(what, known.get(what.sender, what), key=lambda it: it.order)
            case Deleted():
                self._deleted.add(what.of)

    def add_page(self, page: Page) -> None:
        """Of `Client.history`."""
        for what in (*page.messages, *page.amendments):
            self.add(what)

    def _note_expiry(self, of: Reference, expires: int | None) -> None:
        if expires is not None:
            heappush(self._expiring, (expires, (of.sender, of.device, of.id)))

    @property
    def next_expiry(self) -> int | None:
        """When something vanishes next (unix seconds): `expire` is to be called then. None: nothing will."""
        return self._expiring[0][0] if self._expiring else None

    def expire(self, now: float) -> list[Reference]:
        """Forgets what has vanished by `now` (unix seconds, by the server's clock). Returns the messages concerned."""
        gone: list[Reference] = []
        while self._expiring and self._expiring[0][0] <= now:
            of = Reference(*heappop(self._expiring)[1])
            known = [kind.pop(of, None) for kind in (self._messages, self._edits, self._reactions)]
            if any(known):
                gone.append(of)
        return gone

    def line(self, of: Reference) -> Line | None:
        """A message as it is now; None where it is not known, or deleted."""
        message = self._messages.get(of)
        if message is None or of in self._deleted:
            return None
        edit, reactions = self._edits.get(of), self._reactions.get(of, {})
        shown = {user: reaction.emoji for user, reaction in sorted(reactions.items()) if reaction.emoji is not None}
        return Line(message, message.body if edit is None else edit.body, edit is not None, shown)

    def lines(self) -> list[Line]:
        """All that is to be shown, in the order of the log."""
        lines = [line for of in self._messages if (line := self.line(of)) is not None]
        return sorted(lines, key=lambda line: position_order(line.message.at.encode()))
