"""Where logins and registrations wait for their turn.

A line for each shard, so that a shard that stands still holds up nobody else; and there one for those who come with a
password, which takes a hundred times as long, beside the one for tokens. What waits is a command, not a task: a
storm of logins costs its connections and little more. See protocol/admission.py.
"""

from collections.abc import Callable
from functools import partial
from random import random
from typing import TYPE_CHECKING, NamedTuple

from imserver.config import Settings
from imserver.errors import Overloaded
from imserver.observe.metrics import Counters
from imserver.protocol.admission import Line
from imserver.protocol.commands import Command

if TYPE_CHECKING:
    from imserver.session.context import Clock, RareHandler
    from imserver.session.session import Session
    from imserver.store.redis_link import RedisLink

# Before anything has been measured; half a second of a storm corrects them.
_FIRST_RATE = 2000.0  # logins a second
_FIRST_RATE_PER_THREAD = 10.0  # passwords a second


class Arrival(NamedTuple):
    """One who wants to come in."""

    session: "Session"
    command: Command
    handler: "RareHandler"


class Entrance:
    def __init__(self, settings: Settings, counters: Counters, clock: "Clock", spawn: Callable[..., None]) -> None:
        self._settings, self._counters, self._clock, self._spawn = settings, counters, clock, spawn
        self._lines: dict[tuple[RedisLink, bool], Line[Arrival]] = {}
        self._inside: dict[Session, float] = {}  # in a line or through it, and not answered yet; since when

    def arrive(
        self, session: "Session", command: Command, handler: "RareHandler", link: "RedisLink", *, hashes: bool
    ) -> None:
        """Runs `handler` when its turn has come; until it is done the session is not read from.

        `link`: of the user's shard; `hashes`: a password is to be hashed. Raises Overloaded, which says when to return.
        """
        line, now = self._line(link, hashes), self._clock.now
        arrival = Arrival(session, command, handler)
        try:
            is_its_turn = line.arrive(arrival, now)
        except Overloaded:
            self._counters.refuse_login("line")
            raise
        session.hold()
        self._inside[session] = now
        if is_its_turn:
            self._spawn(self._run, line, arrival)

    async def _run(self, line: Line[Arrival], arrival: Arrival) -> None:
        try:
            await arrival.session.run_rare(partial(self._pass, arrival.handler), arrival.command)
        finally:
            self._let_next_in(line)

    async def _pass(self, handler: "RareHandler", session: "Session", command: Command) -> None:
        try:
            await handler(session, command)
        finally:
            self._forget(session)

    def _let_next_in(self, line: Line[Arrival]) -> None:
        while (arrival := line.leave(self._clock.now)) is not None:
            if not arrival.session.is_closed:
                self._spawn(self._run, line, arrival)
                return
            self._forget(arrival.session)

    def _forget(self, session: "Session") -> None:
        """The time that a client has to log in is its own: what it spent here does not count."""
        session.opened += self._clock.now - self._inside.pop(session)

    def __contains__(self, session: "Session") -> bool:
        """Whether it has asked to come in and waits for the answer."""
        return session in self._inside

    def _line(self, link: "RedisLink", hashes: bool) -> Line[Arrival]:
        line = self._lines.get((link, hashes))
        if line is None:
            line = self._lines[link, hashes] = self._new_line(hashes)
        return line

    def _new_line(self, hashes: bool) -> Line[Arrival]:
        settings = self._settings
        return Line(
            # Of those with a password a thread's next one looks up its hash meanwhile.
            at_once=2 * settings.password_threads if hashes else settings.logins_at_once,
            longest_wait=settings.login_wait_seconds,
            longest_retry=settings.login_retry_seconds,
            rate=_FIRST_RATE_PER_THREAD * settings.password_threads if hashes else _FIRST_RATE,
            random=random,
        )

    def wait_share(self, link: "RedisLink") -> float:
        """Of those with tokens: how long one would wait now, as a share of the longest wait."""
        line = self._lines.get((link, False))
        return 0.0 if line is None else line.wait_share

    @property
    def waiting(self) -> int:
        """How many wait in all lines."""
        return sum(map(len, self._lines.values()))

    @property
    def rate(self) -> float:
        """Logins by token a second, as measured when they last had to wait; of all shards."""
        return sum(line.rate for (_, hashes), line in self._lines.items() if not hashes)
