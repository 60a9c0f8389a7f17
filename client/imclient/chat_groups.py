"""What one can do with groups in `imclient chat`."""

from collections.abc import Awaitable, Callable

from imclient.client import Client
from imclient.events import GroupChanged
from imserver.errors import BadRequest

HELP = """\
  #GROUP: TEXT    send TEXT to the group
  /groups         list your groups, and who invited you
  /create #GROUP [NAME]   make a group; /open #GROUP makes one that anybody may join
  /join #GROUP    join it and open its conversation; /leave leaves the one that is open
  /invite NAME, /kick NAME, /members    in the group that is open"""

Say = Callable[[str], Awaitable[None]]


class GroupCommands:
    """The commands by name: see `HELP`. `partner` gives the open conversation, `open` opens one, `say` notes a line."""

    def __init__(self, client: Client, partner: Callable[[], str | None], open: Say, say: Say) -> None:
        self._groups = client.groups
        self._partner = partner
        self._open = open
        self._say = say

    def table(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        return {
            "/groups": self._list,
            "/create": self._create,
            "/open": self._create_open,
            "/join": self._join,
            "/leave": self._leave,
            "/invite": self._invite,
            "/kick": self._kick,
            "/members": self._members,
        }

    def _group(self) -> str:
        partner = self._partner()
        if partner is None or not partner.startswith("#"):
            raise BadRequest("which group? /to #GROUP opens its conversation")
        return partner

    async def _list(self, _: str) -> None:
        listed = await self._groups.mine()
        for one in listed.groups:
            await self._say(f"{one.group}  {one.name}  ({one.role})")
        for invitation in listed.invited:
            await self._say(f"{invitation.group}  invites you: /join {invitation.group}")
        if not listed.groups and not listed.invited:
            await self._say("you are in no group; /join #GROUP, or /create #GROUP")

    async def _create(self, rest: str, *, is_open: bool = False) -> None:
        group, _, name = rest.partition(" ")
        await self._groups.create(name.strip() or group.lstrip("#") or "group", group=group or None, open=is_open)
        await self._open(group)

    async def _create_open(self, rest: str) -> None:
        await self._create(rest, is_open=True)

    async def _join(self, group: str) -> None:
        await self._groups.join(group)
        await self._open(group)

    async def _leave(self, group: str) -> None:
        await self._groups.leave(group or self._group())

    async def _invite(self, user: str) -> None:
        await self._groups.invite(self._group(), user)
        await self._say(f"{user} is invited")

    async def _kick(self, user: str) -> None:
        await self._groups.kick(self._group(), user)

    async def _members(self, _: str) -> None:
        async for member in self._groups.members(self._group()):
            await self._say(f"{member.user}  ({member.role})")


def told(event: GroupChanged, me: str) -> str | None:
    """What has changed, in a sentence; None where it is told by another entry."""
    if event.log == event.group:
        if event.user == me and event.change != "role":
            return None
        by = f" by {event.by}" if event.by and event.by != event.user else ""
        whom = "you" if event.user == me else event.user
        match event.change:
            case "role":
                return f"{event.group}: {whom} is {event.role} now{by}"
            case "set":
                changes = [
                    f"{name}: {value}" for name in ("name", "topic") if (value := getattr(event, name)) is not None
                ]
                return f"{event.group}: changed by {event.by}" + (f" ({', '.join(changes)})" if changes else "")
            case _:
                return f"{event.group}: {whom} {event.change}{by}"
    if event.change == "invited":
        return f"{event.by} invites you to {event.group}: /join {event.group}"
    return f"you {'were ' if event.change in ('kicked', 'banned') else ''}{event.change}: {event.group}"
