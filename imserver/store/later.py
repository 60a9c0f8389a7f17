"""Messages that are to be said later, as a worker uses them: for tasks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from imserver.errors import ImError
from imserver.model import UserId
from imserver.store import later_calls
from imserver.store.answers import answer_of, answers_of
from imserver.store.calls import Appended
from imserver.store.later_calls import Begun, Due, Saying, Waiting
from imserver.store.partitions import PARTITIONS, partition_of, user_keys

if TYPE_CHECKING:
    from imserver.store.redis_link import RedisLink
    from imserver.store.store import Store

_PARTITIONS_AT_ONCE = 64


class LaterStore:
    """Any may raise ServiceError besides what it names. Times: unix seconds."""

    def __init__(self, store: "Store", by_partition: Sequence["RedisLink"]) -> None:
        self._store, self._by_partition = store, by_partition

    async def _ask(self, user: str, command: bytes, parse: Callable[[Any], Any] | None = None) -> Any:
        return await self._store.link_of(user).ask(command, parse)

    # -- a user's

    async def schedule(self, user: UserId, device: str, message_id: str, when: int, saying: Saying) -> int:
        """Until when it waits: as it was scheduled first. `look_at` MUST follow. Raises NotFound, Conflict."""
        command = later_calls.schedule(user_keys(user), device, message_id, when, saying)
        first: int = await self._ask(user, command, later_calls.scheduled)
        return first

    async def unschedule(self, user: UserId, device: str, message_id: str, now: int) -> None:
        """Raises NotFound, Conflict."""
        until = now + later_calls.LATE_SECONDS
        command = later_calls.unschedule(user_keys(user), user, device, message_id, until)
        await self._ask(user, command, later_calls.unscheduled)

    async def waiting(self, user: UserId) -> list[Waiting]:
        """In the order in which they are said."""
        return later_calls.all_waiting(await self._ask(user, later_calls.waiting(user_keys(user))))

    # -- the agenda

    async def _ask_deployment(self, command: bytes) -> Any:
        return await self._store.link_of_deployment().ask(command)

    async def take_due(self, now: float, claim: float, most: int) -> list[str]:
        """Partitions that the caller is to look at until its claim ends, or EVERYWHERE.

        `claim` MUST have a fraction, and be another one for each call.
        """
        return [name.decode() for name in await self._ask_deployment(later_calls.take_due(now, claim, most))]

    async def look_at(self, user: UserId, when: int) -> None:
        """Something is due in the user's partition."""
        await self._ask_deployment(later_calls.look_at(partition_of(user), when))

    async def look_at_all(self) -> None:
        """Whatever waits in any partition is on the agenda."""
        for start in range(0, PARTITIONS, _PARTITIONS_AT_ONCE):
            partitions = range(start, start + _PARTITIONS_AT_ONCE)
            answers = await answers_of([self._asking(partition) for partition in partitions])
            for partition, when in zip(partitions, answers, strict=True):
                if isinstance(when, int):
                    await self._ask_deployment(later_calls.look_at(partition, when))

    def _asking(self, partition: int) -> Callable[[Callable[[Any], None]], None]:
        link, command = self._by_partition[partition], later_calls.first(partition)
        return lambda then: link.call(command, then, later_calls.first_when)

    async def looked(self, name: str, claim: float, following: int | None) -> None:
        """`following`: when to look next; None: nothing waits."""
        await self._ask_deployment(later_calls.looked(name, claim, following))

    # -- what is due

    async def due(self, partition: int, now: int, skip: int, most: int) -> list[Due]:
        """By time, and of one time in the order in which the messages of a user were scheduled."""
        command = later_calls.due(partition, now, skip, most)
        return [Due(member) for member in await self._by_partition[partition].ask(command)]

    async def first(self, partition: int) -> int | None:
        """When the first message of a partition is due."""
        when: int | None = await self._by_partition[partition].ask(later_calls.first(partition), later_calls.first_when)
        return when

    async def begin_saying(self, what: Due, now: int) -> Begun | None:
        """From now on nothing stops it. None: there is nothing to be said."""
        begun: Begun | None = await self._ask(what.user, later_calls.begin_saying(what, now), later_calls.begun)
        return begun

    async def end_saying(self, what: Due, failed: ImError | None = None) -> None:
        """It has been said; or it stays for its sender to see, with what it was refused with."""
        await self._ask(what.user, later_calls.end_saying(what, failed))

    # -- saying it: as `Store` and `GroupStore` have it, for tasks

    async def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes, again: int) -> Appended:
        appended: Appended = await answer_of(
            lambda then: self._store.append(user, dedupe, content, origin, then, again)
        )
        return appended

    async def append_both(
        self, to: str, own: str, dedupe: bytes, content: bytes, origin: bytes, again: int
    ) -> Appended:
        both = partial(self._store.append_both, to, own, dedupe, content, origin)
        appended: Appended = await answer_of(lambda then: both(then, again))
        return appended

    async def post(
        self, group: str, sender: str, dedupe: bytes, content: bytes, origin: bytes, again: int, mentions: Sequence[str]
    ) -> Appended:
        post = partial(self._store.groups.post, group, sender, dedupe, content, origin)
        appended: Appended = await answer_of(lambda then: post(then, again, mentions))
        return appended
