"""Groups: who is in them, what they are, and each user's list of them.

**Invariant: the group first, then the user.** A change goes into the group's members and log by one call; a second
one has the user's list and log say the same, as of the position that the first one gave. Both can be repeated. What a
worker that dies in between has left undone is completed by the repeat of the command, by `groups`, or by the user's
next login, which asks each group of the list (session/following.py). So that this holds for whoever comes in, too, a
trace is put into the list before (`announce`): of it the next login asks the group, and hears whether it came to it.

Who may do what is a table: `protocol.groups`.
"""

import secrets
from typing import Any

from imserver.errors import BadRequest, Blocked, NotFound, RequestError
from imserver.model import START, GroupId, Position, UserId, parse_group, parse_user
from imserver.protocol import commands
from imserver.protocol.groups import LETTERS, MEMBERS, RULES, STANDINGS, may_look
from imserver.protocol.pushes import (
    EMPTY,
    GroupDetails,
    GroupList,
    GroupListed,
    Invitation,
    Member,
    MemberPage,
    NewGroup,
)
from imserver.session.context import Context, Handlers
from imserver.session.cursor import later
from imserver.session.session import Session
from imserver.store.group_calls import Change, Changed, GroupGone, GroupInfo
from imserver.store.groups import GroupStore
from imserver.store.stored import group_event, own_event

ADD_COST = 10  # for each of the first members, in units of a send
LIST_COST = 1  # for each group that `groups` asks


