"""Contacts, blocks, privacy, presence."""

import msgspec

from imserver.protocol.pushes.base import Push


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


class FoundUser(msgspec.Struct, omit_defaults=True, gc=False):
    """`name` and `avatar`: of the profile."""

    user: str
    name: str | None = None
    avatar: str | None = None


class FoundUsers(msgspec.Struct):
    """The `ok` of `search`. Where there are `more`, a longer beginning finds them."""

    users: list[FoundUser]
    more: bool


class PrivacySettings(msgspec.Struct, gc=False):
    """The `ok` of `privacy`: how things stand now."""

    write: str
    seen: str


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
