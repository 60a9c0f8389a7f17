"""Reading a conversation back. It is read from the user's own log, or the group's: no second copy could differ.

A page has the messages as they were said, and beside them the amendments among and behind them. Whoever reads back
from the end has all amendments of a message when the message comes, since they stand behind it. A message whose
deletion was passed is left out.
"""

from collections.abc import Callable

from imserver.errors import NotFound
from imserver.model import START, Entry, GroupId, Position, UserId, is_group, parse_address, parse_position
from imserver.protocol.amendments import RULES
from imserver.protocol.commands import History
from imserver.protocol.extras import Reference
from imserver.protocol.groups import MEMBERS
from imserver.protocol.pushes import Page
from imserver.session.context import Context
from imserver.session.cursor import is_newer
from imserver.session.session import Session
from imserver.store.stored import Head, head_of

PAGE_ENTRIES = 200  # read from the store at a time
MOST_ENTRIES = 4000  # looked through for one request; `next` tells the client where to go on
MOST_AMENDMENTS = 1000  # of one page
MOST_BYTES = 262_144  # of a page, and one entry more: large messages must not hold up the worker, nor its client
AMENDMENTS = frozenset(rule.ev for rule in RULES.values())


class Histories:
    """Handler of `history`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def history(self, session: Session, command: History) -> None:
        partner, user = parse_address(command.partner, "with"), session.user
        before = None if command.before is None else parse_position(command.before, "before")
        found = _Found()
        if is_group(partner):
            oldest = await self._oldest_in_group(user, GroupId(partner))
            reached = await self._look_back(partner, oldest, before, command.limit, _is_any, found)
        else:
            is_with = _with(user, UserId(partner))
            reached = await self._look_back(user, START, before, command.limit, is_with, found)
        found.messages.reverse()
        found.amendments.reverse()
        where = reached.decode() if reached else None
        session.reply(command.ref, Page(found.messages, reached is not None, where, found.amendments))

    async def _oldest_in_group(self, user: UserId, group: GroupId) -> Position:
        """The user may read what comes behind it. Raises NotFound."""
        info = await self._context.store.groups.info(group, user)
        if info.since is None or info.standing not in MEMBERS:
            raise NotFound("with: there is no such group, or you are no member")
        return START if info.history == "all" else info.since

    async def _look_back(
        self,
        log: str,
        oldest: Position,
        before: Position | None,
        limit: int,
        belongs: Callable[[Head], bool],
        found: "_Found",
    ) -> Position | None:
        """Adds at most `limit` messages to `found`, newest first. Returns from where to go on (None: nowhere)."""
        for _ in range(MOST_ENTRIES // PAGE_ENTRIES):
            page = await self._context.store.read_back(log, before, PAGE_ENTRIES)
            for entry in page:
                if not is_newer(entry.at, oldest):
                    return None
                before = entry.at
                head = head_of(entry.content)
                if belongs(head):
                    found.add(entry, head)
                    if len(found.messages) == limit or found.is_full:
                        return before
            if len(page) < PAGE_ENTRIES:
                return None
        return before


class _Found:
    """Newest first."""

    def __init__(self) -> None:
        self.messages: list[Entry] = []
        self.amendments: list[Entry] = []
        self._deleted: set[Reference] = set()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self.amendments) == MOST_AMENDMENTS or self._bytes >= MOST_BYTES

    def add(self, entry: Entry, head: Head) -> None:
        if head.ev == "msg":
            if Reference(head.sender or "", head.device or "", head.id or "") not in self._deleted:
                self._give(self.messages, entry)
        elif head.ev in AMENDMENTS and head.of is not None and head.of not in self._deleted:
            self._give(self.amendments, entry)
            if head.ev == "delete":
                self._deleted.add(head.of)

    def _give(self, kind: list[Entry], entry: Entry) -> None:
        kind.append(entry)
        self._bytes += len(entry.content)


def _is_any(head: Head) -> bool:
    return True


def _with(user: UserId, partner: UserId) -> Callable[[Head], bool]:
    pairs = ((user, partner), (partner, user))
    return lambda head: (head.sender, head.to) in pairs
