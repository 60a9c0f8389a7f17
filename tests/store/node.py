"""A node as a worker composes it: the real store, links and reactor under trio. What it is told, it writes down."""

import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import trio

from imserver.errors import ImError
from imserver.model import DeviceId, Entry, Place, Position, UserId
from imserver.observe.metrics import Counters
from imserver.store import calls
from imserver.store.calls import Appended, Attached, Bounds, Right
from imserver.store.circle_calls import Told
from imserver.store.conversation_calls import Marked, Rearranged
from imserver.store.leases import NodeInfo
from imserver.store.partitions import partition_of, user_keys
from imserver.store.shards import Shard, find_shards
from imserver.store.store import NOBODY, Store
from imserver.store.store_roles import StoreOptions
from imserver.store.stored import Sender, with_extras
from imserver.wire.reactor import Reactor

WIDE = Bounds(most_entries=10_000, longest_age_seconds=86_400, dedupe_seconds=600)
OUT_OF_INDEX = Bounds(most_entries=10_000, longest_age_seconds=86_400, dedupe_seconds=0)  # a trim that keeps all
PATIENCE_SECONDS = 20.0
DEFAULTS: dict[str, Any] = {
    "bounds": WIDE,
    "lease_seconds": 3600.0,
    "timeout_seconds": 15.0,
    "probe_seconds": 2.0,
    "most_calls": 10_000,
}


class Said(NamedTuple):
    """A message as a log keeps it, and what makes two of them the same."""

    dedupe: bytes
    content: bytes


def message(
    sender: str, to: str, message_id: str, body: str = '"hello"', device: str = "laptop", *, is_bot: bool = False
) -> Said:
    who = Sender(UserId(sender), DeviceId(device), is_bot=is_bot)
    return Said(who.dedupe(message_id), who.content(to, message_id, msgspec.Raw(body.encode())))


def vanishing(what: Said, expires: int) -> Said:
    """`expires`: unix seconds."""
    return Said(what.dedupe, with_extras(what.content, {"expires": expires}))


def at(device: str, place: bytes) -> Place:
    """The place of a device's session; `place` is its node and number."""
    return Place(device.encode() + b"=" + place)


def neighbours(name: str) -> tuple[str, str]:
    """Two users of one partition, so that one call reaches their logs in a cluster, too."""
    one = f"{name}.a"
    others = (f"{name}.b{number}" for number in itertools.count())
    return one, next(other for other in others if partition_of(one) == partition_of(other))