class Groups:
    """Handlers of `group.*` and `groups`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _store(self) -> GroupStore:
        return self._context.store.groups

    # -- coming in

    async def create(self, session: Session, command: commands.GroupCreate) -> None:
        settings, owner = self._context.settings, session.user
        group = _new_group() if command.group is None else parse_group(command.group)
        first = [
            user for user in dict.fromkeys(parse_user(name, "members") for name in command.members) if user != owner
        ]
        session.charge(ADD_COST * len(first))
        welcome = {user: await self._welcome(user, owner) for user in first}
        await self._store.announce(owner, group, settings.groups_per_user_max, settings.groups_made_max)
        fields: dict[str, str | int] = {
            "name": command.name,
            "topic": command.topic,
            "open": int(command.open),
            "history": command.history,
            "posting": command.posting,
        }
        content = group_event(group, "created", user=owner, name=command.name)
        try:
            at = await self._store.create(group, owner, secrets.token_hex(8), content, fields)
        except RequestError:
            await self._enlist(owner, group, START, "gone")
            raise
        await self._enlist(owner, group, at, "joined")
        for user in first:
            await self._come_in(group, "add", owner, user, **welcome[user])
        session.reply(command.ref, NewGroup(group))

    async def join(self, session: Session, command: commands.GroupJoin) -> None:
        group = parse_group(command.group)
        await self._come_in(group, "join", session.user, session.user)
        session.reply(command.ref, EMPTY)

    async def _come_in(self, group: GroupId, action: str, actor: UserId, user: UserId, **fields: Any) -> None:
        settings = self._context.settings
        await self._store.announce(user, group, settings.groups_per_user_max)
        content = group_event(group, "joined", user=user, by=actor)
        try:
            changed = await self._store.change(
                group, Change(action, actor, user, content, (settings.group_members_max,))
            )
        except RequestError:
            await self._enlist(user, group, START, "gone")
            raise
        await self._enlist(user, group, changed.at, "joined", by=actor, **fields)

    async def invite(self, session: Session, command: commands.GroupInvite) -> None:
        group, user = parse_group(command.group), parse_user(command.user)
        welcome = await self._welcome(user, session.user)
        changed = await self._change(session, group, "invite", user)
        await self._enlist(user, group, changed.at, "invited", by=session.user, **welcome)
        session.reply(command.ref, EMPTY)

    async def _welcome(self, user: UserId, by: UserId) -> dict[str, Any]:
        """What the user is told besides: `quiet` where a stranger brings it in. Raises NotFound, Blocked."""
        if await self._context.store.accounts.password_hash(user) is None:
            raise NotFound(f"there is no user {user}")
        record = (await self._context.store.circle.standing(user, by)).record
        if record.blocks:
            raise Blocked(f"user: {user} takes nothing from you")
        return {} if record.is_known else {"quiet": True}

    # -- going out

    async def leave(self, session: Session, command: commands.GroupLeave) -> None:
        """An owner that leaves is followed by the admin, or else the member, who has been there longest."""
        await self._part(session, parse_group(command.group), "leave", session.user)
        session.reply(command.ref, EMPTY)

    async def kick(self, session: Session, command: commands.GroupKick) -> None:
        await self._part(session, parse_group(command.group), "kick", parse_user(command.user))
        session.reply(command.ref, EMPTY)

    async def ban(self, session: Session, command: commands.GroupBan) -> None:
        await self._part(session, parse_group(command.group), "ban", parse_user(command.user))
        session.reply(command.ref, EMPTY)

    async def _part(self, session: Session, group: GroupId, action: str, user: UserId) -> None:
        try:
            changed = await self._change(session, group, action, user)
        except GroupGone as error:
            await self._enlist(session.user, group, error.at, "gone")
            raise
        await self._enlist(user, group, changed.at, "gone", change=RULES[action].change, by=session.user)

    async def unban(self, session: Session, command: commands.GroupUnban) -> None:
        await self._change(session, parse_group(command.group), "unban", parse_user(command.user))
        session.reply(command.ref, EMPTY)

    # -- what it is

    async def role(self, session: Session, command: commands.GroupRole) -> None:
        """To `owner`: the ownership is handed over."""
        group, user = parse_group(command.group), parse_user(command.user)
        content = group_event(group, "role", user=user, role=command.role, by=session.user)
        await self._store.change(group, Change("role", session.user, user, content, (LETTERS[command.role],)))
        session.reply(command.ref, EMPTY)

    async def set(self, session: Session, command: commands.GroupSet) -> None:
        group = parse_group(command.group)
        changes = {
            name: value
            for name in ("name", "topic", "open", "history", "posting")
            if (value := getattr(command, name)) is not None
        }
        if not changes:
            raise BadRequest("group.set needs one of `name`, `topic`, `open`, `history`, `posting`")
        content = group_event(group, "set", by=session.user, **changes)
        stored = [part for name, value in changes.items() for part in (name, int(value) if name == "open" else value)]
        await self._store.change(group, Change("set", session.user, session.user, content, tuple(stored)))
        session.reply(command.ref, EMPTY)

    async def info(self, session: Session, command: commands.GroupInfo) -> None:
        group = parse_group(command.group)
        session.reply(command.ref, _details(group, await self._look(group, session.user)))

    async def members(self, session: Session, command: commands.GroupMembers) -> None:
        """In no order; a page has about `limit`, and a member may come twice while others come and go."""
        group = parse_group(command.group)
        await self._look(group, session.user)
        following, page = await self._store.members(group, command.cursor, command.limit)
        members = [Member(user, STANDINGS[standing]) for user, standing in page]
        session.reply(command.ref, MemberPage(members, following))

    async def _look(self, group: GroupId, user: UserId) -> GroupInfo:
        found = await self._store.info(group, user)
        if not may_look(found.standing):
            raise NotFound("group: there is no such group, or it is closed and you are no member")
        return found

    # -- the user's list

    async def listed(self, session: Session, command: commands.GroupsList) -> None:
        """Asks each group of the list; where one disagrees, the list is corrected."""
        user = session.user
        memberships, invitations = await self._store.listed(user)
        session.charge(LIST_COST * len(memberships))
        groups = []
        for group, since in memberships.items():
            found = await self._settled(group, user, since)
            if found is not None:
                role, mentioned = STANDINGS[found.standing], _text(found.mentioned) or None
                groups.append(GroupListed(group, found.name, role, _text(found.since), _text(found.last), mentioned))
        invited = [Invitation(group, at.decode()) for group, at in invitations.items()]
        session.reply(command.ref, GroupList(groups, invited))

    async def _settled(self, group: GroupId, user: UserId, since: Position | None) -> GroupInfo | None:
        """What the group says, and the list after that; None: the user is no member."""
        try:
            found = await self._store.info(group, user)
        except GroupGone as error:
            await self._enlist(user, group, error.at, "gone")
            return None
        if found.standing not in MEMBERS:
            await self._enlist(user, group, later(found.last, since), "gone")
            return None
        if found.since is not None and found.since != since:
            await self._enlist(user, group, found.since, "joined")
        return found

    # -- both sides

    async def _change(self, session: Session, group: GroupId, action: str, user: UserId) -> Changed:
        content = group_event(group, RULES[action].change, user=user, by=session.user)
        return await self._store.change(group, Change(action, session.user, user, content))

    async def _enlist(
        self, user: UserId, group: GroupId, at: Position, what: str, change: str | None = None, **fields: object
    ) -> None:
        content = own_event(group, change or ("left" if what == "gone" else what), at, **fields)
        await self._store.enlist(user, group, at, what, content)


def _new_group() -> GroupId:
    """A name that nobody has taken: 60 bits of chance."""
    return GroupId("#" + secrets.token_hex(8)[:15])


def _text(position: Position | None) -> str:
    return "" if position is None else position.decode()


def _details(group: GroupId, found: GroupInfo) -> GroupDetails:
    return GroupDetails(
        group=group,
        name=found.name,
        topic=found.topic,
        open=found.open,
        history=found.history,
        posting=found.posting,
        members=found.members,
        role=STANDINGS[found.standing] if found.standing in MEMBERS else None,
        at=_text(found.last) if found.standing in MEMBERS else None,
        mentioned=_text(found.mentioned) or None,
    )


def group_handlers(groups: Groups) -> Handlers:
    """Which rule answers which of the commands about groups."""
    return {
        commands.GroupCreate: groups.create,
        commands.GroupJoin: groups.join,
        commands.GroupLeave: groups.leave,
        commands.GroupInvite: groups.invite,
        commands.GroupKick: groups.kick,
        commands.GroupBan: groups.ban,
        commands.GroupUnban: groups.unban,
        commands.GroupRole: groups.role,
        commands.GroupSet: groups.set,
        commands.GroupInfo: groups.info,
        commands.GroupMembers: groups.members,
        commands.GroupsList: groups.listed,
    }
