"""Messages that the server has not answered for yet, in the order in which they were sent.

Of each conversation one message at a time is on its way. So the messages to a partner are stored in the order in which
they were sent, even where one of them has to be repeated while those behind it would go through. (A window would be
faster on a long line; `await send(...)` has a window of one by nature, so only concurrent senders could tell.)

What was confirmed is kept for a minute: when a failover has made the store lose its newest entries, the server asks for
it, and it goes to the head of its conversation again, before anything newer. The application hears no more of it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypedDict

import msgspec

from imclient.journal import Journal, Queued, Unqueued
from imserver.errors import BadRequest, TooLarge
from imserver.model import parse_address, parse_message_id
from imserver.protocol import codec
from imserver.protocol.commands import Command, Delete, Edit, React, Send
from imserver.protocol.extras import Attachment, Encrypted, Location, Reference, check_reference

MAX_FRAME = 65536  # bytes; until the server has said
KEPT_SECONDS = 60.0
MOST_KEPT, MOST_KEPT_BYTES = 10_000, 8 * 1024 * 1024  # the oldest go first
_FLAG_BYTES = len(b',"again":true')  # may be added to a frame


class Extras(TypedDict, total=False):
    """What a message may have beside its body."""

    reply: Reference  # what it answers
    forwarded: Reference  # whose words these are
    attachment: Attachment
    location: Location
    encrypted: Encrypted
    mentions: list[str]  # members of the group that are addressed
    ttl: int  # so many seconds after the server has stored it, it vanishes


class Item:
    __slots__ = (
        "confirmed_at",
        "due",
        "frame",
        "id",
        "is_confirmed",
        "is_flagged",
        "is_flying",
        "may_be_stored",
        "number",
        "refusals",
        "superseded",
        "to",
        "was_sent",
    )

    def __init__(self, number: int, id: str, to: str, frame: bytes) -> None:
        self.number = number  # its place among all
        self.id = id
        self.to = to
        self.frame = frame  # the request, encoded; its ref is the id
        self.due = 0.0  # not to be repeated earlier than that
        self.refusals = 0  # that the server called passing, in a row
        self.is_flying = False
        self.was_sent = False  # once at least
        self.may_be_stored = False  # it was sent, and nobody knows what became of it
        self.is_flagged = False  # the frame says so
        self.is_confirmed = False  # the application was told that it is stored; it is repeated all the same
        self.confirmed_at = 0.0
        self.superseded = 0  # refusals that may still come, of copies that were sent again since

    def flag(self) -> None:
        """The server looks for it in the log, however long ago it was sent."""
        self.is_flagged = True
        self.frame = codec.encode_command(msgspec.structs.replace(codec.decode_command(self.frame), again=True))

    def command(self) -> Command:
        return codec.decode_command(self.frame)


def _check_extras(frame: bytes) -> None:
    """As the server does. Raises BadRequest."""
    command = codec.decode_command(frame)
    assert isinstance(command, Send)
    command.checked_extras()


class Outbox:
    def __init__(self, run: str, journal: Journal | None = None) -> None:
        """Ids are `<run>-<number>`: a device MUST NOT use the same `run` twice."""
        self._run = run
        self._runs = {run}
        self._journal = journal or Journal()
        self._count = 0  # of this run
        self._last_number = 0
        self._saved_number = 0  # up to there they are in the file: what is not there has never left
        self._items: dict[str, Item] = {}
        self._conversations: dict[str, deque[Item]] = {}
        self._confirmed = 0  # of the items
        self._kept: deque[Item] = deque()  # confirmed and not in `_items`, oldest first
        self._kept_bytes = 0
        self.is_in_doubt = False  # the server has asked on this connection: what a log shows may be lost in the other
        self.max_frame = MAX_FRAME

    def __len__(self) -> int:
        """Messages of which the application does not know yet what became."""
        return len(self._items) - self._confirmed

    @property
    def is_empty(self) -> bool:
        """There is nothing to send, or to send again."""
        return not self._items

    def has_made(self, id: str) -> bool:
        """The id is of a message that was once in this outbox; where the application chose it, in the last minute."""
        return id.rpartition("-")[0] in self._runs or id in self._items or any(item.id == id for item in self._kept)

    def restore(self, messages: Iterable[Queued], runs: Iterable[str]) -> None:
        """What earlier runs have left, in order. Any of them may have been sent, long ago; so the server is told."""
        self._runs.update(runs)
        for message in messages:
            item = Item(message.number, message.id, message.to, message.frame)
            item.was_sent = item.may_be_stored = True
            item.is_confirmed = message.is_confirmed
            self._confirmed += message.is_confirmed
            self._last_number = self._saved_number = max(self._last_number, item.number)
            self._append(item)

    # -- in and out

    def add(
        self, to: str, body: str | dict[str, Any], extras: Extras, *, id: str | None = None, again: bool = False
    ) -> str:
        """A new message; returns its id. `again`: it may be stored, since an earlier run sent it under this id.

        Raises BadRequest (a bad name or id, text that can't be carried; an id that is on its way) and TooLarge.
        """
        address = parse_address(to)
        codec.check_text(body, "body")
        run = self._run if id is None else None
        id = self._next_id() if id is None else parse_message_id(id)
        if id in self._items:
            raise BadRequest(f"id: {id!r} is of a message that is on its way")
        frame = codec.encode_command(Send(ref=id, id=id, to=address, body=codec.encode_body(body), **extras))
        if extras:
            _check_extras(frame)
        return self._put(Item(self._last_number + 1, id, address, frame), run, may_be_stored=again)

    def amend(self, to: str, command: Edit | Delete | React) -> str:
        """The same for what changes a message; it goes in one line with the messages of that conversation."""
        address, id = parse_address(to), self._next_id()
        command.to, command.id, command.ref = address, id, id
        check_reference(command.of, "of")
        frame = codec.encode_command(command)
        codec.decode_command(frame)
        return self._put(Item(self._last_number + 1, id, address, frame), self._run)

    def _next_id(self) -> str:
        return f"{self._run}-{self._count + 1}"

    def _put(self, item: Item, run: str | None, *, may_be_stored: bool = False) -> str:
        if len(item.frame) + _FLAG_BYTES > self.max_frame:
            raise self._too_large(item)
        item.may_be_stored = may_be_stored
        self._count += 1
        self._last_number += 1
        self._append(item)
        self._note(item, run)
        return item.id

    @property
    def last_number(self) -> int:
        """Of the newest message."""
        return self._last_number

    def saved(self, number: int) -> None:
        """Messages up to this one are in the file: they may leave."""
        self._saved_number = number

    def _append(self, item: Item) -> None:
        self._items[item.id] = item
        self._conversations.setdefault(item.to, deque()).append(item)

    def _note(self, item: Item, run: str | None = None) -> None:
        self._journal.add(Queued(item.number, item.id, item.to, item.frame, item.is_confirmed, run))

    def remove(self, id: str) -> Item | None:
        """Takes out what has been answered for; None where it is not there (any more)."""
        item = self._items.pop(id, None)
        if item is not None:
            self._journal.add(Unqueued(id))
            self._confirmed -= item.is_confirmed
            conversation = self._conversations[item.to]
            conversation.remove(item)
            if not conversation:
                del self._conversations[item.to]
        return item

    def withdraw(self, id: str) -> bool:
        """Takes out what has never left. False: it may be stored, so it stays and is repeated until answered for."""
        item = self._items.get(id)
        if item is None or item.was_sent:
            return False
        self.remove(id)
        return True

    def remove_too_large(self) -> list[tuple[Item, TooLarge]]:
        """Takes out what the server would end the connection for, now that it has said what it allows."""
        items = [item for item in self._items.values() if len(item.frame) + _FLAG_BYTES > self.max_frame]
        for item in items:
            self.remove(item.id)
        return [(item, self._too_large(item)) for item in items]

    def _too_large(self, item: Item) -> TooLarge:
        return TooLarge(f"body: the message takes {len(item.frame)} bytes; {self.max_frame} are allowed")

    # -- confirmed, and perhaps lost again

    def answered(self, id: str, now: float) -> Item | None:
        """Takes out what the server says is stored, and keeps it for a while. None: it is not there (any more).

        `is_confirmed` of it says whether the application knows.
        """
        item = self.remove(id)
        if item is not None:
            item.confirmed_at = now
            self._kept.append(item)
            self._kept_bytes += len(item.frame)
            self._forget_old(now)
        return item

    def find(self, id: str) -> Item | None:
        return self._items.get(id)

    def confirm(self, id: str) -> bool:
        """The application is told that it is stored, while it stays. False: it was told before, or it is not there."""
        item = self._items.get(id)
        if item is None or item.is_confirmed:
            return False
        item.is_confirmed = True
        self._confirmed += 1
        self._note(item)
        return True

    def _forget_old(self, now: float) -> None:
        kept = self._kept
        while kept and (
            now - kept[0].confirmed_at > KEPT_SECONDS or len(kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES
        ):
            self._kept_bytes -= len(kept.popleft().frame)

    def resend(self, seconds: float, now: float) -> None:
        """The store may have lost what was confirmed in the last so many seconds: it is due again, before all else."""
        self._forget_old(now)
        self.is_in_doubt = True
        for item in self._items.values():
            item.superseded += item.is_flying  # it is refused, or will be
            item.is_flying, item.due = False, 0.0
        kept, self._kept, self._kept_bytes = self._kept, deque(), 0
        for item in reversed(kept):
            if now - item.confirmed_at <= seconds:
                self._put_back(item)

    def _put_back(self, item: Item) -> None:
        """As the first of its conversation."""
        item.is_flying, item.is_confirmed, item.due, item.superseded = False, True, 0.0, 0
        self._confirmed += 1
        self._items[item.id] = item
        self._conversations.setdefault(item.to, deque()).appendleft(item)
        self._note(item)

    # -- sending

    def _waiting(self) -> Iterator[Item]:
        last = self._saved_number if self._journal.is_on else self._last_number
        return (
            items[0] for items in self._conversations.values() if not items[0].is_flying and items[0].number <= last
        )

    def due(self, now: float) -> list[Item]:
        """What may leave now; the caller sends all of it."""
        items = [item for item in self._waiting() if item.due <= now]
        for item in items:
            item.is_flying = item.was_sent = True
            if item.may_be_stored and not item.is_flagged:
                item.flag()
        return items

    def next_due(self) -> float | None:
        """When `due` has something again; None: not before something else happens."""
        return min((item.due for item in self._waiting()), default=None)

    def refusals(self, id: str) -> int:
        """How often the server has postponed it; 0 where it is not there."""
        item = self._items.get(id)
        return 0 if item is None else item.refusals

    def postpone(self, id: str, due: float, *, may_be_stored: bool) -> None:
        """The server can't take it now: it is repeated, and those behind it in its conversation wait."""
        item = self._items.get(id)
        if item is not None and item.superseded:
            item.superseded -= 1
        elif item is not None:
            item.due = due
            item.refusals += 1
            item.is_flying = False
            item.may_be_stored |= may_be_stored

    def interrupted(self) -> None:
        """The connection is lost: what was on its way has an unknown outcome and is repeated under its id."""
        self.is_in_doubt = False
        for item in self._items.values():
            item.may_be_stored |= item.is_flying
            item.is_flying = False
            item.superseded = 0
            item.due = 0.0
            item.refusals = 0
