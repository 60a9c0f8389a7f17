"""Groups and channels."""

import msgspec

from imserver.protocol.pushes.base import Push


class NewGroup(msgspec.Struct):
    """The `ok` of `group.create`."""

    group: str


class GroupDetails(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The `ok` of `group.info`. `role` and `at` (the end of its log): where the user is a member.

    `mentioned`: position of the newest message that mentions the user.
    """

    group: str
    name: str
    topic: str
    open: bool
    history: str
    posting: str
    members: int
    role: str | None = None
    at: str | None = None
    mentioned: str | None = None


class Member(msgspec.Struct):
    """One of `group.members`."""

    user: str
    role: str


class MemberPage(msgspec.Struct, omit_defaults=True):
    """The `ok` of `group.members`. Where there is `next`, ask again with it as `cursor`."""

    members: list[Member]
    next: str | None = None


class GroupListed(msgspec.Struct, rename={"since": "from"}, omit_defaults=True):
    """One of `groups`: `from` where the membership began, `at` where its log ends.

    `mentioned`: position of the newest message that mentions the user.
    """

    group: str
    name: str
    role: str
    since: str
    at: str
    mentioned: str | None = None


class Invitation(msgspec.Struct):
    """One of `groups`; `at` in the group's log."""

    group: str
    at: str


class GroupList(msgspec.Struct):
    """The `ok` of `groups`."""

    groups: list[GroupListed]
    invited: list[Invitation]


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
    quiet: bool = False  # `by` is a stranger to this user
    role: str | None = None
    name: str | None = None
    topic: str | None = None
    open: bool | None = None
    history: str | None = None
    posting: str | None = None
