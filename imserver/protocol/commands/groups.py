"""Groups and channels."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Command, Name, PageLimit, Row
from imserver.protocol.groups import Role
from imserver.protocol.overload import Level

GroupName = Annotated[str, Meta(min_length=1, max_length=100)]
Topic = Annotated[str, Meta(max_length=1000)]


class GroupCreate(Command, tag="group.create"):
    """`members` are in it from the beginning. `posting`: who may; "admins" makes it a broadcast channel.

    `history`: what newcomers may read, all of it or what was said since they joined.
    """

    name: GroupName
    group: Name | None = None
    members: Annotated[list[Name], Meta(max_length=100)] = msgspec.field(default_factory=list)
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


ROWS = (
    #   schema        states  hot    cost  shed
    Row(GroupCreate,  INSIDE, False, 50,   Level.HISTORY),
    Row(GroupJoin,    INSIDE, False, 10,   Level.HISTORY),
    Row(GroupLeave,   INSIDE, False, 10,   Level.HISTORY),
    Row(GroupInvite,  INSIDE, False, 10,   Level.HISTORY),
    Row(GroupKick,    INSIDE, False, 10,   Level.HISTORY),
    Row(GroupBan,     INSIDE, False, 10,   Level.HISTORY),
    Row(GroupUnban,   INSIDE, False, 10,   Level.HISTORY),
    Row(GroupRole,    INSIDE, False, 10,   Level.HISTORY),
    Row(GroupSet,     INSIDE, False, 10,   Level.HISTORY),
    Row(GroupInfo,    INSIDE, False, 2,    Level.HISTORY),
    Row(GroupMembers, INSIDE, False, 10,   Level.HISTORY),
    Row(GroupsList,   INSIDE, False, 10,   Level.HISTORY),
)  # fmt: skip
