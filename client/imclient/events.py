"""What the protocol core tells its user, and what the application sees of it."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from imclient.amendments import AnyAmendment, partner_of
from imserver.errors import ImError
from imserver.protocol.extras import Attachment, Encrypted, Location, Reference
from imserver.protocol.pushes import GroupPush

OWN_LOG = ""  # the user's own log, where logs are named


def time_of(position: str) -> datetime:
    """The server's time, in UTC, at which the entry at `position` was stored."""
    return datetime.fromtimestamp(int(position.partition("-")[0]) / 1000, UTC)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said, as it stands in the log. Decodes from the push `msg` and from a message of a history page."""

    at: str
    sender: str = msgspec.field(name="from")
    device: str
    to: str
    id: str
    body: Any  # a str, or a dict
    log: str = OWN_LOG
    prev: str | None = None  # the position before it in its log, where the server tells it
    bot: bool = False  # the sender is one
    reply: Reference | None = None  # what it answers
    forwarded: Reference | None = None  # whose words these are
    attachment: Attachment | None = None
    location: Location | None = None
    encrypted: Encrypted | None = None
    mentions: list[str] | None = None  # members of the group that are addressed
    expires: int | None = None  # unix seconds, by the server's clock: then it vanishes, and MUST be shown no more
    scheduled: int | None = None  # for when it was (unix seconds): the server has said it

    @property
    def reference(self) -> Reference:
        """What names it in replies, on both sides."""
        return Reference(self.sender, self.device, self.id)

    @property
    def sent_at(self) -> datetime:
        """When the server stored it, by the server's clock, in UTC."""
        return time_of(self.at)

    def partner(self, me: str) -> str:
        """The conversation it belongs to, as the user `me` sees it: the other user, or the group."""
        return partner_of(self.sender, self.to, me)


class Page(msgspec.Struct, frozen=True):
    """A piece of a conversation, newest message last. Where `more`, ask again with `before` set to `next`.

    Messages are as they were said; `amendments` of them stand in this page or in those before: see `Thread`.

    `local`: from the file, since the server was out of reach; it may have more.
    """

    messages: list[Message]
    more: bool = False
    next: str | None = None
    amendments: list[AnyAmendment] = []
    local: bool = False


class Sent(msgspec.Struct, frozen=True):
    """A message is stored for its recipient and its sender; `at` in the sender's own log (or the group's).

    `stamp`: of an edit, a deletion or a reaction, where the server has told it.
    `expires`: when it vanishes (unix seconds, by the server's clock).
    """

    id: str
    to: str
    at: str
    stamp: int | None = None
    expires: int | None = None

    @property
    def sent_at(self) -> datetime:
        """When the server stored it, by the server's clock, in UTC."""
        return time_of(self.at)


class SendFailed(msgspec.Struct, frozen=True):
    """A message was refused for good: it is not stored, and it is not repeated."""

    id: str
    to: str
    error: ImError


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """How the user stands to another one: an entry of the own log when it changes; also told by the list of contacts.

    `state`: "asked" (by this user), "asking", "mutual", "none". `quiet`: asks, and was never known before. `name` and
    `groups`: what this user calls it.
    """

    user: str
    state: str
    blocked: bool = False
    quiet: bool = False
    note: str | None = None
    name: str | None = None
    groups: tuple[str, ...] = ()
    at: str = ""  # empty in the list
    log: str = OWN_LOG

    @property
    def is_known(self) -> bool:
        """It is in the list of contacts."""
        return self.state != "none" or self.blocked


class Presence(msgspec.Struct, frozen=True):
    """What a contact shows: "online", "away", "busy", "offline"; `since`: unix seconds, where it may be known."""

    user: str
    show: str
    status: str = ""
    since: int | None = None


