"""A client process of a storm: many members in one epoll loop; the parent says what to do, and hears what was seen."""

from __future__ import annotations

import gc
import heapq
import resource
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection as Pipe

from imswarm.client_loop import ClientLoop
from imswarm.population import Crowd
from imswarm.storm.flow import Flow, FlowRecord
from imswarm.storm.member import Member

_STEP_SECONDS = 0.005
_NEWS_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one process. `pairs`: two of its sessions each; `rate_per_second`: of all their messages together."""

    crowd: Crowd
    pairs: tuple[tuple[int, int], ...]
    rate_per_second: float
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Log everybody in, a bounded number at once."""


@dataclass(frozen=True, slots=True)
class Talk:
    """Begin: messages fall due from now on."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """No more messages fall due."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Answered with a Record; then the process ends."""


@dataclass(frozen=True, slots=True)
class News:
    """How it stands; `missing_since`: when the first message was due that is not delivered and answered."""

    live: int
    delivered: int
    missing_since: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """What everybody saw, in nanoseconds of the machine's monotonic clock.

    `lost`, `live`: for each member that was ever lost, when that happened, and when it was live (again). `lag`: the
    longest time, in seconds, for which this process itself had no look at its sockets while messages fell due.
    """

    lost: dict[int, tuple[int, ...]]
    live: dict[int, tuple[int, ...]]
    flows: tuple[FlowRecord, ...]
    attempts: int
    lag: float
    refusals: Counter[str]
    errors: Counter[str]


def client_main(plan: Plan, pipe: Pipe) -> None:
    """The process's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    StormProcess(plan, pipe).run()


class StormProcess:
    """The `Host` of its members."""

    def __init__(self, plan: Plan, pipe: Pipe) -> None:
        self.loop = ClientLoop()
        self.crowd = plan.crowd
        self.refusals: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._pipe = pipe
        self._timers: list[tuple[float, int, Member]] = []
        self._numbers = count()
        self._members = [Member(self, plan.crowd.first + n, account) for n, account in enumerate(plan.crowd.accounts)]
        self._flows: list[tuple[Flow, Member]] = []
        for left, right in plan.pairs:
            self._join(self._members[left], self._members[right], plan.body_bytes)
        self._interval_ns = 1e9 / plan.rate_per_second
        self._next_due: float | None = None  # None: quiet
        self._turn = 0
        self._lag = 0.0
        self._entering: set[Member] = set()
        self._outside: Iterator[Member] = iter(())
        self._running = True

    def _join(self, left: Member, right: Member, body_bytes: int) -> None:
        for sender, recipient in ((left, right), (right, left)):
            name = f"storm{sender.number}-{time.time_ns():x}"
            flow = Flow(name, recipient.user, body_bytes, (sender.number, recipient.number))
            sender.outbound = recipient.inbound = flow
            self._flows.append((flow, sender))

    def run(self) -> None:
        self.loop.register(self._pipe.fileno(), select.EPOLLIN, self._on_order)
        self.loop.every(_NEWS_SECONDS, self._tell_news)
        looked = time.monotonic()
        while self._running:
            self.loop.step(_STEP_SECONDS)
            before, looked = looked, time.monotonic()
            self._lag = max(self._lag, looked - before)
            self._wake_members()
            self._let_fall_due()

    # -- what members need

    def at(self, due: float, member: Member) -> None:
        heapq.heappush(self._timers, (due, next(self._numbers), member))

    def _wake_members(self) -> None:
        now, timers = time.monotonic(), self._timers
        while timers and timers[0][0] <= now:
            heapq.heappop(timers)[2].wake(now)

    def on_live(self, member: Member) -> None:
        if member in self._entering:
            self._entering.remove(member)
            self._let_in()

    # -- orders

    def _on_order(self, events: int) -> None:
        try:
            order = self._pipe.recv()
        except (EOFError, OSError):
            self._running = False
            return
        match order:
            case Connect():
                self._outside = iter(self._members)
                self._let_in()
            case Talk():
                gc.collect()
                gc.freeze()  # what is there now stays; to look at it again and again would be seen as delay
                self._next_due = float(time.monotonic_ns())
                self._lag = 0.0
            case Quiet():
                self._next_due = None
            case Settle():
                self._running = False
                self._pipe.send(self._record())
                for member in self._members:
                    member.leave()

    def _let_in(self) -> None:
        """The first time in good order: the storm comes later."""
        while len(self._entering) < self.crowd.concurrency:
            member = next(self._outside, None)
            if member is None:
                return
            self._entering.add(member)
            member.connect()

    def _let_fall_due(self) -> None:
        now = time.monotonic_ns()
        while self._next_due is not None and self._next_due <= now:
            flow, sender = self._flows[self._turn]
            self._turn = (self._turn + 1) % len(self._flows)
            flow.fall_due(int(self._next_due))
            flow.pump(sender)
            self._next_due += self._interval_ns

    # -- telling

    def _tell_news(self) -> None:
        missing = [since for flow, _ in self._flows if (since := flow.oldest_missing) is not None]
        delivered = sum(len(flow.answered) for flow, _ in self._flows)
        live = sum(member.is_live for member in self._members)
        try:
            self._pipe.send(News(live, delivered, min(missing, default=None)))
        except OSError:
            self._running = False

    def _record(self) -> Record:
        lost = [member for member in self._members if member.lost_ns]
        return Record(
            lost={member.number: tuple(member.lost_ns) for member in lost},
            live={member.number: tuple(member.live_ns) for member in lost},
            flows=tuple(flow.record() for flow, _ in self._flows),
            attempts=sum(member.attempts for member in self._members),
            lag=self._lag,
            refusals=self.refusals,
            errors=self.errors,
        )
