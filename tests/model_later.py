"""Messages of the model store that wait: what `imserver/store/functions/later.lua` does.

`Delays` is the data, `NodeLater` what a worker sees of it: the calls of `imserver.store.later.LaterStore`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from imserver.errors import ImError
from imserver.model import UserId
from imserver.store import later_calls
from imserver.store.later_calls import LATE_SECONDS, MOST_BYTES, MOST_MESSAGES, Begun, Due, Saying, Waiting
from imserver.store.partitions import partition_of

if TYPE_CHECKING:
    from tests.model_database import Database
    from tests.model_store import NodeStore


@dataclass(frozen=True)
class Kept:
    """One message; `state`: w(aits), s (is being said), f(ailed), c(ancelled, until `when`)."""

    state: str
    when: int
    number: int
    saying: Saying
    failed: tuple[str, str] | None = None


def number_of(what: Due) -> int:
    return int(what.member.split(b" ")[0])


class Delays:
    """Each method is one atomic step, and can be repeated."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self.agenda: dict[str, float] = {}

    def _of(self, user: str) -> dict[str, Kept]:
        account = self._database.accounts.get(user)
        return {} if account is None else account.waiting

    def schedule(self, user: str, field: str, when: int, saying: Saying) -> int | ImError:
        account = self._database.accounts.get(user)
        if account is None:
            return later_calls.scheduled([b"not-found"])
        known = account.waiting.get(field)
        if known is not None:
            return later_calls.scheduled([b"cancelled"]) if known.state == "c" else known.when
        if f"{user}/{field}".encode() in account.seen:
            return when
        others = [one.saying.content for one in account.waiting.values() if one.state != "c"]
        if len(others) >= MOST_MESSAGES or sum(map(len, [*others, saying.content])) > MOST_BYTES:
            return later_calls.scheduled([b"full"])
        account.waiting_number = account.waiting_number + 1 if account.waiting else 1
        account.waiting[field] = Kept("w", when, account.waiting_number, saying)
        return when

    def unschedule(self, user: str, field: str, until: int) -> ImError | None:
        known = self._of(user).get(field)
        if known is None:
            return later_calls.unscheduled([b"not-found"])
        if known.state == "s":
            return later_calls.unscheduled([b"begun"])
        if known.state != "c":
            self._of(user)[field] = replace(known, state="c", when=until)
        return None

    def waiting(self, user: str) -> list[Waiting]:
        kept = [one for one in self._of(user).values() if one.state != "c"]
        return sorted(Waiting(one.when, one.number, one.failed, one.saying.content) for one in kept)

    def due(self, partition: int, now: float, skip: int = 0, most: int = 1000) -> list[Due]:
        found = [
            (one.when, b"%012d %b %b" % (one.number, user.encode(), field.encode()))
            for user in self._database.accounts
            if partition_of(user) == partition
            for field, one in self._of(user).items()
            if one.state != "f" and one.when <= now
        ]
        return [Due(member) for _, member in sorted(found)][skip : skip + most]

    def first(self, partition: int) -> int | None:
        found = self.due(partition, float("inf"))
        return self._of(found[0].user)[found[0].field.decode()].when if found else None

    def begin(self, what: Due, now: int) -> Begun | None:
        kept, field = self._of(what.user), what.field.decode()
        known = kept.get(field)
        if known is None or known.number != number_of(what) or known.when > now:
            return None
        if known.state in "ws":
            kept[field] = replace(known, state="s")
            return Begun(known.saying, self._database.accounts[what.user].disabled)
        if known.state == "c":
            del kept[field]
        return None

    def end(self, what: Due, failed: ImError | None) -> None:
        kept, field = self._of(what.user), what.field.decode()
        if field in kept and kept[field].number == number_of(what) and kept[field].state == "s":
            if failed is None:
                del kept[field]
            else:
                kept[field] = replace(kept[field], state="f", failed=(failed.code, str(failed)))

    # -- the agenda

    def take(self, now: float, claim: float, most: int) -> list[str]:
        taken = [
            name for name, when in sorted(self.agenda.items(), key=lambda item: (item[1], item[0])) if when <= now
        ][:most]
        if not taken and "all" not in self.agenda:
            taken = ["all"]
        self.agenda.update(dict.fromkeys(taken, claim))
        return taken

    def look_at(self, partition: int, when: int) -> None:
        known = self.agenda.get(str(partition))
        if known is None or known > when:
            self.agenda[str(partition)] = when
        elif known % 1:
            self.agenda[str(partition)] = int(known)

    def look_at_all(self) -> None:
        for partition in {partition_of(user) for user in self._database.accounts}:
            first = self.first(partition)
            if first is not None:
                self.look_at(partition, first)

    def looked(self, name: str, claim: float, following: int | None) -> None:
        if self.agenda.get(name) != claim:
            return
        if following is None:
            del self.agenda[name]
        else:
            self.agenda[name] = following


class NodeLater:
    def __init__(self, store: "NodeStore") -> None:
        self._store = store

    async def _ask(self, name: str, user: str, run: Callable[[Delays], Any]) -> Any:
        return await self._store.ask(name, user, lambda database: run(database.delays))

    async def schedule(self, user: UserId, device: str, message_id: str, when: int, saying: Saying) -> Any:
        return await self._ask("schedule", user, lambda it: it.schedule(user, f"{device}/{message_id}", when, saying))

    async def unschedule(self, user: UserId, device: str, message_id: str, now: int) -> None:
        field, until = f"{device}/{message_id}", now + LATE_SECONDS
        await self._ask("unschedule", user, lambda it: it.unschedule(user, field, until))

    async def waiting(self, user: UserId) -> Any:
        return await self._ask("waiting", user, lambda it: it.waiting(user))

    async def take_due(self, now: float, claim: float, most: int) -> Any:
        return await self._ask("take_due", "", lambda it: it.take(now, claim, most))

    async def look_at(self, user: UserId, when: int) -> None:
        await self._ask("look_at", "", lambda it: it.look_at(partition_of(user), when))

    async def look_at_all(self) -> None:
        await self._ask("look_at_all", "", Delays.look_at_all)

    async def looked(self, name: str, claim: float, following: int | None) -> None:
        await self._ask("looked", "", lambda it: it.looked(name, claim, following))

    async def due(self, partition: int, now: int, skip: int, most: int) -> Any:
        return await self._ask("due", "", lambda it: it.due(partition, now, skip, most))

    async def first(self, partition: int) -> Any:
        return await self._ask("first", "", lambda it: it.first(partition))

    async def begin_saying(self, what: Due, now: int) -> Any:
        return await self._ask("begin_saying", what.user, lambda it: it.begin(what, now))

    async def end_saying(self, what: Due, failed: ImError | None = None) -> None:
        await self._ask("end_saying", what.user, lambda it: it.end(what, failed))

    async def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes, again: int) -> Any:
        return await self._store.ask("append", user, lambda it: it.append(user, dedupe, content, origin, again))

    async def append_both(self, to: str, own: str, dedupe: bytes, content: bytes, origin: bytes, again: int) -> Any:
        return await self._store.ask(
            "append_both", to, lambda it: it.append_both(to, own, dedupe, content, origin, again)
        )

    async def post(
        self, group: Any, sender: str, dedupe: bytes, content: bytes, origin: bytes, again: int, mentions: Sequence[str]
    ) -> Any:
        return await self._store.ask(
            "append_group",
            group,
            lambda it: it.groups.post(group, sender, dedupe, content, origin, again, mentions),
        )
