"""Many sessions of one client process: connecting, logging in, keepalive, losing and closing."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from imswarm.backoff import told_seconds
from imswarm.client_loop import ClientLoop
from imswarm.connection import Address, Connection, source_of
from imswarm.framing import PING, Framing
from imswarm.stamps import send_template
from imswarm.stats import Tally
from imswarm.tcp import LineFraming
from imswarm.ws import WebSocketFraming, upgrade_request

LOGIN_TIMEOUT_SECONDS = 30.0
_MOST_TIMES_AWAY = 20
"""Who is told to come back later more often than that is an error."""


@dataclass(frozen=True, slots=True)
class Account:
    user: str
    device: str
    token: str
    """Or a password, where a session logs in by it."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """The sessions one client process keeps.

    `first` is the number of its first one among those of all processes; `concurrency` bounds the logins under way.
    """

    transport: str
    target: Address
    accounts: tuple[Account, ...]
    first: int
    concurrency: int


def new_framing(transport: str, target: Address) -> Framing:
    return WebSocketFraming(upgrade_request(str(target))) if transport == "ws" else LineFraming()


class Session:
    """One account's session, from connecting to its end.

    Making one raises OSError if the system refuses the socket.
    """

    __slots__ = ("_population", "account", "connection", "number", "started_ns")

    def __init__(self, population: Population, number: int) -> None:
        crowd = population.crowd
        source = source_of(crowd.first + number, crowd.target)
        self.number = number
        self.started_ns = time.monotonic_ns()
        self._population = population
        self.account = crowd.accounts[number]
        self.connection = Connection(population.loop, crowd.target, source, self.framing(crowd), self)

    @staticmethod
    def framing(crowd: Crowd) -> Framing:
        return new_framing(crowd.transport, crowd.target)

    @property
    def user(self) -> str:
        return self.account.user

    def template(self, prefix: bytes, to: str, body_bytes: int) -> bytes:
        """See `stamps.send_template`."""
        return send_template(prefix, to, body_bytes, self.connection.framed)

    def on_open(self) -> None:
        account = self.account
        login = {"op": "login", "ref": 1, "token": account.token, "device": account.device}
        self.connection.send_frame(msgspec.json.encode(login))

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        """While logging in: the reply, the backlog (not looked at), `synced`."""
        fields = msgspec.json.decode(frame)
        if "err" in fields:
            error = fields["err"]
            self._turned_away(f"login refused: {error.get('code')}", error.get("retry"))
        elif fields.get("ev") == "bye" and fields.get("reconnect"):
            self._turned_away(f"bye {fields.get('code')}: {fields.get('text')}", fields.get("after") or 0.0)
        elif fields.get("ev") == "synced":
            self.enter(now_ns)
        else:
            self.on_event(frame, now_ns)

    def _turned_away(self, reason: str, after_seconds: float | None) -> None:
        """`after_seconds`: when to come back; None: never."""
        self.connection.close()
        if after_seconds is None or not self._population.come_back(self, after_seconds):
            self.on_closed(reason)

    def on_event(self, frame: bytes, now_ns: int) -> None:
        """Once logged in: whatever is no part of a conversation."""
        if frame.startswith(PING):
            self._population.tally.keepalives += 1
            self.connection.answer_ping(frame)
            return
        fields = msgspec.json.decode(frame)
        if fields.get("ev") == "bye":
            self.end(f"bye {fields.get('code')}: {fields.get('text')}")
        elif fields.get("ev") == "error":
            self._population.tally.errors[f"{fields.get('code')}: {fields.get('text')}"] += 1

    def on_closed(self, reason: str) -> None:
        self._population.on_ended(self, reason)

    def enter(self, now_ns: int) -> None:
        """The login is over."""
        self.connection.on_frame = self.on_event
        self._population.on_logged_in(self, now_ns)

    def end(self, reason: str) -> None:
        self.connection.close()
        self.on_closed(reason)


class Population:
    """All sessions of one client process."""

    def __init__(
        self, loop: ClientLoop, crowd: Crowd, tally: Tally, session: Callable[[Population, int], Session] = Session
    ) -> None:
        """`session` makes the one of this number."""
        self.loop = loop
        self.crowd = crowd
        self.tally = tally
        self.sessions: dict[int, Session] = {}  # those logged in, by their number in the crowd
        self._session = session
        self._waiting: Iterator[int] = iter(())
        self._entering: set[Session] = set()
        self._away: list[tuple[float, int]] = []  # who was told to come back, and when
        self._times_away: dict[int, int] = {}
        self._on_settled: Callable[[], None] | None = None
        loop.every(1.0, self._look_at_entrance)

    def connect(self, on_settled: Callable[[], None]) -> None:
        """Log everybody in; `on_settled` is called when each has succeeded or failed."""
        self._waiting = iter(range(len(self.crowd.accounts)))
        self._on_settled = on_settled
        self._admit()

    def close(self) -> None:
        """End every session without a word, as a client does that goes away."""
        for session in self.sessions.values():
            session.connection.close()
        self.sessions.clear()

    def on_logged_in(self, session: Session, now_ns: int) -> None:
        self.sessions[session.number] = session
        self.tally.logged_in += 1
        self.tally.latency.record(now_ns - session.started_ns)
        self._leave_entrance(session)

    def come_back(self, session: Session, after_seconds: float) -> bool:
        """The server has no room now; false if it said so too often."""
        number = session.number
        times = self._times_away[number] = self._times_away.get(number, 0) + 1
        if times > _MOST_TIMES_AWAY:
            return False
        self.tally.turned_away += 1
        heapq.heappush(self._away, (time.monotonic() + told_seconds(after_seconds), number))
        self._leave_entrance(session)
        return True

    def on_ended(self, session: Session, reason: str) -> None:
        self.tally.errors[reason] += 1
        self.sessions.pop(session.number, None)
        self._leave_entrance(session)

    def _leave_entrance(self, session: Session) -> None:
        if session in self._entering:
            self._entering.remove(session)
            self._admit()

    def _admit(self) -> None:
        """Bounded, so that a storm of logins never overflows the server's accept queue."""
        while len(self._entering) < self.crowd.concurrency:
            number = self._next_outside()
            if number is None:
                break
            self._enter(number)
        if not self._entering and not self._away and self._on_settled is not None:
            on_settled, self._on_settled = self._on_settled, None
            on_settled()

    def _next_outside(self) -> int | None:
        if self._away and self._away[0][0] <= time.monotonic():
            return heapq.heappop(self._away)[1]
        return next(self._waiting, None)

    def _enter(self, number: int) -> None:
        try:
            self._entering.add(self._session(self, number))
        except OSError as error:
            self.tally.errors[f"cannot connect: {error.strerror}"] += 1

    def _look_at_entrance(self) -> None:
        """Those who take too long are given up; those who were told to come back do."""
        latest_start = time.monotonic_ns() - int(LOGIN_TIMEOUT_SECONDS * 1e9)
        for session in [late for late in self._entering if late.started_ns < latest_start]:
            session.connection.close()
            self.on_ended(session, f"no login within {LOGIN_TIMEOUT_SECONDS:.0f} s")
        if self._away:
            self._admit()
