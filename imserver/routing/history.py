"""Reading a conversation back. It is read from the user's own log: there is no second copy that could differ."""

from imserver.errors import NotFound
from imserver.model import Entry, Position, UserId, parse_address, parse_position
from imserver.protocol.commands import History
from imserver.protocol.pushes import Page
from imserver.session.context import Context
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
        if partner.startswith("#"):
            raise NotFound(f"there is no group {partner}")
        before = None if command.before is None else parse_position(command.before, "before")
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


def _is_with(entry: Entry, user: UserId, partner: UserId) -> bool:
    head = head_of(entry.content)
    if head.ev != "msg":
        return False
    return (head.sender, head.to) in ((user, partner), (partner, user))
