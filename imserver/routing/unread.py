"""How many messages of a conversation nobody at this user's devices has read: counted in the log, when somebody asks.

**The rule:** the messages of others that stand behind the read mark, and behind the last that the user itself has said
in that conversation (a message, or an edit, deletion or reaction): who answers has read what came before. A message
that was scheduled is no answer. It takes the log and the mark, and nothing else; so whoever knows both comes to the
same number, in whatever order it has heard of them. Nothing is counted when a message is stored.

A log is looked through from its end, as far as somebody's mark is in doubt and the bound allows. What the log does not
keep any more is not counted.
"""

from collections.abc import Iterable

from imserver.model import START, Entry, Position, UserId, is_group
from imserver.session.cursor import is_newer
from imserver.store.store import Store
from imserver.store.stored import head_of

PAGE_ENTRIES = 200  # read from the store at a time
MOST_ENTRIES = 4000  # of the user's own log; as many as one page of history looks at
MOST_GROUP_ENTRIES = 1000  # of a group's log: a user may be in hundreds


class Count:
    """What a log says of one conversation, as far as it was looked through from its end."""

    __slots__ = ("is_settled", "last", "line", "unread")

    def __init__(self, line: Position = START) -> None:
        """`line`: what is not behind it has been read."""
        self.line = line
        self.unread = 0
        self.last: Position | None = None
        self.is_settled = False  # nothing older counts

    def pass_by(self, at: Position) -> None:
        """A message that says nothing of what was read."""
        self.last = self.last or at

    def look(self, at: Position, *, is_message: bool, is_own: bool) -> None:
        if is_message:
            self.last = self.last or at
        self.is_settled = self.is_settled or is_own or not is_newer(at, self.line)
        self.unread += not self.is_settled


class Counting:
    """Looks through one log."""

    def __init__(self, store: Store, user: UserId, log: str, most: int) -> None:
        self._store, self._user, self._log, self._most = store, user, log, most
        self.counts: dict[str, Count] = {}
        self._finds_others = False
        self.end = START  # of the log
        self.is_whole = False  # all that the log has was looked at, or all that counts

    async def run(self, lines: Iterable[tuple[str, Position | None]], *, finds_others: bool) -> None:
        """`lines`: conversations and their read marks. `finds_others`: to the beginning of the log, for all others."""
        self.counts = {partner: Count(line or START) for partner, line in lines}
        self._finds_others = finds_others
        before: Position | None = None
        for _ in range(self._most // PAGE_ENTRIES):
            page = await self._store.read_back(self._log, before, PAGE_ENTRIES)
            if page and before is None:
                self.end = page[0].at
            for entry in page:
                before = entry.at
                self._look(entry)
            if len(page) < PAGE_ENTRIES or (not finds_others and self._is_settled(before)):
                self.is_whole = True
                return

    def _look(self, entry: Entry) -> None:
        head = head_of(entry.content)
        if head.sender is None or head.to is None:
            return  # nothing that somebody has said
        is_own, is_message = head.sender == self._user, head.ev == "msg"
        if not (is_own or is_message):
            return
        partner = head.to if is_own or is_group(head.to) else head.sender
        count = self.counts.get(partner)
        if count is None and self._finds_others:
            count = self.counts[partner] = Count()
        if count is not None and is_own and head.scheduled is not None:
            count.pass_by(entry.at)
        elif count is not None:
            count.look(entry.at, is_message=is_message, is_own=is_own)

    def _is_settled(self, reached: Position | None) -> bool:
        """Whether nothing older than `reached` counts."""
        assert reached is not None
        return all(count.is_settled or not is_newer(reached, count.line) for count in self.counts.values())

    def is_sure(self, count: Count) -> bool:
        return self.is_whole or count.is_settled
