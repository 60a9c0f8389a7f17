"""A worker put together as `imserver.worker` does, on the model store and on sockets in memory."""

import time
from functools import cache
from random import Random
from typing import cast

from wsproto import ConnectionType

from imserver.config import Settings
from imserver.model import DeviceId, UserId
from imserver.observe.metrics import Counters
from imserver.protocol.framing import Framing, LineFraming, WebSocketFraming
from imserver.protocol.limits import Limits
from imserver.routing.accounts import Accounts
from imserver.routing.later import Later
from imserver.routing.marks import Marks
from imserver.routing.messages import Messages
from imserver.routing.presence import Presence
from imserver.routing.table import handlers
from imserver.security import tokens
from imserver.security.passwords import Passwords
from imserver.session.context import Context
from imserver.session.entrance import Entrance
from imserver.session.keepalive import TimerWheel
from imserver.session.registry import Registry
from imserver.store.store import Store
from imserver.wire.connection import Connection
from imserver.wire.reactor import Reactor
from tests.model_store import NodeStore, World, settle
from tests.session.memory import MemoryReactor, Wire

# The deployment's signing keys, so that tests can make tokens.
KEYS = {"k1": "5" * 64, "current": "k1"}
ELSEWHERE = "203.0.113.7"
CHEAP = {"password_memory_kib": 8, "password_rounds": 1}


@cache  # a simulation logs in all the time
def token_for(user: str, device: str, generations: str = "0.0") -> str:
    return tokens.sign(KEYS, UserId(user), DeviceId(device), int(time.time()) + 30 * 86400, generations)


class UnthreadedPasswords(Passwords):
    """Hashes where it is called: there are no threads here, and no trio."""

    async def hash(self, password: str) -> str:
        return self._hasher.hash(password)

    async def is_right(self, known_hash: str | None, password: str) -> bool:
        return self._verify(known_hash or None, password)


class ServerNode:
    """One worker. `turn` moves bytes, `store.links` and `store.tasks` move the rest."""

    def __init__(self, world: World, name: str, **settings: object) -> None:
        chosen: dict[str, object] = {"registration": "open", **CHEAP, **settings}
        self.settings = Settings(**chosen)  # type: ignore[arg-type]
        self.reactor = MemoryReactor()
        self.counters = Counters()
        self.store: NodeStore = world.add_node(name)
        world.database.keys = dict(KEYS)
        chance = Random(0).random
        self.context = Context(
            settings=self.settings,
            counters=self.counters,
            clock=self.reactor,
            store=cast(Store, self.store),
            registry=Registry(),
            wheel=TimerWheel(self.reactor.now),
            spawn=self.store.tasks.spawn,
            limits=Limits(self.settings.rate_per_second, self.settings.rate_burst),
            random=chance,
            wall=lambda: world.database.milliseconds / 1000,
            entrance=Entrance(self.settings, self.counters, self.reactor, self.store.tasks.spawn, chance),
        )
        self.accounts = Accounts(self.context, UnthreadedPasswords(memory_kib=8, rounds=1, threads=1))
        self.messages = Messages(self.context)
        self.context.attendance = self.presence = Presence(self.context)
        self.context.marking = self.marks = Marks(self.context)
        self.later = Later(self.context)
        parts = (self.accounts, self.messages, self.presence, self.marks, self.later)
        self.context.handlers.update(handlers(self.context, *parts))
        self.store.listen(self.messages, self.presence)
        self.store.conversations.listen(self.marks)
        self.store.tasks.spawn(self.accounts.load_keys)
        settle([self.store])

    def open(self, *, websocket: bool = False, capacity: int = 1 << 20, is_local: bool = True) -> Wire:
        """A client connects; over WebSocket the handshake is done."""
        most = self.settings.max_frame_bytes
        framing: Framing = WebSocketFraming(most, ConnectionType.SERVER) if websocket else LineFraming(most)
        wire = self.reactor.wire(capacity)
        connection = Connection(
            wire.server,  # type: ignore[arg-type]
            framing,
            self.context,
            cast(Reactor, self.reactor),
            host=None if is_local else ELSEWHERE,
        )
        self.reactor.add(wire.server.fileno(), connection)
        return wire

    def turn(self) -> bool:
        return self.reactor.turn()

    def deliver(self, link: int) -> bool:
        """The next reply or push of one link arrives, in a turn of its own."""
        with self.reactor.batch():
            return self.store.links[link].deliver()

    def pass_time(self, seconds: float) -> None:
        """As the worker does it once a second."""
        end = self.reactor.now + seconds
        while self.reactor.now < end:
            self.reactor.now = min(self.reactor.now + 1.0, end)
            with self.reactor.batch():
                self.context.wheel.sweep(self.reactor.now)
                self._store_cursors()
                self.presence.tick(self.reactor.now)
                self.marks.tick()
                self.later.tick()

    def _store_cursors(self) -> None:
        dirty, self.context.cursors = self.context.cursors, {}
        for session in dirty:
            session.store_acked()

    def settle(self) -> None:
        """Everything that can move by itself does."""
        while self.move():
            pass

    def move(self) -> bool:
        """All that is ready now moves on. False: there was nothing."""
        moved = self.turn()
        for number, link in enumerate(self.store.links):
            while link.execute() or (link.back and self.deliver(number)):
                moved = True
        while self.store.tasks.run():
            moved = True
        return moved
