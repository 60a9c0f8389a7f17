"""A group's conversation: a few members send, all receive, and each checks what it gets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from imswarm.pacing import REST_SECONDS, Flow, Pacer
from imswarm.population import Population, Session
from imswarm.stamps import FIRST_REF, NUMBER_AT, STAMP_BYTES, TIME_AT, flow_prefix, send_template
from imswarm.stats import Tally

_MESSAGE, _ID = b'{"ev":"msg",', b'"id":"'
_REPLY = b'{"re":1'
_JOIN_REF = 7
_AT_ONCE = 50  # joins under way


@dataclass(frozen=True, slots=True)
class GroupConversation:
    """All sessions of the process are members of `group`; the first `senders` of them send.

    `window`: messages outstanding of each sender; one is outstanding until every member has it.
    """

    group: str
    senders: int
    window: int
    body_bytes: int


class _Message:
    __slots__ = ("left", "time_ns")

    def __init__(self, left: int, time_ns: int) -> None:
        self.left = left
        self.time_ns = time_ns


class _Sender:
    """One member that sends."""

    def __init__(self, session: Session, number: int, talk: GroupTalk) -> None:
        self.session = session
        self.prefix = flow_prefix(number, 0)
        conversation = talk.conversation
        self._template = send_template(
            self.prefix, conversation.group, conversation.body_bytes, session.connection.framed
        )
        self.sent = 0
        self.under_way: dict[int, _Message] = {}

    def send(self, audience: int, now_ns: int) -> None:
        """`audience`: everybody, where the sender has the answer."""
        number, self.sent = self.sent, self.sent + 1
        self.under_way[number] = _Message(audience, now_ns)
        self.session.connection.send(self._template % (FIRST_REF + number, number, now_ns, number, now_ns))

    def reached_one(self, number: int) -> bool:
        """False: of a message that everybody has already, or that was never sent."""
        message = self.under_way.get(number)
        if message is None:
            return False
        message.left -= 1
        if not message.left:
            del self.under_way[number]
        return True


class GroupTalk:
    """The conversation of one client process; it has the interface of `traffic.Traffic`, and is its own pacer."""

    def __init__(self, population: Population, conversation: GroupConversation, tally: Tally) -> None:
        self.tally = tally
        self.conversation = conversation
        self.pacer: Pacer = self
        self._population = population
        self._senders: list[_Sender] = []
        self._next: dict[int, list[int]] = {}  # member -> number expected next of each sender
        self._is_talking = False
        self._to_join: list[Session] = []
        self._joining = 0
        self._on_gathered: Callable[[], None] | None = None

    # -- coming together

    def gather(self, on_gathered: Callable[[], None]) -> None:
        """The first member makes the group, the others join it."""
        founder, *others = self._population.sessions.values()
        self._to_join = others
        self._on_gathered = on_gathered
        for session in self._population.sessions.values():
            session.connection.on_frame = self._joiner(session)
        request = {
            "op": "group.create",
            "ref": _JOIN_REF,
            "group": self.conversation.group,
            "name": "swarm",
            "open": True,
        }
        self._ask(founder, request)

    def _ask(self, session: Session, request: dict[str, Any]) -> None:
        self._joining += 1
        session.connection.send_frame(msgspec.json.encode(request))

    def _joiner(self, session: Session) -> Callable[[bytes, int], None]:
        def on_frame(frame: bytes, now_ns: int) -> None:
            if not frame.startswith(b'{"re":%d,' % _JOIN_REF):
                session.on_event(frame, now_ns)
                return
            if b'"err"' in frame:
                self.tally.errors[f"not in the group: {frame.decode()}"] += 1
            self._joining -= 1
            self._join_more()

        return on_frame

    def _join_more(self) -> None:
        while self._to_join and self._joining < _AT_ONCE:
            self._ask(self._to_join.pop(), {"op": "group.join", "ref": _JOIN_REF, "group": self.conversation.group})
        if not self._joining and self._on_gathered is not None:
            on_gathered, self._on_gathered = self._on_gathered, None
            on_gathered()

    # -- talking

    def start(self, rate_per_second: float | None) -> None:
        """In a closed loop; there is no other."""
        if not self._senders:
            sessions = list(self._population.sessions.values())
            self._senders = [
                _Sender(session, number, self) for number, session in enumerate(sessions[: self.conversation.senders])
            ]
            for session in sessions:
                session.connection.on_frame = self._member(session)
        self._is_talking = True

    def _member(self, session: Session) -> Callable[[bytes, int], None]:
        expected = [0] * len(self._senders)
        self._next[session.number] = expected
        tally, senders = self.tally, self._senders

        def on_frame(frame: bytes, now_ns: int) -> None:
            if frame.startswith(_MESSAGE):
                at = frame.find(_ID) + len(_ID)
                stamp = frame[at : at + STAMP_BYTES]
                sender, number = int(stamp[: NUMBER_AT - 1]), int(stamp[NUMBER_AT:TIME_AT])
                tally.delivered += 1
                tally.latency.record(now_ns - int(stamp[TIME_AT:]))
                self._took(expected, sender, number)
            elif frame.startswith(_REPLY) and b'"ok"' in frame:
                number = int(frame[6:16]) - FIRST_REF
                sender = next(index for index, it in enumerate(senders) if it.session is session)
                tally.answered += 1
                self._took(expected, sender, number)
            elif frame.startswith(b'{"re"'):
                tally.errors[frame.decode()] += 1
            else:
                session.on_event(frame, now_ns)

        return on_frame

    def _took(self, expected: list[int], sender: int, number: int) -> None:
        if number == expected[sender]:
            expected[sender] += 1
        elif number < expected[sender]:
            self.tally.duplicated += 1
            return
        else:
            self.tally.reordered += 1
            expected[sender] = number + 1
        self._senders[sender].reached_one(number)

    def stop(self) -> None:
        self._is_talking = False

    def touch(self, flow: Flow) -> None:
        """Never asked for: there are no flows."""

    def pump(self) -> None:
        if not self._is_talking:
            return
        audience, window = len(self._population.sessions), self.conversation.window
        for sender in self._senders:
            while len(sender.under_way) < window:
                self.tally.sent += 1
                sender.send(audience, time.monotonic_ns())

    def wait_seconds(self) -> float:
        return REST_SECONDS

    @property
    def outstanding(self) -> int:
        return sum(message.left for sender in self._senders for message in sender.under_way.values())

    def settle(self) -> None:
        """Count what never came; called once, at the end."""
        self.tally.lost += self.outstanding
