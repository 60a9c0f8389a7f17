"""Whom a user knows, who may write, what contacts are shown."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Command, Note, Row, User, Version
from imserver.protocol.overload import Level
from imserver.protocol.presence import Show
from imserver.protocol.pushes.contacts import BlockedList, ContactsPage, FoundUsers, PrivacySettings


class ContactAdd(Command, tag="contact.add"):
    """Asks `user` to become a contact; `note` is shown with the request."""

    user: User
    note: Note = ""


class ContactAccept(Command, tag="contact.accept"):
    user: User


class ContactDecline(Command, tag="contact.decline"):
    user: User


class ContactRemove(Command, tag="contact.remove"):
    """Also takes a request back."""

    user: User


class ContactSet(Command, tag="contact.set"):
    """What this user calls a contact, and where it is sorted; nobody else sees it. What is left out is removed."""

    user: User
    name: Note | None = None
    groups: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=16)] = msgspec.field(
        default_factory=list
    )


class Contacts(Command, tag="contacts"):
    """All contacts, or what has changed since a version; `after` is the `next` of the page before."""

    since: Version = 0
    after: Version = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


class Block(Command, tag="block"):
    user: User


class Unblock(Command, tag="unblock"):
    user: User


class Blocked(Command, tag="blocked"):
    """Who is blocked."""


class Privacy(Command, tag="privacy"):
    """Who may write to this user, and who may know since when it is away. What is left out stays as it is."""

    write: Literal["everyone", "contacts"] | None = None
    seen: Literal["contacts", "nobody"] | None = None


class Search(Command, tag="search"):
    """Users by the beginning of their names."""

    prefix: Annotated[str, Meta(min_length=2, max_length=64)]
    limit: Annotated[int, Meta(ge=1, le=50)] = 20


class SetPresence(Command, tag="presence"):
    """What this device shows to contacts, until it says otherwise."""

    show: Show
    status: Note = ""


ROWS = (
    #   schema          states  hot    cost  shed           ok
    Row(ContactAdd,     INSIDE, False, 20,   Level.HISTORY),
    Row(ContactAccept,  INSIDE, False, 10,   Level.HISTORY),
    Row(ContactDecline, INSIDE, False, 10,   Level.HISTORY),
    Row(ContactRemove,  INSIDE, False, 10,   Level.HISTORY),
    Row(ContactSet,     INSIDE, False, 5,    Level.HISTORY),
    Row(Contacts,       INSIDE, False, 10,   Level.HISTORY, ContactsPage),
    Row(Block,          INSIDE, False, 10,   Level.NEVER),
    Row(Unblock,        INSIDE, False, 10,   Level.HISTORY),
    Row(Blocked,        INSIDE, False, 10,   Level.HISTORY, BlockedList),
    Row(Privacy,        INSIDE, False, 5,    Level.HISTORY, PrivacySettings),
    Row(Search,         INSIDE, False, 200,  Level.HISTORY, FoundUsers),
    Row(SetPresence,    INSIDE, False, 50,   Level.PRESENCE),
)  # fmt: skip
