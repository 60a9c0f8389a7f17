"""One worker process: the only place where the parts are put together.

    python -m imserver.worker FD        FD: the control channel to the supervisor

The nursery tree:

    main
    |-- control            reads the supervisor's requests; its end is the end of this worker
    |-- serving
    |   |-- reactor        all sockets: clients, listeners, the links
    |   |-- link (each shard)   connects, and connects again
    |   |-- watch          of a cluster: who holds what now
    |   |-- every_second   time-outs, probes, leases, what is due
    |   |-- store_cursors  what was acknowledged, some at a time
    |   |-- watch_lag      how late tasks have their turn
    |   `-- rare commands  one short-lived task each
    `-- drain              once asked to: no new clients, finish, say bye, then cancel `serving`
"""

import gc
import os
import socket
import sys
import time
from functools import partial
from ipaddress import ip_network
from itertools import islice
from math import ceil
from random import random
from typing import Any

import msgspec
import trio
from wsproto import ConnectionType

from imserver.config import Settings
from imserver.descriptors import sessions_per_worker
from imserver.errors import ImError, SetupError
from imserver.observe import log as observe_log
from imserver.observe.metrics import Counters, Statistics
from imserver.protocol.framing import LineFraming, WebSocketFraming
from imserver.protocol.limits import Limits
from imserver.protocol.overload import lag_of, level_of
from imserver.routing.accounts import Accounts
from imserver.routing.later import Later
from imserver.routing.marks import Marks
from imserver.routing.messages import Messages
from imserver.routing.presence import Presence
from imserver.routing.table import handlers
from imserver.security.passwords import Passwords
from imserver.session.context import Context
from imserver.session.entrance import Entrance
from imserver.session.keepalive import TimerWheel
from imserver.session.registry import Registry
from imserver.store.calls import Bounds
from imserver.store.durability import hold_to
from imserver.store.leases import describe_node, new_node_id
from imserver.store.shards import find_shards
from imserver.store.store import Store
from imserver.store.store_roles import StoreOptions
from imserver.wire.connection import Connection
from imserver.wire.http import HttpConnection
from imserver.wire.listener import Listener, is_loopback
from imserver.wire.reactor import Reactor, clock
from imserver.wire.site import Site, web_folder
from imserver.worker_control import Control, Start

log = observe_log.get_logger("worker")

KEYS_SECONDS = 30.0  # how often rotated signing keys are looked for
FIRST_READY_SECONDS = 30.0
LAG_SECONDS = 0.25  # how often the lag of the turns is looked at
CURSOR_ROUNDS = 20  # a second: so many parts of what is acknowledged in it
# After more, leases are looked at before anything is read. Less is no danger: renewals are at most a second older, and
# no lease is shorter than 4 seconds, of which the store keeps 3.
LONGEST_STOP_SECONDS = 1.5
EXIT_DEAD = 3


def end_at_once() -> None:
    """Other nodes take this one for dead, or may do so: nothing that it still has to say may reach anybody.

    Clients have come in elsewhere, or do so now; the supervisor starts another process.
    """
    log.error("this worker was stopped, or cut off, for longer than its lease: it ends")
    os._exit(EXIT_DEAD)


def _told_of(host: str) -> str | None:
    """What a session is told of its client's address."""
    return None if is_loopback(host) else host


