"""What a client may ask. A new command is one schema and one row here, and a handler named in `routing.table`."""

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from imserver.protocol.groups import Role
from imserver.protocol.lifecycle import State
from imserver.protocol.overload import Level
from imserver.protocol.presence import Show

Ref = int | str | None
Name = Annotated[str, Meta(min_length=1, max_length=65)]
PositionText = Annotated[str, Meta(max_length=40)]
Secret = Annotated[str, Meta(min_length=1, max_length=1024)]
GroupName = Annotated[str, Meta(min_length=1, max_length=100)]
Topic = Annotated[str, Meta(max_length=1000)]
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


class GroupCreate(Command, tag="group.create"):
    """`members` are in it from the beginning. `posting`: who may; "admins" makes it a broadcast channel.

    `history`: what newcomers may read, all of it or what was said since they joined.
    """

    name: GroupName
    group: Name | None = None
    members: Annotated[list[Name], Meta(max_length=100)] = []
    topic: Topic = ""
    open: bool = False
    history: Literal["all", "joined"] = "joined"
    posting: Literal["all", "admins"] = "all"


class GroupJoin(Command, tag="group.join"):
    group: Name


class GroupLeave(Command, tag="group.leave"):
    group: Name


class GroupInvite(Command, tag="group.invite"):
    group: Name
    user: Name


class GroupKick(Command, tag="group.kick"):
    """Also takes back an invitation."""

    group: Name
    user: Name


class GroupBan(Command, tag="group.ban"):
    group: Name
    user: Name


class GroupUnban(Command, tag="group.unban"):
    group: Name
    user: Name


class GroupRole(Command, tag="group.role"):
    """To "owner": hands over what the sender has."""

    group: Name
    user: Name
    role: Role


class GroupSet(Command, tag="group.set"):
    """What is not there stays as it is."""

    group: Name
    name: GroupName | None = None
    topic: Topic | None = None
    open: bool | None = None
    history: Literal["all", "joined"] | None = None
    posting: Literal["all", "admins"] | None = None


class GroupInfo(Command, tag="group.info"):
    group: Name


class GroupMembers(Command, tag="group.members"):
    """`cursor`: the `next` of the page before."""

    group: Name
    cursor: Annotated[str, Meta(pattern="^[0-9]{1,20}$")] = "0"
    limit: PageLimit = 100


class GroupsList(Command, tag="groups"):
    """The user's groups, and the invitations."""


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
        Row(GroupCreate,    INSIDE,           False, 50,  Level.HISTORY),
        Row(GroupJoin,      INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupLeave,     INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupInvite,    INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupKick,      INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupBan,       INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupUnban,     INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupRole,      INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupSet,       INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupInfo,      INSIDE,           False, 2,   Level.HISTORY),
        Row(GroupMembers,   INSIDE,           False, 10,  Level.HISTORY),
        Row(GroupsList,     INSIDE,           False, 10,  Level.HISTORY),
        Row(Ping,           OUTSIDE + INSIDE, True,  0.5,  Level.NEVER),
        Row(Logout,         INSIDE,           False, 1,    Level.NEVER),
    )
}  # fmt: skip
