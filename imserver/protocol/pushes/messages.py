"""Messages and logs."""

from typing import Any

import msgspec

from imserver.model import Entry, Position
from imserver.protocol.extras import Attachment, Encrypted, Location, Mentions, Reference
from imserver.protocol.pushes.base import Push


class Sent(msgspec.Struct, gc=False):
    """The `ok` of `send`: stored for recipient and sender; `at` in the sender's own log (or the group's).

    `prev`: the position before it there; None for a repeat. `expires`: when it vanishes (unix seconds).
    """

    id: str
    at: Position
    prev: Position | None = None
    expires: int | None = None


class Page(msgspec.Struct, omit_defaults=True):
    """The `ok` of `history`, newest last. Where `more`, ask again with `before` set to `next`.

    `amendments`: edits, deletions and reactions in the same part of the log, of messages in it or before it.
    """

    messages: list[Entry]
    more: bool
    next: str | None = None
    amendments: list[Entry] = []


class MessagePush(Push, tag="msg", kw_only=True):
    """An entry that is a message. `log` names the group's log; without it the entry is of the user's own."""

    at: str
    prev: str
    sender: str = msgspec.field(name="from")
    device: str
    to: str
    id: str
    body: Any
    log: str | None = None
    bot: bool = False  # its sender is one
    reply: Reference | None = None
    forwarded: Reference | None = None
    attachment: Attachment | None = None
    location: Location | None = None
    encrypted: Encrypted | None = None
    mentions: Mentions | None = None
    scheduled: int | None = None  # for when it was (unix seconds): it was said by the server
    expires: int | None = None  # unix seconds: then it vanishes


class TypingPush(Push, tag="typing", kw_only=True):
    """Good for 6 seconds."""

    sender: str = msgspec.field(name="from")
    to: str
    on: bool
