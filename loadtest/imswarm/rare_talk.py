"""Rare requests in an open loop: contacts, groups, history, as many a second as told, from a crowd of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, cycle
from typing import Any

import msgspec

from imswarm.pacing import OpenLoop, Pacer, Quiet
from imswarm.population import Population, Session
from imswarm.stats import Tally

_REPLY, _OVERLOADED = b'{"re":', b'"code":"overloaded"'
_SAID = 20  # messages of each asker to the next one, so that there is history
_GROUP_MEMBERS = 5

Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RareRequests:
    """What the sessions of one client process ask. `prefix`: of the groups that they make, different for each run."""

    prefix: str


class Asker:
    """One session. Each asks the same, beginning at another place, of its own group and the next asker."""

    __slots__ = ("_asked", "_refs", "_requests", "_session", "_tally")

    def __init__(self, session: Session, requests: Iterator[bytes], tally: Tally) -> None:
        self._session = session
        self._requests = requests
        self._tally = tally
        self._refs = count(1)
        self._asked: dict[int, int] = {}  # ref -> when it was due
        session.connection.on_frame = self.on_frame

    @property
    def alive(self) -> bool:
        return not self._session.connection.closed

    @property
    def unanswered(self) -> int:
        return len(self._asked)

    def send(self, number: int, time_ns: int) -> None:
        for _ in range(number):
            self.ask(next(self._requests), time_ns)

    def ask(self, request: bytes, time_ns: int) -> None:
        """`request`: without `ref`."""
        ref = next(self._refs)
        self._asked[ref] = time_ns
        self._session.connection.send_frame(b'{"ref":%d,%b' % (ref, request[1:]))

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        if not frame.startswith(_REPLY):
            self._session.on_event(frame, now_ns)
            return
        ref, _, answer = frame[len(_REPLY) :].partition(b",")
        due_ns = self._asked.pop(int(ref))
        self._tally.answered += 1
        if answer.startswith(b'"ok"'):
            self._tally.latency.record(now_ns - due_ns)
        elif _OVERLOADED in answer:
            self._tally.shed += 1
        else:
            self._tally.errors[answer.decode()] += 1


class RareTalk:
    """The requests of one client process; it has the interface of `traffic.Traffic`."""

    def __init__(self, population: Population, asks: RareRequests, tally: Tally) -> None:
        self.pacer: Pacer = Quiet()
        self._population = population
        self._asks = asks
        self._tally = tally
        self._askers: list[Asker] = []
        self._on_gathered: Callable[[], None] | None = None
        population.loop.every(0.05, self._look_whether_gathered)

    def gather(self, on_gathered: Callable[[], None]) -> None:
        """Everybody makes a group, and says something to the next one."""
        sessions = list(self._population.sessions.values())
        users = [session.user for session in sessions]
        for number, session in enumerate(sessions):
            group = f"#{self._asks.prefix}.{number}"
            others = [users[(number + step) % len(users)] for step in range(1, _GROUP_MEMBERS)]
            requests = [msgspec.json.encode(request) for request in _mix(group, others[0])]
            start = number % len(requests)
            asker = Asker(session, chain(requests[start:], cycle(requests)), self._tally)
            for request in _beginning(group, others):
                asker.ask(msgspec.json.encode(request), session.started_ns)
            self._askers.append(asker)
        self._on_gathered = on_gathered

    def _look_whether_gathered(self) -> None:
        if self._on_gathered is not None and not self.outstanding:
            on_gathered, self._on_gathered = self._on_gathered, None
            on_gathered()

    def start(self, rate_per_second: float | None) -> None:
        """In an open loop; there is no other."""
        assert rate_per_second is not None
        self.pacer = OpenLoop(self._askers, rate_per_second, self._tally)

    def stop(self) -> None:
        self.pacer = Quiet()

    @property
    def outstanding(self) -> int:
        return sum(asker.unanswered for asker in self._askers if asker.alive)

    def settle(self) -> None:
        unanswered = sum(asker.unanswered for asker in self._askers)
        if unanswered:
            self._tally.errors["asked and never answered"] += unanswered


def _beginning(group: str, others: list[str]) -> list[Request]:
    make = {"op": "group.create", "group": group, "name": "rare", "members": sorted(set(others))}
    return [make, *({"op": "send", "id": f"{group}.{n}", "to": others[0], "body": "x" * 80} for n in range(_SAID))]


def _mix(group: str, partner: str) -> list[Request]:
    """A third each of contacts, groups and history; a third of all change something that others hear of."""
    return [
        {"op": "contact.add", "user": partner, "note": "hello"},
        {"op": "group.set", "group": group, "topic": "one"},
        {"op": "history", "with": partner, "limit": 20},
        {"op": "contacts"},
        {"op": "group.info", "group": group},
        {"op": "history", "with": group, "limit": 50},
        {"op": "contact.remove", "user": partner},
        {"op": "group.set", "group": group, "topic": "another"},
        {"op": "history", "with": partner, "limit": 50},
        {"op": "blocked"},
        {"op": "groups"},
        {"op": "history", "with": group, "limit": 20},
    ]
