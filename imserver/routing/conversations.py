"""The list of conversations, and how they are arranged: `conversations`, `conversation.set`.

A device that comes back asks for what has changed since the version it has, and is told the marks and switches as they
are now, whatever it has missed. What it has not heard of the logs comes with its backlog.
"""

import time

from imserver.errors import NotFound
from imserver.model import START, GroupId, Position, UserId, is_group, parse_address
from imserver.protocol import commands
from imserver.protocol.commands import Conversations, ConversationSet
from imserver.protocol.groups import MEMBERS
from imserver.protocol.pushes import Arrangement, Conversation, ConversationsPage, Mark
from imserver.routing.marks import Marks
from imserver.routing.unread import MOST_ENTRIES, MOST_GROUP_ENTRIES, Counting
from imserver.session.context import Context, Handlers
from imserver.session.cursor import later
from imserver.session.session import Session
from imserver.store import conversation_calls
from imserver.store.conversation_calls import Record

GROUP_COST = 5  # for each group that is looked at, in units of a send
MOST_LISTED = 100  # records in a page, and as many groups of which nothing is remembered: bounds what a page costs
GROUPS_BEHIND = (
    1 << 52
)  # `after` of a page of nothing but such groups: this and how many came before; no version gets there
_LEFT = b"-"


class ConversationLists:
    """Handlers of `conversations` and `conversation.set`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store.conversations

    # -- arranging

    async def set(self, session: Session, command: ConversationSet) -> None:
        user, partner = session.user, parse_address(command.partner, "with")
        archived = _LEFT if command.archived is None else b"now" if command.archived else b"0"
        if is_group(partner):
            info = await self._context.store.groups.info(GroupId(partner), user)
            if info.standing not in MEMBERS:
                raise NotFound("with: there is no such group, or you are no member")
            archived = info.last if command.archived else archived
        (known,) = await self._store.records(user, [partner])
        stamp = max(int(time.time() * 1000), known.stamp + 1)
        wanted = (_switch(command.muted), _switch(command.pinned), archived)
        muted, pinned, upto = await self._store.arrange(user, partner, wanted, stamp, session.place)
        session.reply(command.ref, Arrangement(muted, pinned, None if upto is None else upto.decode()))

    # -- the list

    async def conversations(self, session: Session, command: Conversations) -> None:
        user, most = session.user, min(command.limit, MOST_LISTED)
        if command.after >= GROUPS_BEHIND:
            await self._further_groups(session, command, most)
            return
        page = await self._store.listed(user, command.since, command.after, most)
        more = len(page.records) == most
        finds_others = page.is_all and not more  # those without a record end the list
        own = Counting(self._context.store, user, user, MOST_ENTRIES)
        lines = [(partner, record.read) for partner, record in page.records if not is_group(partner)]
        if lines or finds_others:
            await own.run(lines, finds_others=finds_others)
        records, following = dict(page.records), page.reached if more else None
        if finds_others:
            records |= await self._unremembered(user, [name for name in own.counts if name not in records])
            groups = await self._groups_unremembered(user)
            records |= dict.fromkeys(groups[:most], Record())
            following = GROUPS_BEHIND + most if len(groups) > most else None
        listed = [_shown(partner, records.get(partner, Record()), own) for partner in own.counts if partner in records]
        listed += await self._in_groups(session, records)
        end, more = own.end.decode(), following is not None
        session.reply(command.ref, ConversationsPage(listed, page.version, end, more, page.is_all, following))

    async def _further_groups(self, session: Session, command: Conversations, most: int) -> None:
        """The list goes on behind all records."""
        version = (await self._store.listed(session.user, command.since, command.after, 1)).version
        behind = command.after - GROUPS_BEHIND + most
        groups = await self._groups_unremembered(session.user)
        listed = await self._in_groups(session, dict.fromkeys(groups[behind - most : behind], Record()))
        following = GROUPS_BEHIND + behind if len(groups) > behind else None
        more, is_all = following is not None, True
        session.reply(command.ref, ConversationsPage(listed, version, START.decode(), more, is_all, following))

    async def _groups_unremembered(self, user: UserId) -> list[str]:
        memberships, _ = await self._context.store.groups.listed(user)
        return list(await self._unremembered(user, sorted(memberships)))

    async def _unremembered(self, user: UserId, names: list[str]) -> dict[str, Record]:
        """Those that are on no page of records."""
        records = await self._store.records(user, names)
        return {name: record for name, record in zip(names, records, strict=True) if record == Record()}

    async def _in_groups(self, session: Session, records: dict[str, Record]) -> list[Conversation]:
        groups = [GroupId(partner) for partner in records if is_group(partner)]
        if not groups:
            return []
        memberships, _ = await self._context.store.groups.listed(session.user)
        mine = [(group, since) for group in groups if (since := memberships.get(group)) is not None]
        session.charge(GROUP_COST * len(mine))
        return [await self._in_group(session.user, group, since, records[group]) for group, since in mine]

    async def _in_group(self, user: UserId, group: GroupId, since: Position, record: Record) -> Conversation:
        """A group whose shard is out of reach is not counted in."""
        counting = Counting(self._context.store, user, group, MOST_GROUP_ENTRIES)
        if self._context.store.link_of(group).up:
            await counting.run([(group, later(since, record.read))], finds_others=False)
        return _shown(group, record, counting)


def _switch(is_on: bool | None) -> bytes:
    return _LEFT if is_on is None else b"1" if is_on else b"0"


def _shown(partner: str, record: Record, counting: Counting) -> Conversation:
    count, arranged = counting.counts.get(partner), record.arranged
    return Conversation(
        partner=partner,
        at=counting.end.decode(),
        unread=0 if count is None else count.unread,
        more=count is None or not counting.is_sure(count),
        read=_text(record.read),
        read_by=_mark(record.read_by),
        delivered=_mark(record.delivered),
        last=None if count is None else _text(count.last),
        muted=arranged.muted,
        pinned=arranged.pinned,
        archived=_text(arranged.archived),
    )


def _text(position: Position | None) -> str | None:
    return None if position is None else position.decode()


def _mark(mark: conversation_calls.Mark | None) -> Mark | None:
    return None if mark is None else Mark(mark.upto.decode(), mark.device, mark.id)


def conversation_handlers(marks: Marks, lists: ConversationLists) -> Handlers:
    """Which rule answers which of the commands about conversations."""
    return {
        commands.Read: marks.read,
        commands.ConversationSet: lists.set,
        commands.Conversations: lists.conversations,
    }
