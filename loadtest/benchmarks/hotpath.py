"""What one message costs a worker in Python alone: no kernel, no store, no client.

    python loadtest/benchmarks/hotpath.py [--profile]

Real connections, sessions, routing, codec and Redis link; the sockets only hand over and swallow bytes, and the store's
answers are ready-made. Prints microseconds per delivered message (best of several runs) and, since machines differ, the
same in units of a fixed piece of Python (a `calibration` loop of 1,000 additions to a list).
"""

import argparse
import cProfile
import itertools
import pstats
import time
from collections.abc import Sequence
from typing import Any

from wsproto.connection import Connection as WebSocket
from wsproto.connection import ConnectionType
from wsproto.events import TextMessage

from imserver.config import Settings
from imserver.model import START, DeviceId, Place, UserId
from imserver.observe import log as observe_log
from imserver.observe.metrics import Counters
from imserver.protocol import commands
from imserver.protocol.framing import LineFraming, WebSocketFraming
from imserver.protocol.limits import Limits
from imserver.routing.messages import Messages
from imserver.routing.presence import Presence
from imserver.session.context import Context
from imserver.session.entrance import Entrance
from imserver.session.identity import Identity
from imserver.session.keepalive import TimerWheel
from imserver.session.registry import Registry
from imserver.session.session import Session
from imserver.store import trimming
from imserver.store.calls import Bounds
from imserver.store.leases import describe_node
from imserver.store.partitions import PARTITIONS
from imserver.store.shards import Shard
from imserver.store.store import Store
from imserver.store.store_roles import StoreOptions
from imserver.wire.connection import Connection
from imserver.wire.reactor import Reactor

PAIRS = 200
BODY = "x" * 74


class FakeSocket:
    """Swallows what is sent, and gives what a client would have sent."""

    numbers = itertools.count(100_000)

    def __init__(self) -> None:
        self.incoming = b""
        self.number = next(self.numbers)

    def fileno(self) -> int:
        return self.number

    def recv(self, size: int) -> bytes:
        data, self.incoming = self.incoming[:size], self.incoming[size:]
        return data

    def send(self, data: bytes) -> int:
        return len(data)


class FakePoller:
    """Says that whatever the benchmark set is ready."""

    def __init__(self) -> None:
        self.ready: list[tuple[int, int]] = []

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        return self.ready

    def register(self, fd: int, events: int) -> None: ...
    def modify(self, fd: int, events: int) -> None: ...


