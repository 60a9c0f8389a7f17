"""Reading a conversation back. It is read from the user's own log, or the group's: no second copy could differ."""

from imserver.errors import NotFound
from imserver.model import START, Entry, GroupId, Position, UserId, is_group, parse_address, parse_position
from imserver.protocol.commands import History
from imserver.protocol.groups import MEMBERS
from imserver.protocol.pushes import Page
from imserver.session.context import Context
from imserver.session.cursor import is_newer
from imserver.session.session import Session
from imserver.store.stored import head_of

PAGE_ENTRIES = 200  # read from the store at a time
MOST_ENTRIES = 4000  # looked through for one request; `next` tells the client where to go on


class Histories:
    """Handler of `history`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def history(self, session: Session, command: History) -> None:
        partner = parse_address(command.partner, "with")
        before = None if command.before is None else parse_position(command.before, "before")
        if is_group(partner):
            found, reached = await self._look_back_in_group(session.user, GroupId(partner), before, command.limit)
        else:
            found, reached = await self._look_back(session.user, UserId(partner), before, command.limit)
        found.reverse()
        session.reply(command.ref, Page(found, reached is not None, reached.decode() if reached else None))

    async def _look_back(
        self, user: UserId, partner: UserId, before: Position | None, limit: int
    ) -> tuple[list[Entry], Position | None]:
        """At most `limit` messages with `partner`, newest first, and from where to go on (None: nowhere)."""
        found: list[Entry] = []
        for _ in range(MOST_ENTRIES // PAGE_ENTRIES):
            page = await self._context.store.read_back(user, before, PAGE_ENTRIES)
            for entry in page:
                before = entry.at
                if _is_with(entry, user, partner):
                    found.append(entry)
                    if len(found) == limit:
                        return found, before
            if len(page) < PAGE_ENTRIES:
                return found, None
        return found, before

    async def _look_back_in_group(
        self, user: UserId, group: GroupId, before: Position | None, limit: int
    ) -> tuple[list[Entry], Position | None]:
        """The group's messages, as far as the user may read."""
        info = await self._context.store.groups.info(group, user)
        if info.since is None or info.standing not in MEMBERS:
            raise NotFound("with: there is no such group, or you are no member")
        oldest = START if info.history == "all" else info.since
        found: list[Entry] = []
        for _ in range(MOST_ENTRIES // PAGE_ENTRIES):
            page = await self._context.store.read_back(group, before, PAGE_ENTRIES)
            for entry in page:
                if not is_newer(entry.at, oldest):
                    return found, None
                before = entry.at
                if head_of(entry.content).ev == "msg":
                    found.append(entry)
                    if len(found) == limit:
                        return found, before
            if len(page) < PAGE_ENTRIES:
                return found, None
        return found, before


def _is_with(entry: Entry, user: UserId, partner: UserId) -> bool:
    head = head_of(entry.content)
    if head.ev != "msg":
        return False
    return (head.sender, head.to) in ((user, partner), (partner, user))
