"""How often something may be tried: counted in the store, so on all workers together, and forgotten by itself."""

from typing import TYPE_CHECKING, NamedTuple

from imserver.store.answers import ignore
from imserver.store.calls import Packed, call
from imserver.store.partitions import partition_of, tags

if TYPE_CHECKING:
    from imserver.store.store import Store

_HOUR_MS = 3_600_000


class Allowance(NamedTuple):
    """What `who` (a user, or `@` and an address) may try: so often in an hour, all of it at once if need be."""

    who: str
    an_hour: int


def tries_key(who: str) -> bytes:
    return b"{%b}t:%b" % (tags()[partition_of(who)], who.encode())


def try_once(allowance: Allowance) -> Packed:
    """The reply: 0, or the ms until there is another try."""
    return call(b"im_try_2", (tries_key(allowance.who),), allowance.an_hour, max(1, _HOUR_MS // allowance.an_hour))


def forgive(allowance: Allowance) -> Packed:
    return call(b"im_forgive_2", (tries_key(allowance.who),), allowance.an_hour, max(1, _HOUR_MS // allowance.an_hour))


def forget(who: str) -> Packed:
    return call(b"im_forget_2", (tries_key(who),))


class Tries:
    """Any may raise ServiceError."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    async def spend(self, allowance: Allowance) -> float:
        """0.0; or, having spent nothing, the seconds until there is another try."""
        wait: int = await self._store.link_of(allowance.who).ask(try_once(allowance))
        return wait / 1000

    def forgive(self, allowance: Allowance) -> None:
        """The last one does not count."""
        self._store.link_of(allowance.who).call(forgive(allowance), ignore)
