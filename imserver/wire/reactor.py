"""All of a worker's sockets behind one descriptor inside trio.

One task waits until the poller is readable, takes a batch of ready sockets and calls plain functions, which read,
decide and queue. At the end of the batch everything queued is written: one write for each shard, one for each touched
client. While more is ready a few more turns follow. A task for each connection was rejected: it costs four times the
CPU and twenty times the memory.

Those who have not logged in yet stand outside: behind a poller of their own, of which a bounded number has its turn
beside everybody inside. Thousands who come at once would else have their turns before each message, and before each
answer of the store.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from imserver.observe.log import get_logger
from imserver.observe.metrics import Counters
from imserver.store.redis_link import RedisLink
from imserver.wire.poller import READ, WRITE, Poller, new_poller

log = get_logger("reactor")

BATCH_SOCKETS = 512
OUTSIDE_SOCKETS = 64  # of a batch; a few milliseconds
# Turns in a row while there is something to do, before other tasks have theirs. A busy worker finds the next sockets
# ready already, and to wait for them through trio costs as much as a message.
TURNS_IN_A_ROW = 8


# It goes on while the machine is suspended, as leases do; on Linux CLOCK_MONOTONIC, which is Python's choice, does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds, never going back."""
    return time.clock_gettime(_CLOCK)


class Handler(Protocol):
    """Whoever has a socket in the reactor."""

    def on_readable(self) -> None: ...
    def on_writable(self) -> None: ...
    def drop(self, why: str) -> None:
        """Its handling of an event failed, by a bug: it goes on without what it was about, or closes."""


class Flushable(Protocol):
    def flush(self) -> None: ...


def _nobody_to_tell() -> None: ...


def _events(read: bool, write: bool) -> int:
    return (READ if read else 0) | (WRITE if write else 0)


class _Outside:
    """The poller of those outside, itself a socket of the reactor: readable while one of them is."""

    def __init__(self, reactor: "Reactor", poller: Poller) -> None:
        self._reactor, self._poller = reactor, poller

    def on_readable(self) -> None:
        self._reactor.dispatch(self._poller.poll(0, OUTSIDE_SOCKETS))

    def on_writable(self) -> None:
        """Never asked for."""

    def drop(self, why: str) -> None:
        """Each of its sockets is dropped by itself."""


class Reactor:
    """`now` is the time (seconds, by `clock`) at which the current turn began."""

    def __init__(self, counters: Counters) -> None:
        self.now = clock()
        self._longest_stop, self._on_stopped = float("inf"), _nobody_to_tell
        self._counters = counters
        self._poller, self._outer = new_poller(), new_poller()
        self._outside: set[int] = set()
        self._handlers: dict[int, Handler] = {}
        self._links: dict[RedisLink, None] = {}  # touched in this turn, in this order
        self._clients: dict[Flushable, None] = {}
        self._in_turn = False
        self.add(self._outer.fileno(), _Outside(self, self._outer))

    def watch_for_stops(self, longest_stop: float, on_stopped: Callable[[], None]) -> None:
        """`on_stopped` is told that nothing was done for `longest_stop` seconds: the process was stopped, or starved.

        Before anything that came meanwhile is read, and before what was read before is passed on. There MUST
        be a turn more often than that.
        """
        self._move_clock()
        self._longest_stop, self._on_stopped = longest_stop, on_stopped

    # -- sockets

    def add(self, fd: int, handler: Handler, extra: int = 0, *, outside: bool = False) -> None:
        """`handler` is called whenever `fd` is readable. `outside`: until `admit`, with those who are outside."""
        self._handlers[fd] = handler
        if outside:
            self._outside.add(fd)
        self._poller_of(fd).register(fd, READ | extra)

    def admit(self, fd: int, *, read: bool, write: bool) -> None:
        """It has logged in; `read` and `write` as in `want`."""
        if fd in self._outside:
            self._outer.unregister(fd)
            self._outside.remove(fd)
            self._poller.register(fd, _events(read, write))

    def _poller_of(self, fd: int) -> Poller:
        return self._outer if fd in self._outside else self._poller

    def replace(self, fd: int, handler: Handler) -> None:
        self._handlers[fd] = handler

    def want(self, fd: int, *, read: bool, write: bool) -> None:
        self._poller_of(fd).modify(fd, _events(read, write))

    def remove(self, fd: int) -> None:
        """MUST be called before the socket is closed."""
        del self._handlers[fd]
        self._poller_of(fd).unregister(fd)
        self._outside.discard(fd)

    @property
    def sockets(self) -> int:
        return len(self._handlers) - 1  # the poller of those outside is none

    def close(self) -> None:
        """The pollers; all sockets MUST have been removed."""
        self._poller.close()
        self._outer.close()

    # -- flushing

    def touch_link(self, link: RedisLink) -> None:
        """The link has something to write: at the end of this turn, or, outside of one (a task calls), now."""
        if self._in_turn:
            self._links[link] = None
        else:
            self._look_at_clock()
            link.flush()

    def touch(self, client: Flushable) -> None:
        """The same for a client."""
        if self._in_turn:
            self._clients[client] = None
        else:
            self._look_at_clock()
            client.flush()

    # -- turning

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._poller.fileno())
            for _ in range(TURNS_IN_A_ROW):
                if not self.turn():
                    break

    def turn(self) -> int:
        """One batch; returns of how many sockets."""
        ready = self._poller.poll(0, BATCH_SOCKETS)
        if not ready:
            return 0
        self._move_clock()
        self._counters.batches += 1
        self._counters.batch_size.observe(len(ready))
        self._in_turn = True
        self.dispatch(ready)
        self._in_turn = False
        self._flush()
        return len(ready)

    def dispatch(self, ready: list[tuple[int, int]]) -> None:
        """An error in one handler is a bug and costs that one connection, nobody else's."""
        self._counters.batch_sockets += len(ready)
        handlers = self._handlers
        for fd, events in ready:
            handler = handlers.get(fd)
            if handler is None:
                continue  # closed earlier in this batch
            try:
                if events & ~WRITE:
                    handler.on_readable()
                if events & WRITE and handlers.get(fd) is handler:
                    handler.on_writable()
            except Exception:
                log.exception("a handler failed")
                if handlers.get(fd) is handler:
                    handler.drop("an error in the server")

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A turn of the caller's own: what is queued inside is flushed once, at its end."""
        self._move_clock()
        self._in_turn = True
        try:
            yield
        finally:
            self._in_turn = False
            self._flush()

    def _move_clock(self) -> None:
        before, self.now = self.now, clock()
        if self.now - before > self._longest_stop:
            self._on_stopped()

    def _look_at_clock(self) -> None:
        """Before anything is written."""
        if clock() - self.now > self._longest_stop:
            self._on_stopped()

    def _flush(self) -> None:
        """The shards first: they work while clients are written to. Flushing may touch again: until nothing is left."""
        self._look_at_clock()
        while self._links or self._clients:
            links, self._links = self._links, {}
            for link in links:
                link.flush()
            clients, self._clients = self._clients, {}
            self._counters.client_writes += len(clients)
            for client in clients:
                client.flush()
