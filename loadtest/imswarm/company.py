"""All resuming sessions of one client process: who talks with whom, who is in which group, who comes and goes.

Everything is due at a time (an open loop): logins, messages, changes of presence, departures.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imswarm.client_loop import ClientLoop
from imswarm.connection import Address
from imswarm.flows import GroupFlow, ResumingFlow
from imswarm.gathering import Gathering
from imswarm.pacing import OpenLoop, Pacer, Pacers, Quiet, Sender
from imswarm.population import Account
from imswarm.resuming import ResumingSession
from imswarm.stamps import flow_prefix, send_template
from imswarm.stats import Tally

_TIMER_SECONDS = 0.005
_ACK_SECONDS, _ACK_PARTS = 1.0, 10


@dataclass(frozen=True, slots=True)
class Habits:
    """What the sessions of one process do a second, all together, beside talking one to one."""

    group_messages: float = 0.0
    presence_changes: float = 0.0
    departures: float = 0.0
    away_seconds: float = 0.0
    """So long somebody who has left stays away."""


@dataclass(frozen=True, slots=True)
class Company:
    """What one client process does. `first`: the number of its first session in the whole swarm.

    The first `2 * pairs` accounts write to each other, two by two. Groups have `group_size` members each, one after the
    other from the first account on, and so many contacts everybody has (half before, half behind it). The last
    `websockets` accounts use WebSocket. `logins_per_second` None: all at once.
    """

    targets: Mapping[str, Address]
    accounts: tuple[Account, ...]
    first: int
    pairs: int
    body_bytes: int
    websockets: int = 0
    groups: int = 0
    group_size: int = 0
    contacts: int = 0
    logins_per_second: float | None = None
    habits: Habits = Habits()


class ResumingSwarm:
    """What `client_process` needs of those who connect and of those who talk; and the `Host` of the sessions."""

    def __init__(self, loop: ClientLoop, company: Company, tally: Tally) -> None:
        self.loop = loop
        self.company = company
        self.tally = tally
        self.began_ns = time.monotonic_ns()
        self.pacer: Pacer = Quiet()
        self.all = [self._session(number, account) for number, account in enumerate(company.accounts)]
        self.sessions: set[ResumingSession] = set()  # those that are live
        self.flows: dict[bytes, ResumingFlow] = {}
        self._pairs = [flow for pair in range(company.pairs) for flow in self._pair(pair)]
        self._groups = [self.all[n * company.group_size :][: company.group_size] for n in range(company.groups)]
        self._posts = [flow for number, members in enumerate(self._groups) for flow in self._group(number, members)]
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._on_settled: Callable[[], None] | None = None
        self._gathering: Gathering | None = None
        self._ack_part = 0
        loop.every(_TIMER_SECONDS, self._run_timers)
        loop.every(_ACK_SECONDS / _ACK_PARTS, self._ack)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), call))

    # -- who there is

    def _session(self, number: int, account: Account) -> ResumingSession:
        company = self.company
        transport = "ws" if number >= len(company.accounts) - company.websockets else "tcp"
        return ResumingSession(self, company.first + number, account, transport, company.targets[transport])

    def _pair(self, pair: int) -> list[ResumingFlow]:
        left, right = self.all[2 * pair : 2 * pair + 2]
        flows: list[ResumingFlow] = []
        for direction, (sender, recipient) in enumerate(((left, right), (right, left))):
            prefix = flow_prefix(left.number, direction)
            template = self._template(sender, prefix, recipient.user)
            flows.append(self._let_say(sender, ResumingFlow(prefix, template, sender, recipient.number)))
        return flows

    def _group(self, number: int, members: Sequence[ResumingSession]) -> list[ResumingFlow]:
        name = f"#s{time.time_ns():x}-{self.company.first}-{number}"
        flows = []
        for member in members:
            member.group = name
            others = [other.number for other in members if other is not member]
            prefix = flow_prefix(member.number, 2)
            template = self._template(member, prefix, name)
            flows.append(self._let_say(member, GroupFlow(prefix, template, member, others)))
        return flows

    def _template(self, sender: ResumingSession, prefix: bytes, to: str) -> bytes:
        return send_template(prefix, to, self.company.body_bytes, sender.framing().frame)

    def _let_say(self, sender: ResumingSession, flow: ResumingFlow) -> ResumingFlow:
        self.flows[flow.prefix] = flow
        sender.outbound = (*sender.outbound, flow)
        return flow

    # -- coming in

    def connect(self, on_settled: Callable[[], None]) -> None:
        """Called back when everybody is in; a server that never lets them in is waited for without end."""
        self._on_settled = on_settled
        rate = self.company.logins_per_second
        for number, session in enumerate(self.all):
            if rate is None:
                session.open()
            else:
                self.call_later(number / rate, session.open)

    def on_live(self, session: ResumingSession) -> None:
        self.sessions.add(session)
        if self._on_settled is not None and len(self.sessions) == len(self.all):
            on_settled, self._on_settled = self._on_settled, None
            on_settled()

    def on_lost(self, session: ResumingSession) -> None:
        self.sessions.discard(session)

    def close(self) -> None:
        for session in self.all:
            session.close()
        self._timers.clear()

    # -- groups and contacts

    def gather(self, on_gathered: Callable[[], None]) -> None:
        self._gathering = Gathering(self.all, self._groups, self.company.contacts, self.tally, on_gathered)

    def on_setup_reply(self, reply: dict[str, Any]) -> None:
        if self._gathering is not None:
            self._gathering.on_reply(reply)

    # -- talking, coming and going

    def start(self, rate_per_second: float | None) -> None:
        """`rate_per_second`: one to one; None: nobody does."""
        habits, uncounted = self.company.habits, Tally()
        loops: list[tuple[Sequence[Sender], float, Tally]] = [
            (self._pairs, rate_per_second or 0.0, self.tally),
            (self._posts, habits.group_messages, self.tally),
            ([Mood(session, self.tally) for session in self.all], habits.presence_changes, uncounted),
            ([Stroll(self, session) for session in self.all], habits.departures, uncounted),
        ]
        self.pacer = Pacers(
            [OpenLoop(_shuffled(senders), rate, tally) for senders, rate, tally in loops if senders and rate]
        )

    def stop(self) -> None:
        """Who is out comes in, so that everybody can have everything."""
        self.pacer = Quiet()
        for session in self.all:
            session.come_in()

    @property
    def outstanding(self) -> int:
        return sum(flow.outstanding for flow in self.flows.values()) + len(self.all) - len(self.sessions)

    def settle(self) -> None:
        """Count what never came, came twice or came late; called once, at the end."""
        for flow in self.flows.values():
            self.tally.lost += flow.lost
            self.tally.duplicated += flow.duplicated
            self.tally.reordered += flow.reordered
            if flow.ledger.unanswered:
                self.tally.errors["sent and never answered"] += flow.ledger.unanswered

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _ack(self) -> None:
        """A tenth of them each time, so that acknowledgements do not come in bursts."""
        for session in self.all[self._ack_part :: _ACK_PARTS]:
            session.ack()
        self._ack_part = (self._ack_part + 1) % _ACK_PARTS


class Mood:
    """A session that shows something else now and then."""

    def __init__(self, session: ResumingSession, tally: Tally) -> None:
        self._session, self._tally = session, tally
        self._shows = itertools.cycle(("away", "online"))

    @property
    def alive(self) -> bool:
        return self._session.is_live

    def send(self, count: int, time_ns: int) -> None:
        self._tally.presence_changes += 1
        self._session.say({"op": "presence", "show": next(self._shows), "status": str(time_ns)})


class Stroll:
    """A session that leaves now and then, and comes back."""

    def __init__(self, swarm: ResumingSwarm, session: ResumingSession) -> None:
        self._swarm, self._session = swarm, session

    @property
    def alive(self) -> bool:
        return self._session.is_live

    def send(self, count: int, time_ns: int) -> None:
        self._swarm.tally.departures += 1
        self._session.go_out()
        self._swarm.call_later(self._swarm.company.habits.away_seconds, self._session.come_in)


def _shuffled(senders: Sequence[Sender]) -> list[Sender]:
    """So that what two do one after the other has nothing to do with where they sit."""
    return random.sample(senders, len(senders))