class Typing(msgspec.Struct, frozen=True):
    """A contact types to this user, or a member in a group, or has stopped; forget it after 6 seconds.

    `to`: this user, or the group.
    """

    sender: str
    to: str
    on: bool


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """`by` (the partner, or this user elsewhere) has read the conversation with `partner`, as `by` sees it.

    `upto`: a position in the log of `by`, or of the group. `device`, `id`: of the newest message up to there that the
    other one has sent; None where nobody is to know.
    """

    by: str
    partner: str
    upto: str
    device: str | None = None
    id: str | None = None


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What this user sent to `by`, up to the message `id` of `device`, has come to a device there. `upto`: as above."""

    by: str
    upto: str
    device: str
    id: str


class Arranged(msgspec.Struct, frozen=True, kw_only=True):
    """This user has muted, pinned or archived a conversation, or not any more: on another device."""

    partner: str
    muted: bool = False
    pinned: bool = False
    archived: str | None = None


class ConversationsOutdated(msgspec.Struct, frozen=True):
    """What `Client.conversations` knows is behind: call its `refresh`."""


class Welcomed(msgspec.Struct, frozen=True):
    """Logged in. `token` logs this user and device in again until `expires` (unix seconds)."""

    user: str
    device: str
    token: str
    expires: int


class Synced(msgspec.Struct, frozen=True):
    """The backlog has been given; what follows is live."""


class Truncated(msgspec.Struct, frozen=True):
    """Entries of `log` between the last one given and `at` are not to be had any more.

    With `count` they are (so many, or more): a group said too much for all of it to be sent; `history` has it.
    They stand behind `after`. `mentioned`: position of the newest of these that mentions this user.
    """

    at: str
    log: str = OWN_LOG
    count: int = 0
    after: str | None = None
    mentioned: str | None = None


class GroupChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody joined or left, or the group is another now.

    In the group's log (`log` is `group`) all members are told; in the user's own, what concerns this user.
    """

    at: str
    log: str
    group: str
    change: str
    user: str | None = None
    by: str | None = None
    quiet: bool = False  # `by` is a stranger: to be shown without a sound
    role: str | None = None
    name: str | None = None
    topic: str | None = None


def group_changed(push: GroupPush, me: str) -> GroupChanged:
    """What a push about a group means to the user `me`."""
    return GroupChanged(
        at=push.at,
        log=push.log or OWN_LOG,
        group=push.log or push.group or "",
        change=push.change,
        user=push.user if push.log else me,
        by=push.by,
        quiet=push.quiet,
        role=push.role,
        name=push.name,
        topic=push.topic,
    )


class Regressed(msgspec.Struct, frozen=True):
    """The server has lost entries of `log` behind `at`. Those that come again are not given twice."""

    at: str
    log: str = OWN_LOG


class Disconnected(msgspec.Struct, frozen=True):
    """The connection is gone; the client comes back by itself after `retry_in` seconds.

    `bye`: the code with which the server said goodbye; None if it did not, or there was no connection.
    """

    why: str
    retry_in: float
    bye: str | None = None


class Answered(msgspec.Struct, frozen=True):
    """The answer to the request `ref`: the content of its `ok`, or an error."""

    ref: int
    content: msgspec.Raw | ImError


class Reconnect(msgspec.Struct, frozen=True):
    """The connection MUST be closed and made anew: after `after` seconds, or, where None, after a backoff."""

    why: str
    after: float | None = None
    bye: str | None = None


class Ended(msgspec.Struct, frozen=True):
    """The connection MUST be closed, and not be made again."""

    error: ImError


People = Contact | Presence | Typing
Entry = Message | AnyAmendment | GroupChanged | Contact | Truncated  # what is acknowledged: see `Client.ack`
Marks = Read | Delivered | Arranged | ConversationsOutdated
Event = (
    Message
    | AnyAmendment
    | GroupChanged
    | Sent
    | SendFailed
    | People
    | Marks
    | Welcomed
    | Synced
    | Truncated
    | Regressed
    | Answered
    | Reconnect
    | Ended
)
# What an application may hear of.
Notice = (
    Message
    | AnyAmendment
    | GroupChanged
    | Contact
    | Presence
    | Typing
    | Read
    | Delivered
    | Arranged
    | ConversationsOutdated
    | Sent
    | SendFailed
    | Synced
    | Truncated
    | Regressed
    | Welcomed
    | Disconnected
)
