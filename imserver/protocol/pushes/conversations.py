"""Marks, and the list of conversations."""

import msgspec

from imserver.protocol.pushes.base import Push


class Mark(msgspec.Struct, gc=False):
    """The newest message of this user that the partner has read, or got. `upto` orders the marks of one partner."""

    upto: str
    device: str
    id: str


class Conversation(msgspec.Struct, omit_defaults=True, kw_only=True, rename={"partner": "with"}):
    """One conversation. `unread`: as of `at`, in the log that it is in; with `more`, so many at least.

    `archived`: up to that position; a newer message brings it back, unless it is `muted`.
    """

    partner: str
    at: str
    unread: int = 0
    more: bool = False
    read: str | None = None
    read_by: Mark | None = None
    delivered: Mark | None = None
    last: str | None = None
    muted: bool = False
    pinned: bool = False
    archived: str | None = None


class ConversationsPage(msgspec.Struct, omit_defaults=True):
    """The `ok` of `conversations`. Where `more`, ask again with `after` set to `next`; keep the first page's `version`.

    `at`: where the user's own log ended.
    """

    conversations: list[Conversation]
    version: int
    at: str
    more: bool = False
    full: bool = False  # these are all conversations, not the changes since a version
    next: int | None = None


class Arrangement(msgspec.Struct, omit_defaults=True):
    """The `ok` of `conversation.set`: how things stand now."""

    muted: bool = False
    pinned: bool = False
    archived: str | None = None


class ReadPush(Push, tag="read", kw_only=True):
    """`by` has read the conversation with `partner` up to there: a position in the log of `by`, or of the group.

    `device`, `id`: the partner's newest message up to there, where there is one.
    """

    by: str
    partner: str = msgspec.field(name="with")
    upto: str
    device: str | None = None
    id: str | None = None


class DeliveredPush(Push, tag="delivered", kw_only=True):
    """A device of `by` has kept what `partner` sent, up to that message; `upto`: its position in the log of `by`."""

    by: str
    partner: str = msgspec.field(name="with")
    upto: str
    device: str
    id: str


class ConversationPush(Push, tag="conversation", kw_only=True):
    """Another device of this user has arranged a conversation: it stands like this now."""

    partner: str = msgspec.field(name="with")
    muted: bool = False
    pinned: bool = False
    archived: str | None = None


class ConversationsChanged(Push, tag="conversations"):
    """Pushes about conversations may have been missed: `conversations` tells what has changed."""
