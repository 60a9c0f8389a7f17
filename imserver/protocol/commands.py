"""What a client may ask. A new command is one schema and one row here, and a handler named in `routing.table`."""

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from imserver.protocol.lifecycle import State
from imserver.protocol.overload import Level
from imserver.protocol.presence import Show

Ref = int | str | None
Name = Annotated[str, Meta(min_length=1, max_length=65)]
PositionText = Annotated[str, Meta(max_length=40)]
Secret = Annotated[str, Meta(min_length=1, max_length=1024)]
PageLimit = Annotated[int, Meta(ge=1, le=200)]
Note = Annotated[str, Meta(max_length=256)]
Version = Annotated[int, Meta(ge=0, lt=1 << 53)]


class Command(msgspec.Struct, tag_field="op", omit_defaults=True, kw_only=True, gc=False):
    """A request; `ref` asks for a reply and is repeated in it."""

    ref: Ref = None


class Register(Command, tag="register"):
    user: Name
    password: Secret


class Login(Command, tag="login"):
    """By `user` and `password`, or by `token`. `since` overrules the device's stored cursor.

    `resend`: the client keeps what was confirmed, and sends it again when it is asked to.
    """

    device: Name
    user: Name | None = None
    password: Secret | None = None
    token: Annotated[str, Meta(max_length=1024)] | None = None
    since: PositionText | dict[str, PositionText] | None = None
    resend: bool = False


class Send(Command, tag="send"):
    """`again`: sent before, with unknown outcome; it is looked for in the log, too, however long ago that was."""

    id: str
    to: str
    body: msgspec.Raw
    again: bool = False


class Resend(Command, tag="resend"):
    """From here on this client sends again what it was asked for, before anything newer."""


class Ack(Command, tag="ack"):
    """This device has kept everything of the log up to `upto`."""

    upto: PositionText
    log: Name | None = None


class History(Command, tag="history"):
    """The conversation with `partner` (`with` on the wire), newest entries first in time, newest last in the reply."""

    partner: Name = msgspec.field(name="with")
    before: PositionText | None = None
    limit: PageLimit = 50


class ContactAdd(Command, tag="contact.add"):
    """Asks `user` to become a contact; `note` is shown with the request."""

    user: Name
    note: Note = ""


class ContactAccept(Command, tag="contact.accept"):
    user: Name


class ContactDecline(Command, tag="contact.decline"):
    user: Name


class ContactRemove(Command, tag="contact.remove"):
    """Also takes a request back."""

    user: Name


class ContactSet(Command, tag="contact.set"):
    """What this user calls a contact, and where it is sorted; nobody else sees it. What is left out is removed."""

    user: Name
    name: Note | None = None
    groups: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=16)] = []


class Contacts(Command, tag="contacts"):
    """All contacts, or what has changed since a version; `after` is the `next` of the page before."""

    since: Version = 0
    after: Version = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


class Block(Command, tag="block"):
    user: Name


class Unblock(Command, tag="unblock"):
    user: Name


class Blocked(Command, tag="blocked"):
    """Who is blocked."""


class Privacy(Command, tag="privacy"):
    """Who may write to this user, and who may know since when it is away. What is left out stays as it is."""

    write: Literal["everyone", "contacts"] | None = None
    seen: Literal["contacts", "nobody"] | None = None


class SetPresence(Command, tag="presence"):
    """What this device shows to contacts, until it says otherwise."""

    show: Show
    status: Note = ""


class Typing(Command, tag="typing"):
    to: Name
    on: bool


class Ping(Command, tag="ping"):
    pass


class Logout(Command, tag="logout"):
    pass


class Row(NamedTuple):
    """How a command is treated.

    `hot`: answered by plain functions; else by a task of its own while the session's reading is paused.
    `cost`: what it takes out of the session's token bucket.
    `shed`: the level of overload from which on it is refused, `Level.NEVER` where it waits instead.
    """

    schema: type[Command]
    states: tuple[State, ...]
    hot: bool
    cost: float
    shed: Level


OUTSIDE = (State.NEW,)
INSIDE = (State.INSIDE,)

COMMANDS: dict[type[Command], Row] = {
    row.schema: row
    for row in (
        #   schema          states            hot    cost  shed
        Row(Register,       OUTSIDE,          True,  10,   Level.LOGINS),  # plain functions put these two into a line;
        Row(Login,          OUTSIDE,          True,  10,   Level.LOGINS),  # a task does them when their turn has come
        Row(Send,           INSIDE,           True,  1,    Level.NEVER),
        Row(Resend,         INSIDE,           True,  0.5,  Level.NEVER),
        Row(Ack,            INSIDE,           True,  0.5,  Level.NEVER),
        Row(History,        INSIDE,           False, 10,   Level.HISTORY),
        Row(ContactAdd,     INSIDE,           False, 20,   Level.HISTORY),
        Row(ContactAccept,  INSIDE,           False, 10,   Level.HISTORY),
        Row(ContactDecline, INSIDE,           False, 10,   Level.HISTORY),
        Row(ContactRemove,  INSIDE,           False, 10,   Level.HISTORY),
        Row(ContactSet,     INSIDE,           False, 5,    Level.HISTORY),
        Row(Contacts,       INSIDE,           False, 10,   Level.HISTORY),
        Row(Block,          INSIDE,           False, 10,   Level.NEVER),
        Row(Unblock,        INSIDE,           False, 10,   Level.HISTORY),
        Row(Blocked,        INSIDE,           False, 10,   Level.HISTORY),
        Row(Privacy,        INSIDE,           False, 5,    Level.HISTORY),
        Row(SetPresence,    INSIDE,           False, 50,   Level.PRESENCE),
        Row(Typing,         INSIDE,           True,  20,   Level.TYPING),
        Row(Ping,           OUTSIDE + INSIDE, True,  0.5,  Level.NEVER),
        Row(Logout,         INSIDE,           False, 1,    Level.NEVER),
    )
}  # fmt: skip
