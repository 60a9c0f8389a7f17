"""What a client may ask about groups: `client.groups`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, TypeVar

import msgspec

from imclient.answers import decoded
from imserver.model import parse_group, parse_user
from imserver.protocol import commands
from imserver.protocol.pushes import GroupDetails, GroupList, Member, MemberPage, NewGroup

Role = Literal["owner", "admin", "member"]
Who = Literal["all", "admins"]
Past = Literal["all", "joined"]
Ask = Callable[[commands.Command], Awaitable[msgspec.Raw]]

T = TypeVar("T")


class Groups:
    """Messages to a group are sent with `Client.send`, and read back with `Client.history`, by its name.

    Every method raises ConnectionLost where there is no connection or it breaks: what was asked for may have been done
    then, and can be asked for again. They raise BadRequest, NotFound (also: closed, and you are no member), NotAllowed,
    Conflict (full), RateLimited, Unavailable, SessionEnded.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def create(
        self,
        name: str,
        *,
        group: str | None = None,
        members: Sequence[str] = (),
        topic: str = "",
        open: bool = False,
        history: Past = "joined",
        posting: Who = "all",
    ) -> str:
        """Makes a group with these first members; its name for the server, which chooses one where `group` is None.

        `open`: anybody may join. `history`: what newcomers may read. `posting` "admins" makes a broadcast channel.
        Raises Exists.
        """
        command = commands.GroupCreate(
            name=name,
            group=None if group is None else parse_group(group),
            members=[parse_user(member, "members") for member in members],
            topic=topic,
            open=open,
            history=history,
            posting=posting,
        )
        return (await self._get(command, NewGroup)).group

    async def join(self, group: str) -> None:
        """An open group, or one that invited this user."""
        await self._ask(commands.GroupJoin(group=parse_group(group)))

    async def leave(self, group: str) -> None:
        """Also declines an invitation. An owner is succeeded by the eldest admin, or else member."""
        await self._ask(commands.GroupLeave(group=parse_group(group)))

    async def invite(self, group: str, user: str) -> None:
        await self._ask(commands.GroupInvite(group=parse_group(group), user=parse_user(user)))

    async def kick(self, group: str, user: str) -> None:
        await self._ask(commands.GroupKick(group=parse_group(group), user=parse_user(user)))

    async def ban(self, group: str, user: str) -> None:
        await self._ask(commands.GroupBan(group=parse_group(group), user=parse_user(user)))

    async def unban(self, group: str, user: str) -> None:
        await self._ask(commands.GroupUnban(group=parse_group(group), user=parse_user(user)))

    async def set_role(self, group: str, user: str, role: Role) -> None:
        """To "owner": this user hands the group over, and is an admin then."""
        await self._ask(commands.GroupRole(group=parse_group(group), user=parse_user(user), role=role))

    async def set(
        self,
        group: str,
        *,
        name: str | None = None,
        topic: str | None = None,
        open: bool | None = None,
        history: Past | None = None,
        posting: Who | None = None,
    ) -> None:
        """What is None stays as it is."""
        what = commands.GroupSet(
            group=parse_group(group), name=name, topic=topic, open=open, history=history, posting=posting
        )
        await self._ask(what)

    async def info(self, group: str) -> GroupDetails:
        return await self._get(commands.GroupInfo(group=parse_group(group)), GroupDetails)

    async def members(self, group: str) -> AsyncIterator[Member]:
        """All members, in no order, a page at a time; one may come twice while others come and go."""
        cursor: str | None = "0"
        while cursor is not None:
            page = await self._get(commands.GroupMembers(group=parse_group(group), cursor=cursor), MemberPage)
            for member in page.members:
                yield member
            cursor = page.next

    async def mine(self) -> GroupList:
        """The groups that this user is in, and those that invited it."""
        return await self._get(commands.GroupsList(), GroupList)

    async def _get(self, command: commands.Command, kind: type[T]) -> T:
        return decoded(await self._ask(command), kind)
