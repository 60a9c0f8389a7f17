"""Which workers are alive, shard by shard, and what becomes of the sessions of those that are not.

A *node* is one life of one worker process. On every shard it holds a lease, which it renews each second. Where it can't
be renewed, the node sends the users of that shard elsewhere before it ends; when it has ended, any other node clears
what the dead one left in the directory. So a session that nobody serves is in the directory for no longer than a lease,
and a shard that is out of reach costs the sessions of that shard and no others.

**Invariant: a node that was taken for dead never comes back.** Its places may be cleared at any moment. It learns of it
when it renews, and ends; the supervisor starts another process, which is another node.
"""

import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from os import getpid
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from imserver.errors import ImError, Unavailable
from imserver.model import UserId
from imserver.observe.log import get_logger
from imserver.store import calls
from imserver.store.calls import Dead
from imserver.store.partitions import Hosting, lease_keys, user_keys

if TYPE_CHECKING:
    from imserver.store.redis_link import RedisLink

log = get_logger("leases")

# Before its end, a lease is not relied upon: the next look at it is a second away, and saying good-bye takes time.
_MARGIN = 0.25  # of the lease
_LONGEST_MARGIN_SECONDS = 1.5
_CLAIM_SECONDS = 10.0  # for clearing a dead node; then another one tries
_LONGEST_SUSPECT_SECONDS = 2.5  # a link is made again, and a renewal sent, in less
_NODES_LOOK_EVERY_SECONDS = 1.0
_PARTITIONS_AT_ONCE = 64


class NodeInfo(msgspec.Struct, frozen=True):
    """What a node says of itself; `since`: unix seconds."""

    node: str
    host: str
    pid: int
    number: int
    since: int


def new_node_id() -> str:
    """Eight hexadecimal digits; never the same twice in the life of a lease."""
    return secrets.token_hex(4)


def describe_node(node: str, number: int) -> NodeInfo:
    """This process, which is worker `number`."""
    return NodeInfo(node, socket.gethostname(), getpid(), number, int(time.time()))


def margin(seconds: float) -> float:
    """How long before its end a lease of so many seconds counts as lost."""
    return min(max(1.0, _MARGIN * seconds), _LONGEST_MARGIN_SECONDS)


