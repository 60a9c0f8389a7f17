"""Groups and channels."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Command, Group, PageLimit, Row, User
from imserver.protocol.groups import Role
from imserver.protocol.overload import Level
from imserver.protocol.pushes.groups import GroupDetails, GroupList, MemberPage, NewGroup

GroupName = Annotated[str, Meta(min_length=1, max_length=100)]
Topic = Annotated[str, Meta(max_length=1000)]


class GroupCreate(Command, tag="group.create"):
    """`members` are in it from the beginning. `posting`: who may; "admins" makes it a broadcast channel.

    `history`: what newcomers may read, all of it or what was said since they joined.
    """

    name: GroupName
    group: Group | None = None
    members: Annotated[list[User], Meta(max_length=100)] = msgspec.field(default_factory=list)
    topic: Topic = ""
    open: bool = False
    history: Literal["all", "joined"] = "joined"
    posting: Literal["all", "admins"] = "all"


class GroupJoin(Command, tag="group.join"):
    group: Group


class GroupLeave(Command, tag="group.leave"):
    group: Group


class GroupInvite(Command, tag="group.invite"):
    group: Group
    user: User


class GroupKick(Command, tag="group.kick"):
    """Also takes back an invitation."""

    group: Group
    user: User


class GroupBan(Command, tag="group.ban"):
    group: Group
    user: User


class GroupUnban(Command, tag="group.unban"):
    group: Group
    user: User


class GroupRole(Command, tag="group.role"):
    """To "owner": hands over what the sender has."""

    group: Group
    user: User
    role: Role


class GroupSet(Command, tag="group.set"):
    """What is not there stays as it is."""

    group: Group
    name: GroupName | None = None
    topic: Topic | None = None
    open: bool | None = None
    history: Literal["all", "joined"] | None = None
    posting: Literal["all", "admins"] | None = None


class GroupInfo(Command, tag="group.info"):
    group: Group


class GroupMembers(Command, tag="group.members"):
    """`cursor`: the `next` of the page before."""

    group: Group
    cursor: Annotated[str, Meta(pattern="^[0-9]{1,20}$")] = "0"
    limit: PageLimit = 100


class GroupsList(Command, tag="groups"):
    """The user's groups, and the invitations."""


ROWS = (
    #   schema        states  hot    cost  shed           ok
    Row(GroupCreate,  INSIDE, False, 50,   Level.HISTORY, NewGroup),
    Row(GroupJoin,    INSIDE, False, 10,   Level.HISTORY),
    Row(GroupLeave,   INSIDE, False, 10,   Level.HISTORY),
    Row(GroupInvite,  INSIDE, False, 10,   Level.HISTORY),
    Row(GroupKick,    INSIDE, False, 10,   Level.HISTORY),
    Row(GroupBan,     INSIDE, False, 10,   Level.HISTORY),
    Row(GroupUnban,   INSIDE, False, 10,   Level.HISTORY),
    Row(GroupRole,    INSIDE, False, 10,   Level.HISTORY),
    Row(GroupSet,     INSIDE, False, 10,   Level.HISTORY),
    Row(GroupInfo,    INSIDE, False, 2,    Level.HISTORY, GroupDetails),
    Row(GroupMembers, INSIDE, False, 10,   Level.HISTORY, MemberPage),
    Row(GroupsList,   INSIDE, False, 10,   Level.HISTORY, GroupList),
)  # fmt: skip
