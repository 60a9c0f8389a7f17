"""Conversations of the model store: what `imserver/store/functions/conversations.lua` does.

`Conversations` is the data, `NodeConversations` what a worker sees of it: the calls of
`imserver.store.conversations.ConversationStore`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imserver.errors import ImError, NotFound
from imserver.model import START, Entry, Position, UserId, is_group
from imserver.store.conversation_calls import (
    MOST_LOOKED_AT,
    Arranged,
    ConversationPage,
    Forwarded,
    HasRead,
    Kind,
    Mark,
    Marked,
    Rearranged,
    Record,
    Unheard,
)
from imserver.store.stored import head_of
from tests.model_database import Account, Database, Published, newer, node_of

if TYPE_CHECKING:
    from imserver.store.conversations import MarkListener
    from tests.model_store import NodeStore

LOOK_BACK = 200


@dataclass
class Kept:
    """All that is kept of one user's conversations."""

    records: dict[str, Record] = field(default_factory=dict)  # in the order of their versions
    stamps: dict[tuple[str, int], int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    version: int = 0
    heard: Position = START

    def copy(self) -> "Kept":
        return Kept(dict(self.records), dict(self.stamps), dict(self.versions), self.version, self.heard)

    def put(self, partner: str, record: Record) -> None:
        self.version += 1
        self.records.pop(partner, None)
        self.records[partner], self.versions[partner] = record, self.version


class Conversations:
    """Each method is one atomic step, and can be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _find(self, user: str) -> tuple[Account, Kept] | None:
        account = self._database.accounts.get(user)
        if account is None:
            return None
        if account.conversations is None:
            account.conversations = Kept()
        return account, account.conversations

    def _tell(self, user: str, account: Account, what: Marked | Rearranged) -> None:
        for node in dict.fromkeys(node_of(place) for place in account.on.values()):
            self._database.publish(user, node, Published(user, None, b"", marked=what))

    def _blocks(self, user: str, other: str) -> bool:
        roster = self._database.accounts[user].roster
        relation = None if roster is None else roster.relations.get(other)
        return relation is not None and bool(relation.switches[2])

    def read(self, user: str, partner: str, upto: Position, origin: bytes) -> HasRead | ImError:
        found = self._find(user)
        if found is None:
            return NotFound("there is no such user")
        account, kept = found
        if not is_group(partner) and newer(upto, account.last):
            upto = account.last
        record = kept.records.get(partner, Record())
        is_news = record.read is None or newer(upto, record.read)
        upto = upto if is_news or record.read is None else record.read
        mark = None
        if not is_group(partner) and not self._blocks(user, partner):
            mark = self._newest_of(account, partner, upto)
        if is_news:
            kept.put(partner, record._replace(read=upto))
            self._tell(user, account, Marked(UserId(user), origin, "read", user, partner, upto, mark))  # type: ignore[arg-type]
        return HasRead(upto, mark)

    def _newest_of(self, account: Account, partner: str, upto: Position) -> Mark | None:
        before = [entry for entry in account.log if not newer(entry.at, upto)]
        for entry in reversed(before[-LOOK_BACK:]):
            head = head_of(entry.content)
            if head.ev == "msg" and head.sender == partner:
                return Mark(upto, head.device or "", head.id or "")
        return None

    def mark(self, sender: str, kind: Kind, partner: str, what: Mark) -> int:
        found = self._find(sender)
        if found is None or self._blocks(sender, partner):
            return 1
        account, kept = found
        record = kept.records.get(partner, Record())
        known = [record.read_by] if kind == "read" else [record.read_by, record.delivered]
        if any(mark is not None and not newer(what.upto, mark.upto) for mark in known):
            return 1
        kept.put(partner, record._replace(read_by=what) if kind == "read" else record._replace(delivered=what))
        told = Marked(UserId(sender), b"-", kind, partner, sender, what.upto, what)  # type: ignore[arg-type]
        self._tell(sender, account, told)
        return 1

    def keep(self, user: str, device: str, upto: Position, forwarded: Forwarded | None = None) -> Unheard:
        self._database.ack(user, device, upto)
        found = self._find(user)
        if found is None or forwarded is None:
            return self._unheard(user, upto)
        account, kept = found
        if newer(forwarded.since, kept.heard) or newer(upto, account.last):
            return self._unheard(user, upto)
        upto = forwarded.upto
        if not newer(upto, kept.heard):
            return Unheard(None, [])
        behind = [entry for entry in account.log if newer(entry.at, kept.heard) and not newer(entry.at, upto)]
        named = dict(forwarded.marks)
        for sender, mark in _newest_of_each(user, behind):
            assert not newer(mark.upto, named[sender].upto), "whoever names senders leaves nobody out"
        marks = [
            (UserId(sender), mark)
            for sender, mark in forwarded.marks
            if sender != user and newer(mark.upto, kept.heard) and not self._blocks(user, sender)
        ]
        if not marks:
            kept.heard = upto
            return Unheard(None, [])
        return Unheard(upto, marks)

    def heard(self, user: str, reached: Position, upto: Position) -> Unheard:
        found = self._find(user)
        if found is not None and newer(reached, found[1].heard):
            found[1].heard = reached
        return self._unheard(user, upto)

    def _unheard(self, user: str, upto: Position) -> Unheard:
        found = self._find(user)
        if found is None:
            return Unheard(None, [])
        account, kept = found
        entries = [entry for entry in account.log if newer(entry.at, kept.heard) and not newer(entry.at, upto)]
        page = entries[:MOST_LOOKED_AT]
        if not page:
            return Unheard(None, [])
        marks = [(sender, mark) for sender, mark in _newest_of_each(user, page) if not self._blocks(user, sender)]
        if not marks:
            kept.heard = page[-1].at
            if len(page) < MOST_LOOKED_AT:
                return Unheard(None, [])
        return Unheard(page[-1].at, marks)

    def arrange(
        self, user: str, partner: str, wanted: Sequence[bytes], stamp: int, origin: bytes
    ) -> Arranged | ImError:
        found = self._find(user)
        if found is None:
            return NotFound("there is no such user")
        account, kept = found
        record = kept.records.get(partner, Record())
        now: list[Any] = list(record.arranged)
        is_news = False
        for index, value in enumerate(wanted):
            if value != b"-" and stamp > kept.stamps.get((partner, index), 0):
                kept.stamps[partner, index], is_news = stamp, True
                at = account.last if value == b"now" else None if value == b"0" else value
                now[index] = at if index == 2 else value == b"1"
        arranged = Arranged(*now)
        if is_news:
            newest = max(kept.stamps.get((partner, index), 0) for index in range(3))
            kept.put(partner, record._replace(arranged=arranged, stamp=newest))
            self._tell(user, account, Rearranged(UserId(user), origin, partner, arranged))  # type: ignore[arg-type]
        return arranged

    def records(self, user: str, partners: Sequence[str]) -> list[Record]:
        found = self._find(user)
        return [found[1].records.get(partner, Record()) if found else Record() for partner in partners]

    def listed(self, user: str, since: int, behind: int, most: int) -> ConversationPage:
        found = self._find(user)
        kept = found[1] if found else Kept()
        is_all = since == 0 or since > kept.version
        behind = since if behind == 0 and not is_all else behind
        records = [(name, record) for name, record in kept.records.items() if kept.versions[name] > behind][:most]
        return ConversationPage(kept.version, is_all, kept.versions[records[-1][0]] if records else behind, records)


def _newest_of_each(user: str, entries: list[Entry]) -> list[tuple[UserId, Mark]]:
    marks: dict[str, Mark] = {}
    for entry in reversed(entries):
        head = head_of(entry.content)
        if head.ev == "msg" and head.sender not in (None, user, *marks):
            marks[head.sender or ""] = Mark(entry.at, head.device or "", head.id or "")
    return [(UserId(sender), mark) for sender, mark in marks.items()]


class NodeConversations:
    def __init__(self, store: "NodeStore") -> None:
        self._store = store
        self._listener: MarkListener | None = None

    def listen(self, listener: "MarkListener") -> None:
        self._listener = listener

    def _call(self, name: str, user: str, run: Callable[[Conversations], Any], then: Callable[[Any], None]) -> None:
        self._store.call(name, user, lambda database: run(database.conversations), then)

    async def _ask(self, name: str, user: str, run: Callable[[Conversations], Any]) -> Any:
        return await self._store.ask(name, user, lambda database: run(database.conversations))

    def read(self, user: str, partner: str, upto: Position, origin: bytes, then: Callable[[Any], None]) -> None:
        self._call("read_mark", user, lambda it: it.read(user, partner, upto, origin), then)

    def mark(self, sender: str, kind: Kind, partner: str, what: Mark, then: Callable[[Any], None]) -> None:
        self._call("mark", sender, lambda it: it.mark(sender, kind, partner, what), then)

    def keep(
        self,
        user: str,
        device: str,
        upto: Position,
        forwarded: Forwarded | None,
        then: Callable[[Any], None],
    ) -> None:
        self._call("ack", user, lambda it: it.keep(user, device, upto, forwarded), then)

    def heard(self, user: str, reached: Position, upto: Position, then: Callable[[Any], None]) -> None:
        self._call("heard", user, lambda it: it.heard(user, reached, upto), then)

    async def records(self, user: str, partners: Sequence[str]) -> Any:
        return await self._ask("records", user, lambda it: it.records(user, partners)) if partners else []

    async def arrange(self, user: str, partner: str, wanted: Sequence[bytes], stamp: int, origin: bytes) -> Any:
        return await self._ask("arrange", user, lambda it: it.arrange(user, partner, wanted, stamp, origin))

    async def listed(self, user: str, since: int, behind: int, most: int) -> Any:
        return await self._ask("listed", user, lambda it: it.listed(user, since, behind, most))

    def hear(self, what: Marked | Rearranged) -> None:
        assert self._listener is not None
        if isinstance(what, Marked):
            self._listener.on_marked(what)
        else:
            self._listener.on_rearranged(what)

    def missed(self, holds: Callable[[str], bool]) -> None:
        if self._listener is not None:
            self._listener.on_marks_missed(holds)