class FakeShard(FakeSocket):
    """Keeps the calls of a turn; `work` makes ready what Redis would answer and publish: outside of what is timed."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_700_000_000_000
        self.last: dict[bytes, bytes] = {}
        self.calls = b""

    def send(self, data: bytes) -> int:
        self.calls += data  # in pieces, where it is much
        return len(data)

    def work(self) -> None:
        answers = []
        calls, self.calls = self.calls, b""
        for call in calls.split(b"\r\nim_append_both_2\r\n")[1:]:
            fields = call.split(b"\r\n")
            to, own, content = (fields[index] for index in (3, 7, 13))
            at, prev = self._append(to)
            message = b"e %b %b %b - %b" % (to.partition(b":")[2], at, prev, content)
            answers.append(b">3\r\n$8\r\nsmessage\r\n$5\r\nx:xyz\r\n$%d\r\n%b\r\n" % (len(message), message))
            at, prev = self._append(own)
            answers.append(b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(at), at, len(prev), prev))
        self.incoming = b"".join(answers)

    def _append(self, state: bytes) -> tuple[bytes, bytes]:
        self.time += 1
        at, prev = b"%d-0" % self.time, self.last.get(state, b"0-0")
        self.last[state] = at
        return at, prev


class Nobody:
    """Nobody has contacts, and nobody asks: among the ready-made answers there are none for it."""

    def came(self, session: Session) -> None: ...
    def went(self, user: UserId, place: Place, *, said_so: bool) -> None: ...


class Bench:
    def __init__(self, *, websocket: bool) -> None:
        trimming._EVERY = 10**9  # no trims among the ready-made answers
        settings = Settings()
        self.counters = Counters()
        self.reactor = Reactor(self.counters)
        self.poller = self.reactor._poller = FakePoller()  # type: ignore[assignment]
        store = Store(
            # "disk": its ready-made answers need no proof.
            [Shard("unix:///none", list(range(PARTITIONS)), clustered=False, durability="disk")],
            info=describe_node("bench", 0),
            options=StoreOptions(Bounds(1000, 1000, 1000), 10, 2, 20, 10**9),
            reactor=self.reactor,
            counters=self.counters,
            spawn=lambda *_: None,
            on_dead=lambda: None,
        )
        self.context = Context(
            settings=settings,
            counters=self.counters,
            clock=self.reactor,
            store=store,
            registry=Registry(),
            wheel=TimerWheel(0),
            spawn=lambda *_: None,
            limits=Limits(1e9, 1e9),
            random=lambda: 0.5,
            entrance=Entrance(settings, self.counters, self.reactor, lambda *_: None, lambda: 0.5),
        )
        messages = Messages(self.context)
        self.context.attendance = Nobody()
        store.listen(messages, Presence(self.context))
        self.context.handlers[commands.Send] = messages.send
        self.link = store.links[0]
        self.shard = FakeShard()
        self.link._sock = self.shard  # type: ignore[assignment]
        self.link.up = True
        self.reactor._handlers[self.shard.number] = self.link
        self.websocket = websocket
        self.sockets = [self._connect(number) for number in range(2 * PAIRS)]

    def _connect(self, number: int) -> FakeSocket:
        sock = FakeSocket()
        limit = self.context.settings.max_frame_bytes
        framing: Any = WebSocketFraming(limit, ConnectionType.SERVER) if self.websocket else LineFraming(limit)
        connection = Connection(sock, framing, self.context, self.reactor, host=None)  # type: ignore[arg-type]
        self.reactor._handlers[sock.number] = connection
        session = connection._session
        session.enter()
        identity = Identity(UserId(f"user{number}"), DeviceId("d"), Place(b"d=bench.%x" % number), "0.0")
        session.welcome(identity, START, START, new_device=True)
        assert session.tail is not None
        session.tail._page = 128
        session.tail._on_page([])
        return sock

    def _frame(self, number: int, sequence: int) -> bytes:
        frame = b'{"op":"send","ref":%d,"id":"c%09d","to":"user%d","body":"%b"}' % (
            sequence,
            sequence,
            number ^ 1,
            BODY.encode(),
        )
        if not self.websocket:
            return frame + b"\n"
        return WebSocket(ConnectionType.CLIENT).send(TextMessage(data=frame.decode()))

    def prepare(self, sequence: int) -> None:
        for number, sock in enumerate(self.sockets):
            sock.incoming = self._frame(number, sequence)

    def round(self) -> float:
        """Every session sends one message: read, append, push, reply. Returns the seconds of the worker's part."""
        spent = self._turn(self.sockets)
        self.shard.work()
        while self.shard.incoming:
            spent += self._turn([self.shard])
        return spent

    def _turn(self, ready: Sequence[FakeSocket]) -> float:
        self.poller.ready = [(sock.number, 1) for sock in ready]
        before = time.perf_counter()
        self.reactor.turn()
        return time.perf_counter() - before


def measure(bench: Bench, rounds: int = 60) -> float:
    """Microseconds per delivery, the best round of many."""
    best = float("inf")
    for sequence in range(rounds):
        bench.prepare(sequence)
        best = min(best, bench.round())
    assert bench.counters.messages_out == rounds * len(bench.sockets)
    return best / len(bench.sockets) * 1e6


def calibrate() -> float:
    """Microseconds of a fixed piece of Python."""
    best = float("inf")
    for _ in range(200):
        before = time.perf_counter()
        numbers: list[int] = []
        for number in range(1000):
            numbers.append(number + 1)
        best = min(best, time.perf_counter() - before)
    return best * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    observe_log.configure("warning")
    parser.add_argument("--profile", action="store_true", help="where the time goes, by function")
    arguments = parser.parse_args()
    unit = calibrate()
    print(f"calibration loop: {unit:.1f} us")
    for name, websocket in (("tcp", False), ("websocket", True)):
        bench = Bench(websocket=websocket)
        cost = measure(bench)
        print(f"{name:10} {cost:6.1f} us per delivery, {cost / unit:.2f} of the calibration loop")
        if arguments.profile:
            profile = cProfile.Profile()
            for sequence in range(40, 60):
                bench.prepare(sequence)
                profile.runcall(bench.round)
            pstats.Stats(profile).sort_stats("tottime").print_stats(70)


if __name__ == "__main__":
    main()
