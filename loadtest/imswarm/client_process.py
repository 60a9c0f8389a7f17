"""A client process: obeys the orders of its parent, which come over a pipe.

Every order is answered by the tally of what happened since the last answer; meanwhile a
`Progress` now and then. The process ends when its parent does.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Protocol

from imswarm.client_loop import ClientLoop
from imswarm.company import Company, ResumingSwarm
from imswarm.group_talk import GroupConversation, GroupTalk
from imswarm.pacing import Pacer
from imswarm.population import Crowd, Population, Session
from imswarm.rare_talk import RareRequests, RareTalk
from imswarm.stats import Tally
from imswarm.traffic import Conversation, Talker, Traffic

_PROGRESS_SECONDS = 0.5
_DRAIN_CHECK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the sessions of a server log in and talk."""

    session: type[Session] = Session
    talker: type[Talker] = Talker


IMSERVER = Dialect()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a client process needs to know, given to it at its start."""

    crowd: Crowd
    conversation: Conversation | GroupConversation | RareRequests
    cores: frozenset[int] | None
    """Where it may run; None: anywhere."""
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class ResumingPlan:
    """The same, of a process whose sessions come back."""

    company: Company
    cores: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """Log everybody in; answered when each has succeeded or failed."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Groups are made, everybody joins, contacts find each other; answered when all have."""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin to talk; None: closed loop, else this process's messages per second."""

    rate_per_second: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """Answer at once: the tally between two marks is that of the time between them."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop sending; answered when nothing is outstanding, or after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close every session."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Answered by a tally with what was lost, duplicated, reordered in the whole run."""


Order = Connect | Gather | Start | Mark | Drain | Disconnect | Settle


@dataclass(frozen=True, slots=True)
class Progress:
    sessions: int
    delivered: int
    """Since the last answer."""


class Sessions(Protocol):
    """What the process needs of those who connect."""

    @property
    def sessions(self) -> Sized: ...

    def connect(self, on_settled: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


class Talking(Protocol):
    """What it needs of those who talk."""

    @property
    def pacer(self) -> Pacer: ...

    @property
    def outstanding(self) -> int: ...

    def start(self, rate_per_second: float | None) -> None: ...
    def stop(self) -> None: ...
    def settle(self) -> None: ...


def client_main(plan: Plan | ResumingPlan, pipe: Pipe) -> None:
    """The process's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if plan.cores:
        os.sched_setaffinity(0, plan.cores)
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    loop, tally = ClientLoop(), Tally()
    sessions, talking = _crowd(plan, loop, tally)
    ClientProcess(loop, tally, sessions, talking, pipe).run()


def _crowd(plan: Plan | ResumingPlan, loop: ClientLoop, tally: Tally) -> tuple[Sessions, Talking]:
    if isinstance(plan, ResumingPlan):
        swarm = ResumingSwarm(loop, plan.company, tally)
        return swarm, swarm
    population = Population(loop, plan.crowd, tally, plan.dialect.session)
    if isinstance(plan.conversation, GroupConversation):
        return population, GroupTalk(population, plan.conversation, tally)
    if isinstance(plan.conversation, RareRequests):
        return population, RareTalk(population, plan.conversation, tally)
    return population, Traffic(population, plan.conversation, tally, plan.dialect.talker)


class ClientProcess:
    def __init__(self, loop: ClientLoop, tally: Tally, sessions: Sessions, talking: Talking, pipe: Pipe) -> None:
        self._pipe = pipe
        self._tally = tally
        self._loop = loop
        self._population = sessions
        self._traffic = talking
        self._drain_until = 0.0
        self._running = True

    def run(self) -> None:
        self._loop.register(self._pipe.fileno(), select.EPOLLIN, self._on_order)
        self._loop.every(_PROGRESS_SECONDS, self._report_progress)
        self._loop.every(_DRAIN_CHECK_SECONDS, self._check_drained)
        while self._running:
            self._loop.step(self._traffic.pacer.wait_seconds())
            self._traffic.pacer.pump()

    def _on_order(self, events: int) -> None:
        try:
            order: Order = self._pipe.recv()
        except (EOFError, OSError):
            self._running = False
            return
        self._obey(order)

    def _tell(self, message: Tally | Progress) -> None:
        """A parent that does not listen any more has gone."""
        try:
            self._pipe.send(message)
        except OSError:
            self._running = False

    def _obey(self, order: Order) -> None:
        match order:
            case Connect():
                self._population.connect(self._on_connected)
            case Gather():
                assert isinstance(self._traffic, GroupTalk | RareTalk | ResumingSwarm)
                self._traffic.gather(self._answer)
            case Start(rate_per_second):
                self._traffic.start(rate_per_second)
                self._answer()
            case Mark():
                self._answer()
            case Drain(seconds):
                self._traffic.stop()
                self._drain_until = time.monotonic() + seconds
            case Disconnect():
                self._population.close()
                self._answer()
            case Settle():
                self._traffic.settle()
                self._answer()

    def _answer(self) -> None:
        self._tell(self._tally.take())

    def _on_connected(self) -> None:
        """Answer, and take what is there by now out of the garbage collector's sight.

        It stays until the end, and looking at 10,000 sessions again and again would be seen as latency.
        """
        gc.collect()
        gc.freeze()
        self._answer()

    def _check_drained(self) -> None:
        late = time.monotonic() >= self._drain_until
        if self._drain_until and (late or not self._traffic.outstanding):
            self._drain_until = 0.0
            self._answer()

    def _report_progress(self) -> None:
        self._tell(Progress(len(self._population.sessions), self._tally.delivered))