class Worker:
    """Everything one process consists of."""

    def __init__(self, settings: Settings, redis_url: str, number: int) -> None:
        self.settings = settings
        self.number = number
        self.counters = Counters()
        self.reactor = Reactor(self.counters)
        self.store = Store(
            hold_to(find_shards(redis_url), settings.durability, warn=number == 0),
            info=describe_node(new_node_id(), number),
            options=StoreOptions(
                bounds=Bounds(settings.log_max_entries, settings.log_max_age_seconds, settings.dedupe_seconds),
                timeout_seconds=settings.store_timeout_seconds,
                probe_seconds=settings.probe_seconds,
                lease_seconds=settings.lease_seconds,
                most_calls=settings.store_in_flight,
            ),
            reactor=self.reactor,
            counters=self.counters,
            spawn=self._spawn,
            on_dead=end_at_once,
        )
        self.context = Context(
            settings=settings,
            counters=self.counters,
            clock=self.reactor,
            store=self.store,
            registry=Registry(),
            wheel=TimerWheel(self.reactor.now),
            spawn=self._spawn,
            limits=Limits(settings.rate_per_second, settings.rate_burst),
            random=random,
            entrance=Entrance(settings, self.counters, self.reactor, self._spawn, random),
        )
        passwords = Passwords(
            memory_kib=settings.password_memory_kib, rounds=settings.password_rounds, threads=settings.password_threads
        )
        self.accounts = Accounts(self.context, passwords)
        self.messages = Messages(self.context)
        self.context.attendance = self.presence = Presence(self.context)
        self.context.marking = self.marks = Marks(self.context)
        self.later = Later(self.context)
        parts = (self.accounts, self.messages, self.presence, self.marks, self.later)
        self.context.handlers.update(handlers(self.context, *parts))
        self.store.listen(self.messages, self.presence)
        self.store.conversations.listen(self.marks)
        self.site = Site(web_folder(), self.why_not_ready)
        self.listeners: list[Listener] = []
        self._serving: trio.Nursery | None = None

    def _spawn(self, function: Any, *arguments: Any) -> None:
        assert self._serving is not None
        self._serving.start_soon(function, *arguments)

    # -- new clients

    def listen(self, tcp_fds: list[int], http_fds: list[int]) -> None:
        most = sessions_per_worker(self.settings)
        proxies = [ip_network(network) for network in self.settings.proxy_protocol_from]
        for fd, opener in [(fd, self._open_tcp) for fd in tcp_fds] + [(fd, self._open_http) for fd in http_fds]:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            self.listeners.append(
                Listener(
                    sock,
                    self.reactor,
                    self.context.wheel,
                    opener,
                    most_sockets=most,
                    counters=self.counters,
                    proxies=proxies,
                )
            )

    def _open_tcp(self, sock: socket.socket, host: str) -> Connection:
        framing = LineFraming(self.settings.max_frame_bytes)
        return Connection(sock, framing, self.context, self.reactor, host=_told_of(host))

    def _open_http(self, sock: socket.socket, host: str) -> HttpConnection:
        upgrade = partial(self._open_websocket, _told_of(host))
        return HttpConnection(sock, self.site, self.reactor, self.context.wheel, upgrade)

    def _open_websocket(self, host: str | None, sock: socket.socket, trailing: bytes) -> None:
        framing = WebSocketFraming(self.settings.max_frame_bytes, ConnectionType.SERVER)
        connection = Connection(sock, framing, self.context, self.reactor, host=host)
        self.reactor.replace(sock.fileno(), connection)
        if trailing:
            connection.feed(trailing)

    # -- running

    async def run(self, control: Control, start: Start) -> None:
        """Serves until drained or until the supervisor is gone."""
        async with trio.open_nursery() as nursery:
            self._serving = nursery
            nursery.start_soon(self.reactor.run)
            self.store.start()
            await self._become_ready()
            self.reactor.watch_for_stops(LONGEST_STOP_SECONDS, self._after_a_stop)
            nursery.start_soon(self._every_second)
            nursery.start_soon(self._watch_lag)
            nursery.start_soon(self._store_cursors)
            self.listen(start.tcp_fds, start.http_fds)
            for listener in self.listeners:
                listener.start()
            await control.send({"ready": {"node": self.store.node, "pid": os.getpid()}})
            # What was made so far lives as long as the process: the collector need not look at it again. And nearly
            # all garbage goes by itself, when its last reference does: looking for cycles 70 times as seldom as usual
            # saves a tenth of the CPU.
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)
            await control.serve(self)
            nursery.cancel_scope.cancel()

    async def _become_ready(self) -> None:
        """Every link is up (which includes its subscriptions), the signing keys are known. Raises SetupError."""
        try:
            with trio.fail_after(FIRST_READY_SECONDS):
                await self.store.wait_up()
                await self.accounts.load_keys()
                await self.store.take_leases()
        except (trio.TooSlowError, ImError) as error:
            raise SetupError(f"the store can't be used: {self.why_not_ready() or error}") from None

    def _after_a_stop(self) -> None:
        if self.store.may_be_dead(clock()):
            end_at_once()

    async def _every_second(self) -> None:
        next_keys = self.reactor.now
        while True:
            with self.reactor.batch():
                self.store.tick(self.reactor.now)
                self.context.wheel.sweep(self.reactor.now)
                self.presence.tick(self.reactor.now)
                self.marks.tick()
                self.later.tick()
            if self.reactor.now >= next_keys:
                next_keys = self.reactor.now + KEYS_SECONDS
                self._spawn(self._quietly, self.accounts.load_keys)
            await trio.sleep(1.0)

    async def _watch_lag(self) -> None:
        while True:
            due, spent = trio.current_time() + LAG_SECONDS, time.process_time()
            await trio.sleep_until(due)
            self.context.lag = lag_of(trio.current_time() - due, time.process_time() - spent)

    async def _quietly(self, function: Any, *arguments: Any) -> None:
        """What is done again soon anyway: readiness tells when the store is away."""
        try:
            await function(*arguments)
        except ImError as error:
            log.debug("not now", what=function.__qualname__, error=str(error))

    async def _store_cursors(self) -> None:
        """Acknowledgements of about a second together: a client may ack each message.

        The longest waiting part at a time: all of a second at once held up the messages of that moment for 10 ms. The
        part does not shrink before all are stored, or the last ones would wait for much longer than a second.
        """
        cursors, part = self.context.cursors, 0
        while True:
            part = max(part, ceil(len(cursors) / CURSOR_ROUNDS)) if cursors else 0
            with self.reactor.batch():
                for session in list(islice(cursors, part)):
                    cursors.pop(session, None)
                    session.store_acked()
            await trio.sleep(1 / CURSOR_ROUNDS if part else LAG_SECONDS)

    # -- what others ask

    def why_not_ready(self) -> str:
        return "draining" if self.context.draining else self.store.why_not_ready(clock())

    def statistics(self) -> Statistics:
        sessions = len(self.context.registry)
        websockets = sum(session.channel.is_websocket for session in self.context.registry)
        why = self.why_not_ready()
        gauges = {
            "sessions": float(sessions),
            "tcp_sessions": float(sessions - websockets),
            "websocket_sessions": float(websockets),
            "groups_followed": float(len(self.context.registry.groups())),
            "store_in_flight": float(self.store.in_flight),
            "overload_level": float(level_of(self.context.worst_strain())),
            "logins_waiting": float(self.context.entrance.waiting),
            "ready": float(not why),
        }
        return self.counters.snapshot(
            number=self.number, node=self.store.node, pid=os.getpid(), ready=not why, why=why, gauges=gauges
        )

    # -- the end

    async def drain(self, seconds: float) -> None:
        """No new clients; what is on its way is finished; everybody is told to come back elsewhere."""
        self._stop_listening()
        self._send_newcomers_elsewhere()
        with trio.move_on_after(seconds):
            for session in self.context.registry:
                session.hold()
            while any(session.sending for session in self.context.registry):  # noqa: ASYNC110
                await trio.sleep(0.01)  # once in a worker's life; an event would cost every send
        await self._say_bye("drain", "this server is being replaced", spread=seconds / 2)

    async def _say_bye(self, code: str, text: str, spread: float) -> None:
        """Tells the sessions to come back over `spread` seconds, and waits until the directory knows that they left."""
        self._send_newcomers_elsewhere()  # WebSockets that have been opened meanwhile
        sessions = list(self.context.registry)
        step = spread / max(1, len(sessions))
        with self.reactor.batch():
            for index, session in enumerate(sessions):
                session.expel(code, text, reconnect=True, after=round(index * step, 3))
        with trio.move_on_after(5.0):
            while self.store.in_flight or self.context.entering:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await self.store.leave(self.presence.owing_seconds)
        with trio.move_on_after(1.0):
            while self.reactor.sockets > sum(link.sockets for link in self.store.links):  # noqa: ASYNC110
                await trio.sleep(0.01)  # until the clients have seen the end, or they would miss the last replies

    def _send_newcomers_elsewhere(self) -> None:
        """They were accepted here a moment ago, and have not logged in."""
        with self.reactor.batch():
            for session in list(self.context.newcomers):
                session.send_elsewhere()

    def _stop_listening(self) -> None:
        self.context.draining = True
        for listener in self.listeners:
            listener.stop()

    async def abandon(self) -> None:
        """The supervisor is gone: nobody would start this worker again, and the store is about to stop."""
        self._stop_listening()
        await self._say_bye("shutdown", "the server stops", spread=5.0)


async def serve(fd: int) -> None:
    control = Control(socket.socket(fileno=fd))
    line = await control.receive()
    if line is None:
        return
    start = msgspec.json.decode(line, type=Start)
    observe_log.configure(start.settings.log_level, worker=start.number)
    await Worker(start.settings, start.redis, start.number).run(control, start)


def main() -> None:
    try:
        trio.run(serve, int(sys.argv[1]))
    except* SetupError as group:
        for error in group.exceptions:
            print(f"imserver: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
