"""What one status change of a user with 200 contacts, 40 of them online, costs: a worker's CPU and Redis's.

    python loadtest/benchmarks/presence.py [--contacts 200] [--online 40] [--changes 300]

The worker's parts and a Redis of its own are real; all sessions are at this worker, on socket pairs whose other ends
are emptied outside of what is timed. Prints microseconds per change, the sends to the clients included; then the same
of what a login of such a user costs for presence.
"""

import argparse
import gc
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import trio

from imserver.config import Settings
from imserver.model import START, DeviceId, Place, UserId
from imserver.observe import log as observe_log
from imserver.observe.metrics import Counters
from imserver.protocol.commands import SetPresence
from imserver.protocol.contacts import SWITCHES, Event
from imserver.protocol.framing import LineFraming
from imserver.protocol.limits import Limits
from imserver.routing.marks import Marks
from imserver.routing.messages import Messages
from imserver.routing.presence import ORDER, Presence
from imserver.session.context import Context
from imserver.session.entrance import Entrance
from imserver.session.identity import Identity
from imserver.session.keepalive import TimerWheel
from imserver.session.registry import Registry
from imserver.session.session import Session
from imserver.store.calls import Bounds, Right
from imserver.store.embedded import temporary_store
from imserver.store.leases import describe_node
from imserver.store.shards import find_shards
from imserver.store.store import Store
from imserver.store.store_roles import StoreOptions
from imserver.wire.connection import Connection
from imserver.wire.reactor import Reactor

ADD = SWITCHES[Event.ADD]
_BATCH = 40  # then the clients' ends are emptied


class Bench:
    """One worker with the user `me` and those of its contacts who are online."""

    def __init__(self, url: str, nursery: trio.Nursery) -> None:
        self.reactor = Reactor(Counters())
        self.store = Store(
            find_shards(url),
            info=describe_node("bench", 0),
            options=StoreOptions(Bounds(1000, 1000, 1000), 10, 2, 600, 10**6),
            reactor=self.reactor,
            counters=Counters(),
            spawn=nursery.start_soon,
            on_dead=lambda: None,
        )
        self.context = Context(
            settings=Settings(),
            counters=Counters(),
            clock=self.reactor,
            store=self.store,
            registry=Registry(),
            wheel=TimerWheel(0),
            spawn=nursery.start_soon,
            limits=Limits(1e9, 1e9),
            random=lambda: 0.5,
            entrance=Entrance(Settings(), Counters(), self.reactor, nursery.start_soon, lambda: 0.5),
        )
        self.context.attendance = self.presence = Presence(self.context)
        self.context.marking = marks = Marks(self.context)
        self.store.listen(Messages(self.context), self.presence)
        self.store.conversations.listen(marks)
        self.clients: list[socket.socket] = []

    async def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.reactor.run)
        self.store.start()
        await self.store.wait_up()
        await self.store.take_leases()

    async def befriend(self, user: UserId, contacts: list[UserId]) -> None:
        await self.store.accounts.register(user, "hash")
        for contact in contacts:
            await self.store.accounts.register(contact, "hash")
            for one, other in ((user, contact), (contact, user)):
                await self.store.circle.relate(one, other, str(ADD), 1)
                await self.store.circle.relate(other, one, str(ADD.mirrored()), 1)

    async def connect(self, user: UserId) -> Session:
        server, client = socket.socketpair()
        for end in (server, client):
            end.setblocking(False)
        connection = Connection(server, LineFraming(65536), self.context, self.reactor, host=None)
        self.reactor.add(server.fileno(), connection)
        self.clients.append(client)
        session = connection._session
        session.enter()
        place = session.new_place(DeviceId("d"))
        attached = await self.store.attach(user, DeviceId("d"), place, Right("0.0"))
        session.welcome(Identity(user, DeviceId("d"), Place(place), "0.0"), START, attached.last, new_device=True)
        assert session.tail is not None
        session.tail.begin()
        return session

    def heard(self) -> int:
        """Frames of presence that have come to the clients."""
        return sum(_received(client).count(b'"ev":"presence"') for client in self.clients)


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(1 << 20)
    except BlockingIOError:
        return b""


class Cost:
    """CPU seconds of this process and of Redis."""

    def __init__(self, server: Any) -> None:
        self._server, self.worker, self.redis = server, 0.0, 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        before = time.process_time(), self._redis_seconds()
        yield
        self.worker += time.process_time() - before[0]
        self.redis += self._redis_seconds() - before[1]

    def _redis_seconds(self) -> float:
        """Looking costs some 20 microseconds, so it is done for many changes at once."""
        info = self._server.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    def shown(self, count: int) -> str:
        worker, store = self.worker / count * 1e6, self.redis / count * 1e6
        return f"worker {worker:5.0f}  redis {store:5.0f}  together {worker + store:5.0f} us"


async def change(bench: Bench, session: Session, cost: Cost, changes: int, online: int) -> None:
    shows = ("away", "busy")
    for start in range(0, changes, _BATCH):
        with cost.measured():
            for number in range(start, start + _BATCH):
                await bench.presence.show(session, SetPresence(show=shows[number % 2]))  # type: ignore[arg-type]
        heard = bench.heard()
        assert heard == _BATCH * online, f"{heard} frames heard, not {_BATCH * online}"


async def greet(bench: Bench, session: Session, cost: Cost, logins: int, online: int) -> None:
    for _start in range(0, logins, _BATCH):
        with cost.measured():
            for _ in range(_BATCH):
                settled = await bench.store.circle.settle(session.user, ORDER)
                assert settled is not None
                await bench.presence._greet(session, settled)
                await trio.lowlevel.checkpoint()
        heard = bench.heard()
        assert heard == _BATCH * online, f"{heard} frames heard, not {_BATCH * online}"


async def measure(url: str, options: argparse.Namespace) -> None:
    me, contacts = UserId("me"), [UserId(f"contact{number}") for number in range(options.contacts)]
    async with trio.open_nursery() as nursery:
        bench = Bench(url, nursery)
        await bench.start(nursery)
        await bench.befriend(me, contacts)
        session = await bench.connect(me)
        for contact in contacts[: options.online]:
            await bench.connect(contact)
        await trio.sleep(0.5)
        bench.heard()
        gc.freeze()  # as a worker does it
        gc.set_threshold(50_000, 20, 100)
        with redis.Redis.from_url(url) as server:
            for what, work in (("a status change", change), ("presence at a login", greet)):
                await work(bench, session, Cost(server), _BATCH, options.online)  # warm
                cost = Cost(server)
                await work(bench, session, cost, options.changes, options.online)
                print(f"{what:20} {cost.shown(options.changes)}")
        nursery.cancel_scope.cancel()
    for link in bench.store.links:
        link.drop("the benchmark is over")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contacts", type=int, default=200)
    parser.add_argument("--online", type=int, default=40)
    parser.add_argument("--changes", type=int, default=400)
    options = parser.parse_args()
    observe_log.configure("warning")
    with tempfile.TemporaryDirectory() as directory, temporary_store(Settings(data=directory)) as url:
        trio.run(measure, url, options)


if __name__ == "__main__":
    main()
