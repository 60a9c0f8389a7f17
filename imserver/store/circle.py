"""Who knows whom, and who shows what to whom: the calls for contacts, blocks, presence and typing."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from imserver.errors import ImError
from imserver.model import UserId
from imserver.store import circle_calls
from imserver.store.answers import answers_of, ignore
from imserver.store.circle_calls import NOWHERE, Extent, Privacy, RosterPage, Settled, Shown, Standing, Whereabouts
from imserver.store.partitions import Hosting, user_keys

if TYPE_CHECKING:
    from imserver.store.store import Store

_MOST_AT_ONCE = 500  # users in one call: bounds how long it holds up the store (half a millisecond)


class Circle:
    """The `async` calls raise ServiceError besides what they name."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    async def _ask(self, user: str, command: bytes, parse: Callable[[Any], Any] | None = None) -> Any:
        return await self._store.link_of(user).ask(command, parse)

    def is_reachable(self, user: str) -> bool:
        return self._store.link_of(user).up

    def is_lost(self, user: str) -> bool:
        """Whether the user's shard is out of reach for so long that this node counts as dead there."""
        return self._store.is_lost(user)

    # -- contacts

    async def standing(self, user: UserId, other: UserId) -> Standing:
        command = circle_calls.standing(user_keys(user), other)
        standing: Standing = await self._ask(user, command, circle_calls.standing_known)
        return standing

    async def relate(
        self, user: UserId, other: UserId, switches: str, stamp: int, note: str = "", most: int = 0
    ) -> None:
        """Sets switches at the user's end. Raises NotFound, Blocked, NotAllowed."""
        command = circle_calls.relate(user_keys(user), other, switches, stamp, note, most)
        await self._ask(user, command, circle_calls.related)

    async def describe(self, user: UserId, other: UserId, name: str | None, groups: Sequence[str], now_ms: int) -> None:
        """Raises NotFound."""
        command = circle_calls.describe(user_keys(user), other, name, groups, now_ms)
        await self._ask(user, command, circle_calls.described)

    async def roster(self, user: UserId, since: int, behind: int, most: int) -> RosterPage:
        command = circle_calls.roster(user_keys(user), since, behind, most)
        page: RosterPage = await self._ask(user, command, circle_calls.roster_page)
        return page

    async def blocked(self, user: UserId) -> list[str]:
        names: list[str] = await self._ask(user, circle_calls.whole_roster(user_keys(user)), circle_calls.blocked)
        return names

    async def privacy(self, user: UserId, write: str | None, seen: str | None) -> Privacy:
        command = circle_calls.privacy(user_keys(user), write, seen)
        privacy: Privacy = await self._ask(user, command, circle_calls.privacy_known)
        return privacy

    # -- presence

    async def settle(
        self, user: UserId, order: bytes, gone: bytes = b"", seconds: int = 0, shown: Shown | None = None
    ) -> Settled | None:
        """What contacts are to be told follows what the user's devices show. None: there is nobody to be told."""
        command = circle_calls.settle(user_keys(user), order, gone, seconds, shown)
        settled: Settled | None = await self._ask(user, command, circle_calls.settled)
        return settled

    def settle_nowait(self, user: UserId, order: bytes, then: Callable[[Settled | ImError | None], None]) -> None:
        """The same with every login."""
        self._store.link_of(user).call(circle_calls.settle(user_keys(user), order), then, circle_calls.settled)

    async def audience(self, user: UserId) -> list[UserId]:
        """The contacts that share presence with the user."""
        names: list[UserId] = await self._ask(user, circle_calls.whole_roster(user_keys(user)), circle_calls.audience)
        return names

    async def contacts_from(self, users: Sequence[UserId], beginning: str) -> list[UserId]:
        """The contacts of all these whose names begin so; of those users who can be asked now."""

        def asking(user: UserId) -> Callable[[Callable[[Any], None]], None]:
            command, link = circle_calls.roster_from(user_keys(user), beginning), self._store.link_of(user)
            return lambda then: link.call(command, then, circle_calls.audience_of_page)

        answers = await answers_of([asking(user) for user in users])
        return [name for answer in answers if not isinstance(answer, ImError) for name in answer]

    async def whereabouts(
        self, users: Sequence[UserId], found: Callable[[UserId, Whereabouts], None], *, with_told: bool
    ) -> None:
        """Of each user, with what contacts were told; or, `with_told` false, only of those who are connected.

        In a cluster each costs a call. `found` is called as the answers come: in one order with what is published about
        the user.
        """
        reach = _MOST_AT_ONCE if self._store.reaches_both else 1
        groups = [users[start : start + reach] for start in range(0, len(users), reach)]
        missing, error, done = len(groups), None, trio.Event()

        def then(group: Sequence[UserId], answer: dict[int, Whereabouts] | ImError) -> None:
            nonlocal missing, error
            missing -= 1
            if isinstance(answer, ImError):
                error = answer
            elif with_told:
                for index, user in enumerate(group):
                    found(user, answer.get(index, NOWHERE))
            else:
                for index, whereabouts in answer.items():
                    found(group[index], whereabouts)
            if not missing:
                done.set()

        for group in groups:
            command = circle_calls.whereabouts([user_keys(user) for user in group], with_told=with_told)
            self._store.link_of(group[0]).call(command, partial(then, group), circle_calls.whereabouts_known)
        if groups:
            await done.wait()
        if error is not None:
            raise error

    async def tell(self, user: UserId, by_node: Mapping[bytes, Sequence[UserId]], extent: Extent) -> None:
        """Publishes what the user's contacts are told, as it stands, to those who are at these nodes.

        Over the user's own shard: so it is in one order with everything else that is said or read of this user there.
        """
        await self._ask(user, circle_calls.tell(user_keys(user), by_node, extent))

    async def release(self, user: UserId, node: str) -> None:
        """The contacts know that the user's session at the node is gone."""
        keys = user_keys(user)
        await self._ask(user, circle_calls.release(keys, Hosting(keys.partition, node.encode())))

    def typing(self, sender: UserId, to: UserId, *, is_on: bool) -> None:
        command = circle_calls.typing(user_keys(to), sender, is_on=is_on)
        self._store.link_of(to).call(command, ignore)
