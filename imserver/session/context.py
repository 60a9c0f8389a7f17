"""What all sessions of a worker share. Put together in `worker` and nowhere else."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from imserver.config import Settings
from imserver.errors import ImError
from imserver.model import Entry, Place, Position, UserId
from imserver.observe.metrics import Counters
from imserver.protocol.commands import Command, Ref
from imserver.protocol.limits import Limits
from imserver.protocol.overload import Strain, level_of
from imserver.protocol.pushes import Push, Shared
from imserver.session.entrance import Entrance
from imserver.session.keepalive import TimerWheel
from imserver.session.registry import Registry
from imserver.store.redis_link import RedisLink
from imserver.store.store import Store

if TYPE_CHECKING:
    from imserver.session.session import Session


class Clock(Protocol):
    now: float  # seconds, monotonic; advanced once per turn


class Channel(Protocol):
    """The way to one client, whatever it is made of. Nothing here waits: what can't be sent yet is kept."""

    out_bytes: int  # kept for a client that has not taken it yet
    host: str | None  # the client's address until it has logged in; empty: unknown; None: on this machine

    @property
    def is_websocket(self) -> bool: ...

    @property
    def is_blocked(self) -> bool:
        """The client's socket takes nothing for now: `on_drained` follows, when it has taken all that is kept."""

    def reply(self, ref: Ref, content: msgspec.Struct) -> None: ...
    def fail(self, ref: Ref, error: ImError) -> None: ...
    def push(self, push: Push) -> None: ...
    def share(self, shared: Shared) -> None: ...
    def forward(self, entry: Entry) -> None: ...
    def keepalive(self) -> None: ...
    def pause(self) -> None:
        """Stops taking commands, which wait in the client's and the kernel's buffers."""

    def resume(self) -> None: ...
    def admitted(self) -> None:
        """The client has logged in: it is one of those who are inside."""

    def stuck_seconds(self, now: float) -> float:
        """For how long the client has taken nothing of what is kept for it."""

    def drop(self, why: str) -> None:
        """Ends the connection at once."""

    def close(self) -> None:
        """Sends what it can of what is kept, then closes."""


class Attendance(Protocol):
    """Who is told that users come and go (`routing.presence`)."""

    def came(self, session: "Session") -> None:
        """It has its backlog."""

    def went(self, user: UserId, place: Place, *, said_so: bool) -> None:
        """A session has left the directory, and contacts may be to be told; `said_so`: by a logout."""


class Marking(Protocol):
    """Who stores what devices have kept, and tells the senders (`routing.marks`)."""

    def kept(self, session: "Session", upto: Position, then: Callable[[object], None] | None = None) -> None:
        """The session's device has kept everything up to there; `then`: it is stored."""


Handler = Callable[["Session", Any], None]
RareHandler = Callable[["Session", Any], Awaitable[None]]
Handlers = dict[type[Command], Handler | RareHandler]


@dataclass(slots=True)
class Context:
    settings: Settings
    counters: Counters
    clock: Clock
    store: Store
    registry: Registry
    wheel: TimerWheel
    spawn: Callable[..., None]  # starts a task: (async function, *arguments)
    limits: Limits
    random: Callable[[], float]  # from 0 to 1: spreads those who are to come back
    entrance: Entrance
    wall: Callable[[], float] = time.time  # unix seconds, as positions have them
    attendance: Attendance = field(init=False)  # set before the first client comes
    marking: Marking = field(init=False)  # the same
    handlers: Handlers = field(default_factory=dict)
    cursors: "dict[Session, None]" = field(
        default_factory=dict
    )  # sessions whose acknowledged position is not stored yet
    newcomers: "dict[Session, None]" = field(default_factory=dict)  # connected, and not logged in yet
    entering: dict[Place, str] = field(default_factory=dict)  # places asked for; why they must be left again, if so
    draining: bool = False  # nobody comes in any more
    epochs: int = 0  # new ones of any shard, since start
    opened: int = 0  # sessions since start: numbers their places
    lag: float = 0.0  # seconds by which tasks had their turn late, when last looked at

    def strain(self, user: UserId | None) -> Strain:
        """On the user's shard; of one who is not known yet: on the shard that has the least to do."""
        if user is not None:
            return self._strain(self.store.link_of(user))
        return min(map(self._strain, self.store.links), key=level_of)

    def worst_strain(self) -> Strain:
        return max(map(self._strain, self.store.links), key=level_of)

    def _strain(self, link: RedisLink) -> Strain:
        """A link that is down is not strained: what is asked of it waits, or fails by itself."""
        logins, now = self.entrance.wait_share(link), self.clock.now
        if not link.up:
            return Strain(0.0, 0.0, self.lag, logins)
        oldest = min(link.oldest_call_seconds(now), now - link.up_since)
        return Strain(link.in_flight / self.settings.store_in_flight, oldest, self.lag, logins)
