"""The replica's connections, one after the other, over anyio: reads, writes, comes back.

Courier.run            one connection after the other, until the session has ended
`-- Exchange.run       one connection
    |-- _read          frames to the replica, until it says that the connection is over, or silence does
    `-- _write         what the replica has to say, whenever it has something
"""

from collections.abc import Awaitable, Callable, Sequence
from math import inf

import anyio

from imclient.backoff import Backoff
from imclient.core import Replica
from imclient.errors import ConnectionLost
from imclient.events import Disconnected, Ended, Event, Reconnect
from imclient.stages import State
from imclient.wire import Wire
from imserver.errors import ImError

LEAVE_SECONDS = 2.0
GOODBYE_SECONDS = 1.0  # for the server to close first

Tell = Callable[[Sequence[Event | Disconnected]], None]

_PARTED = Ended(ConnectionLost("the client was closed"))


class Exchange:
    """One connection, from login to loss."""

    def __init__(self, wire: Wire, replica: Replica, tell: Tell) -> None:
        self._wire = wire
        self._replica = replica
        self._tell = tell
        self._scope = anyio.CancelScope()
        self._awake = anyio.Event()
        self._outcome: Reconnect | Ended = Reconnect("the connection was left")

    async def run(self) -> Reconnect | Ended:
        self._replica.connected(anyio.current_time())
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._guarded, self._read)
                tasks.start_soon(self._guarded, self._write)
        return self._outcome

    def wake(self) -> None:
        """The replica may have something to say."""
        self._awake.set()

    def end(self, outcome: Reconnect | Ended) -> None:
        if not self._scope.cancel_called:
            self._outcome = outcome
            self._scope.cancel()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except ConnectionLost as lost:
            self.end(_PARTED if self._replica.state is State.ENDED else Reconnect(str(lost)))

    async def _read(self) -> None:
        while True:
            frames = await self._receive()
            self._replica.heard(anyio.current_time())
            for frame in frames:
                self._told(self._replica.receive(frame, anyio.current_time()))
            self.wake()

    async def _receive(self) -> list[bytes]:
        with anyio.CancelScope(deadline=self._replica.dead_at()):
            return await self._wire.receive()
        raise ConnectionLost("nothing was heard from the server any more")

    def _told(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Reconnect | Ended):
                self.end(event)
            else:
                self._tell([event])

    async def _write(self) -> None:
        while True:
            frames = self._replica.take_frames(anyio.current_time())
            if frames or self._wire.has_replies:
                await self._wire.send(frames)
            elif self._replica.state is State.ENDED:
                return await self._part()
            else:
                await self._sleep_until_due()

    async def _part(self) -> None:
        """The last words are sent; the server closes when it has read them.

        To close while something of the server's is unread resets the connection, which may take back what was said:
        where `logout` is lost the server waits for the client to come back, and does not tell contacts.
        """
        with anyio.move_on_after(GOODBYE_SECONDS):
            await anyio.sleep_forever()  # until the reader sees the end
        self.end(_PARTED)

    async def _sleep_until_due(self) -> None:
        due = self._replica.next_due()
        with anyio.CancelScope(deadline=inf if due is None else due):
            await self._awake.wait()
        self._awake = anyio.Event()


class Courier:
    def __init__(
        self, replica: Replica, open_wire: Callable[[], Awaitable[Wire]], backoff: Backoff, tell: Tell
    ) -> None:
        """`open_wire` raises ConnectionLost. `tell` hears `Disconnected` instead of `Reconnect`."""
        self._replica = replica
        self._open_wire = open_wire
        self._backoff = backoff
        self._tell = tell
        self._exchange: Exchange | None = None
        self._idle = anyio.Event()  # there is no exchange
        self._idle.set()

    async def run(self) -> None:
        """Returns when the session has ended; the last thing told is `Ended`."""
        while True:
            outcome = await self._converse()
            if isinstance(outcome, Ended) or not self._comes_back(outcome):
                break
            delay = self._backoff.next_delay(outcome.after)
            self._tell([Disconnected(outcome.why, delay, outcome.bye)])
            await anyio.sleep(delay)
        self._tell([Ended(_error_of(outcome))])

    def _comes_back(self, outcome: Reconnect) -> bool:
        """Who has never been in gets the error at once, unless the server itself asks for patience."""
        return self._replica.has_entered or outcome.after is not None

    async def _converse(self) -> Reconnect | Ended:
        try:
            wire = await self._open_wire()
        except ConnectionLost as lost:
            return Reconnect(str(lost))
        self._exchange = exchange = Exchange(wire, self._replica, self._tell)
        self._idle = anyio.Event()
        outcome: Reconnect | Ended = Reconnect("the connection was left")
        try:
            outcome = await exchange.run()
        finally:
            self._exchange = None
            self._idle.set()
            self._tell(self._replica.disconnected(_error_of(outcome)))
            await wire.aclose()
        return outcome

    def synced(self) -> None:
        """The connection has proven itself."""
        self._backoff.reset()

    def wake(self) -> None:
        """The replica may have something to say."""
        if self._exchange is not None:
            self._exchange.wake()

    def obey(self, events: Sequence[Event]) -> None:
        """What the replica answered when it was told something."""
        for event in events:
            if isinstance(event, Reconnect | Ended) and self._exchange is not None:
                self._exchange.end(event)

    async def leave(self) -> None:
        """Says the last words, for at most 2 s. `run` is to be cancelled after that."""
        self._replica.leave()
        self.wake()
        with anyio.move_on_after(LEAVE_SECONDS, shield=True):
            await self._idle.wait()


def _error_of(outcome: Reconnect | Ended) -> ImError:
    return outcome.error if isinstance(outcome, Ended) else ConnectionLost(outcome.why)