class Node:
    """The listener of its own store."""

    def __init__(self, shards: list[Shard], name: str, **options: Any) -> None:
        self.name = name
        self.reactor = Reactor(Counters())
        self.entries: list[tuple[str, Entry, bytes]] = []
        self.expelled: list[tuple[str, bytes, str]] = []
        self.told: list[tuple[str, ...]] = []
        self.marks: list[Marked | Rearranged] = []
        self.cleared: list[tuple[str, str]] = []
        self.ups = self.epochs = 0
        self.events: list[str] = []  # in the order in which they came
        self._told = trio.Event()
        self.dead = False
        self.lost_leases = 0
        self.nursery: trio.Nursery | None = None
        self.store = Store(
            shards,
            info=NodeInfo(name, "test", 0, 0, 0),
            options=StoreOptions(**(DEFAULTS | options)),
            reactor=self.reactor,
            counters=Counters(),
            spawn=self._spawn,
            on_dead=self._on_dead,
        )
        self.store.listen(self, self)
        self.store.conversations.listen(self)

    # -- what the store says

    def on_entry(self, log: str, entry: Entry, origin: bytes) -> None:
        self.entries.append((log, entry, origin))
        self._note(f"entry {entry.at.decode()}")

    def on_expelled(self, user: UserId, place: bytes, why: str) -> None:
        self.expelled.append((user, place, why))
        self._note(f"expelled {place.decode()} {why}")

    def on_link_up(self, holds: Callable[[str], bool]) -> None:
        self.ups += 1
        self._note("up")

    def on_cleared(self, holds: Callable[[str], bool]) -> None:
        self._note("cleared")

    def on_new_epoch(self, holds: Callable[[str], bool]) -> None:
        self.epochs += 1
        self._note("epoch")

    def on_lease_lost(self, holds: Callable[[str], bool]) -> None:
        self.lost_leases += 1
        self._note("lease lost")

    # -- what it says of conversations

    def on_marked(self, what: Marked) -> None:
        self.marks.append(what)
        self._note("marked")

    def on_rearranged(self, what: Rearranged) -> None:
        self.marks.append(what)
        self._note("rearranged")

    def on_marks_missed(self, holds: Callable[[str], bool]) -> None: ...

    # -- what it says of presence

    def on_told(self, user: UserId, to: Sequence[UserId], told: Told) -> None:
        self.told.append((user, *to, told.show))
        self._note(f"told {user} {told.show}")

    def on_typing(self, to: str, sender: UserId, *, is_on: bool) -> None:
        self._note(f"typing {sender} {to} {is_on}")

    def missed(self) -> None: ...

    async def clear(self, user: UserId, node: str) -> None:
        self.cleared.append((user, node))

    def _spawn(self, function: Any, *arguments: Any) -> None:
        assert self.nursery is not None
        self.nursery.start_soon(function, *arguments)

    def _on_dead(self) -> None:
        self.dead = True
        self._note("dead")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._told.set()
        self._told = trio.Event()

    async def wait_told(self, condition: Callable[[], bool]) -> None:
        """Until the condition, on what is written down, holds."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not condition():
                await self._told.wait()

    # -- what it asks

    async def append(self, owner: str, what: Said, origin: bytes = NOBODY, again: int = 0) -> Appended | ImError:
        appended: Appended | ImError = await answer(
            lambda then: self.store.append(owner, what.dedupe, what.content, origin, then, again)
        )
        return appended

    async def append_both(
        self, to: str, own: str, what: Said, origin: bytes = NOBODY, again: int = 0
    ) -> Appended | ImError:
        appended: Appended | ImError = await answer(
            lambda then: self.store.append_both(to, own, what.dedupe, what.content, origin, then, again)
        )
        return appended

    async def say(self, owner: str, message_id: str, origin: bytes = NOBODY) -> Appended:
        """One short message into the owner's log."""
        appended = await self.append(owner, message("someone", owner, message_id), origin)
        assert isinstance(appended, Appended)
        return appended

    async def read(self, user: str, after: bytes, count: int = 1000) -> list[Entry]:
        page = await answer(lambda then: self.store.read(UserId(user), Position(after), count, then))
        assert isinstance(page, list)
        return page

    async def attach(
        self, user: str, device: str, place: bytes, generations: str | None = None, password_hash: str | None = None
    ) -> Attached:
        return await self.store.attach(UserId(user), device, at(device, place), Right(generations, password_hash))

    async def attach_again(self, user: str, device: str, place: bytes, generations: str = "0.0") -> Attached | ImError:
        attached: Attached | ImError = await answer(
            lambda then: self.store.attach_again(UserId(user), at(device, place), generations, then)
        )
        return attached

    async def ack(self, user: str, device: str, upto: bytes) -> None:
        await answer(lambda then: self.store.ack(UserId(user), device, Position(upto), then))

    async def detach(self, user: str, device: str, place: bytes, cursor: bytes | None = None) -> None:
        self.store.detach(UserId(user), at(device, place), None if cursor is None else Position(cursor))
        await self.settle(user)

    async def trim(self, user: str, bounds: Bounds, now: float | None = None) -> int:
        """What the store does now and then after an append."""
        command = calls.trim(user_keys(user), time.time() if now is None else now, bounds)
        passed: int = await self.store.link_of(user).ask(command)
        return passed

    async def settle(self, user: str) -> None:
        """Everything published to this node before this call has been heard after it.

        Twice: a server may send the reply before what the call itself published.
        """
        for _ in range(2):
            await self.read(user, b"0-0", 1)


async def answer(ask: Callable[[Callable[[Any], None]], None]) -> Any:
    """The one answer of a call that takes a continuation."""
    send, receive = trio.open_memory_channel[Any](1)
    ask(send.send_nowait)
    with trio.fail_after(PATIENCE_SECONDS):
        return await receive.receive()


@asynccontextmanager
async def opened(url: str, name: str, **options: Any) -> AsyncIterator[Node]:
    """A node that is up."""
    async with serving(Node(find_shards(url), name, **options)) as node:
        yield node


@asynccontextmanager
async def serving(node: Node, *, with_leases: bool = True) -> AsyncIterator[Node]:
    """`with_leases`: it may host sessions."""
    async with trio.open_nursery() as nursery:
        node.nursery = nursery
        nursery.start_soon(node.reactor.run)
        node.store.start()
        with trio.fail_after(PATIENCE_SECONDS):
            await node.store.wait_up()
            if with_leases:
                await node.store.take_leases()
        try:
            yield node
        finally:
            nursery.cancel_scope.cancel()
            close(node)


def close(node: Node) -> None:
    """What ends with the process in a worker."""
    for link in node.store.links:
        link.drop("the test is over")