class Lease:
    """A node's lease on one shard."""

    def __init__(
        self,
        link: "RedisLink",
        info: NodeInfo,
        seconds: float,
        *,
        spawn: Callable[..., None],
        on_lost: Callable[["RedisLink"], None],
        on_cleared: Callable[["RedisLink"], None],
        on_dead: Callable[[], None],
        on_gone: Callable[[UserId, str], Awaitable[None]],
    ) -> None:
        """`on_lost`: the lease is about to end. `on_cleared`: it is there again, and what the node had is cleared.

        `on_dead`: this node is taken for dead and MUST end.
        `on_gone`: tells contacts of a user that its sessions at a node are gone; it may raise ServiceError.
        """
        self.link = link
        self.first_partition = link.shard.partitions[0]
        self.keys = lease_keys(self.first_partition)
        self._node, self._info = info.node.encode(), msgspec.json.encode(info)
        self._seconds = seconds
        self._spawn, self._on_lost, self._on_cleared = spawn, on_lost, on_cleared
        self._on_dead, self._on_gone = on_dead, on_gone
        self._margin = margin(seconds)
        self._ends_at = 0.0  # reactor time; not later than the store thinks; 0: none is held
        # In the store a lease ends that much earlier; then its node is suspect for as long, and dead after that.
        self._suspect_seconds = min(_LONGEST_SUSPECT_SECONDS, seconds / 2)
        self._is_taken = self._was_lost = False
        self._is_told = False  # the shard knows what this node says of itself
        self._is_clearing = self._is_returning = False

    @property
    def is_held(self) -> bool:
        return self._ends_at > 0

    def may_be_dead(self, now: float) -> bool:
        """Whether the store can have let go of this node; not asked of a lease that was lost: its sessions went."""
        return self.is_held and now >= self._ends_at - _NODES_LOOK_EVERY_SECONDS

    async def take(self, now: float) -> None:
        """The first one. Raises ServiceError."""
        await self.link.ask(self._renewal(), calls.renewed)
        self._ends_at, self._is_taken, self._is_told = now + self._seconds, True, True

    def inherit(self, other: "Lease") -> None:
        """Users of that lease's shard have come to this one's: it goes on here, and is taken as soon as the link is up.

        That comes before any login, and where it does not come in time, the users are sent elsewhere in time.
        """
        self._ends_at, self._is_taken, self._was_lost = other._ends_at, other._is_taken, other._was_lost

    def _renewal(self) -> calls.Packed:
        in_store = max(0.0, self._seconds - self._suspect_seconds - _NODES_LOOK_EVERY_SECONDS)
        return calls.renew(self.keys, self._node, in_store, b"" if self._is_told else self._info)

    async def leave(self, owing_seconds: float) -> None:
        """Gives the lease back; no session of this node may be left in the directory. Raises ServiceError.

        Where contacts must still be told of users who left here, another node does it in `owing_seconds`.
        """
        self._ends_at, self._is_taken = 0.0, False
        await self.link.ask(calls.leave(self.keys, self._node, owing_seconds))

    def tick(self, now: float) -> None:
        """Once a second."""
        if self.is_held and now >= self._ends_at - self._margin:
            log.error("the lease can't be renewed", shard=self.link.url, why=self.link.why_down)
            self._ends_at, self._was_lost = 0.0, True
            self._on_lost(self.link)
        self.renew(now)
        # Whoever was cut off, or found the store anew, first gives the others the time to come back, too.
        is_settled = self.link.up and now - self.link.up_since >= self._suspect_seconds
        if is_settled and self.is_held and not self._is_clearing:
            self._is_clearing = True
            self._spawn(self._clear_dead)

    def renew(self, now: float) -> None:
        """Each second, and as soon as the link is back."""
        if self.link.up and self._is_taken:
            self.link.call(self._renewal(), partial(self._on_renewed, now), calls.renewed)

    def _on_renewed(self, asked_at: float, answer: ImError | None) -> None:
        if not self._is_taken:
            return
        self._is_told = self._is_told or answer is None
        if isinstance(answer, Dead):
            self._on_dead()
        elif self._was_lost:
            if answer is None and not self._is_returning:
                self._is_returning = True
                self._spawn(self._return)
        elif answer is None or self.link.up:
            # A store that answers and can't write (its disk is full, its replica away) can't take anybody for dead.
            self._ends_at = asked_at + self._seconds

    async def _return(self) -> None:
        """The lease was lost and is there again: what was said then of sessions that left may not have been heard."""
        try:
            await self._clear(self._node)
            self._was_lost = False
            self._on_cleared(self.link)
        except* ImError as error:
            log.debug("not now", what="returning", error=str(error))
        finally:
            self._is_returning = False

    # -- users that have come from another shard

    async def expect_nodes_of(self, other: "Lease", its_link: "RedisLink") -> None:
        """Nodes with a lease there may have sessions of users who are here now: they count as having one here.

        For a node may have died before it could take a lease here, and then nobody would clear what it left.
        `its_link`: to where that shard's leases lie now. Raises ServiceError.
        """
        members = await its_link.ask(calls.leaseholders(other.keys))
        if members:
            await self.link.ask(calls.expect(self.keys, self._seconds, members))

    # -- the dead

    async def _clear_dead(self) -> None:
        try:
            for node in await self.link.ask(calls.take_dead(self.keys, _CLAIM_SECONDS, self._suspect_seconds)):
                cleared = await self._clear(node)
                await self.link.ask(calls.bury(self.keys, node))
                log.warning("a node is gone", node=node.decode(), shard=self.link.url, users_cleared=cleared)
        except* ImError as error:
            log.debug("not now", what="clearing", error=str(error))  # the next second will do
        finally:
            self._is_clearing = False

    async def _clear(self, node: bytes) -> int:
        """Of how many users the node's places were cleared. Raises ServiceError, or a group of them."""
        cleared = 0

        async def clear_partition(partition: int) -> None:
            nonlocal cleared
            hosting = Hosting(partition, node)
            for user in await self._ask_of(partition, calls.hosted(hosting)):
                name = UserId(user.decode())
                if await self._ask_of(partition, calls.clear(user_keys(name), hosting, time.time())) == calls.OWES:
                    await self._on_gone(name, node.decode())
                cleared += 1

        partitions = self.link.shard.partitions
        for first in range(0, len(partitions), _PARTITIONS_AT_ONCE):
            async with trio.open_nursery() as nursery:
                for partition in partitions[first : first + _PARTITIONS_AT_ONCE]:
                    nursery.start_soon(clear_partition, partition)
        return cleared

    async def _ask_of(self, partition: int, command: calls.Packed) -> Any:
        """Raises ServiceError, also where the partition has gone elsewhere meanwhile: clearing then begins anew."""
        if partition not in self.link.shard.partitions:
            raise Unavailable("the partition has moved")
        return await self.link.ask(command)
