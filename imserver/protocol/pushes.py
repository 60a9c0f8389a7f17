"""What the server says: the contents of replies, and pushes. A receiver ignores fields and events it does not know."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from imserver.model import Entry, Position
from imserver.protocol.commands import Ref


class Empty(msgspec.Struct, gc=False):
    """The `ok` of a request that has nothing to tell."""


EMPTY = Empty()


class Welcome(msgspec.Struct, gc=False):
    """The `ok` of `login`. `token` logs this device in again on any node until `expires` (unix seconds)."""

    user: str
    device: str
    token: str
    expires: int
    at: str
    ping: float
    max_frame: int


class Sent(msgspec.Struct, gc=False):
    """The `ok` of `send`: stored for recipient and sender; `at` in the sender's own log (or the group's).

    `prev`: the position before it there; None for a repeat.
    """

    id: str
    at: Position
    prev: Position | None = None


class Page(msgspec.Struct, omit_defaults=True):
    """The `ok` of `history`, newest last. Where `more`, ask again with `before` set to `next`."""

    messages: list[Entry]
    more: bool
    next: str | None = None


class NewGroup(msgspec.Struct):
    """The `ok` of `group.create`."""

    group: str


class GroupDetails(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The `ok` of `group.info`. `role` and `at` (the end of its log): where the user is a member."""

    group: str
    name: str
    topic: str
    open: bool
    history: str
    posting: str
    members: int
    role: str | None = None
    at: str | None = None


class Member(msgspec.Struct):
    """One of `group.members`."""

    user: str
    role: str


class MemberPage(msgspec.Struct, omit_defaults=True):
    """The `ok` of `group.members`. Where there is `next`, ask again with it as `cursor`."""

    members: list[Member]
    next: str | None = None


class GroupListed(msgspec.Struct, rename={"since": "from"}):
    """One of `groups`: `from` where the membership began, `at` where its log ends."""

    group: str
    name: str
    role: str
    since: str
    at: str


class Invitation(msgspec.Struct):
    """One of `groups`; `at` in the group's log."""

    group: str
    at: str


class GroupList(msgspec.Struct):
    """The `ok` of `groups`."""

    groups: list[GroupListed]
    invited: list[Invitation]


class Contact(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One contact, as its owner sees it. `quiet`: asks, and has never been a contact nor been asked."""

    user: str
    state: str
    blocked: bool = False
    quiet: bool = False
    note: str | None = None
    name: str | None = None
    groups: tuple[str, ...] = ()


class ContactsPage(msgspec.Struct, omit_defaults=True):
    """The `ok` of `contacts`. Where `more`, ask again with `after` set to `next`; keep the first page's `version`."""

    contacts: list[Contact]
    version: int
    more: bool
    full: bool = False  # these are all contacts, not the changes since a version
    next: int | None = None


class BlockedList(msgspec.Struct):
    """The `ok` of `blocked`."""

    blocked: list[str]


class PrivacySettings(msgspec.Struct, gc=False):
    """The `ok` of `privacy`: how things stand now."""

    write: str
    seen: str


class Failure(msgspec.Struct, omit_defaults=True, gc=False):
    """The `err` of a reply; `retry`: seconds after which the same request may succeed."""

    code: str
    text: str
    retry: float | None = None


class Reply(msgspec.Struct, omit_defaults=True):
    """Exactly one of `ok` and `err` is there."""

    re: Ref
    ok: msgspec.Raw | UnsetType = UNSET
    err: Failure | UnsetType = UNSET


class Push(msgspec.Struct, tag_field="ev", omit_defaults=True, gc=False):
    """Base of all that comes unasked."""


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


class GroupPush(Push, tag="group", kw_only=True):
    """An entry about a group: in its own log (`log`), or in that of the user concerned (`group`, `since`)."""

    at: str
    prev: str
    change: str
    log: str | None = None
    group: str | None = None
    since: str | None = msgspec.field(name="from", default=None)
    user: str | None = None
    by: str | None = None
    role: str | None = None
    name: str | None = None
    topic: str | None = None


class ContactPush(Push, tag="contact", kw_only=True):
    """An entry: how the user stands to another one from now on; all fields of `Contact`."""

    at: str
    prev: str
    user: str
    state: str
    blocked: bool = False
    quiet: bool = False
    note: str | None = None
    name: str | None = None
    groups: tuple[str, ...] = ()
    version: int = 0


class PresencePush(Push, tag="presence"):
    """What a contact shows now. `since`: unix seconds; None where nobody may know."""

    user: str
    show: str
    status: str = ""
    since: int | None = None


class TypingPush(Push, tag="typing", kw_only=True):
    """Good for 6 seconds."""

    sender: str = msgspec.field(name="from")
    to: str
    on: bool


class Synced(Push, tag="synced"):
    """The backlog ends at `at`; what follows is live."""

    at: str


class Truncated(Push, tag="truncated"):
    """Entries before `at` are no longer kept; the session goes on from there.

    `at`: the oldest entry that is kept; where none is, the end of the log. `log`: the group, where it is a group's log;
    then it may also be that the user was no member before `at`, or, with `count`, that so many entries (at least) are
    not sent unasked: `history` has them.
    """

    at: str
    log: str | None = None
    count: int = 0


class Regressed(Push, tag="regressed"):
    """The log has lost what was behind `at`, and goes on from there.

    What was lost may come again, at new positions. The `prev` of the next entry is `at`. `log`: of a group.
    """

    at: str
    log: str | None = None


class ResendPush(Push, tag="resend"):
    """What was confirmed in the last so many seconds may be lost: the client MUST say `resend`, and send it again."""

    seconds: int


class PingPush(Push, tag="ping"):
    """The server asks whether the client is there; any frame answers it."""


class ErrorPush(Push, tag="error"):
    """An error that answers no `ref`."""

    code: str
    text: str
    retry: float | None = None


class Bye(Push, tag="bye"):
    """The server closes the connection. Where `reconnect`, come back after `after` seconds and resume."""

    code: str
    text: str
    reconnect: bool
    after: float = 0.0


class UnknownPush(msgspec.Struct):
    """An event of a newer server: to be ignored."""

    ev: str


class Shared(msgspec.Struct, gc=False):
    """A push for many sessions. `encoded` belongs to the codec: encoded once, the bytes are shared."""

    push: Push
    encoded: bytes | None = None


AnyPush = (
    MessagePush
    | GroupPush
    | ContactPush
    | PresencePush
    | TypingPush
    | Synced
    | Truncated
    | Regressed
    | ResendPush
    | PingPush
    | ErrorPush
    | Bye
)
