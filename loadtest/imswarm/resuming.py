"""Raw sessions that come back: as cheap as those of `population`, for loads under which workers are replaced.

A session whose connection has ended logs in again with the position of the last entry that it has got, and repeats,
under their ids, the messages that have no answer. What is due meanwhile waits, and carries the time at which it was
due: whoever measures sees the interruption as delay.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from imswarm.checker import Ledger
from imswarm.client_loop import ClientLoop
from imswarm.connection import Address, Connection, source_of
from imswarm.framing import PING
from imswarm.pacing import OpenLoop, Pacer, Quiet
from imswarm.population import Account
from imswarm.presence_judge import FALSE_OFFLINE
from imswarm.stamps import FIRST_REF, NUMBER_AT, STAMP_BYTES, TIME_AT, flow_prefix, send_template
from imswarm.stats import Tally
from imswarm.tcp import LineFraming

REFUSED, TURNED_AWAY, CUT = "refused", "turned-away", "cut"
"""Errors of the tally: nobody to connect to; no login; a session that ended without a `bye`.

FALSE_OFFLINE, too: a contact was shown offline, and all come back in time.
"""

_MESSAGE, _ID, _AT = b'{"ev":"msg",', b'"id":"', b'"at":"'
_REPLY, _REF_AT, _OK_AT, _OK = b'{"re":1', 6, 16, b',"ok":'
_AGAIN_SECONDS = 0.1
_TIMER_SECONDS = 0.005
_ACK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ResumingPairs:
    """What one client process does: accounts two by two write to each other. `first`: the number of its first pair."""

    target: Address
    accounts: tuple[Account, ...]
    first: int
    body_bytes: int


class ResumingFlow:
    """One direction of a conversation. Its sender may be away."""

    __slots__ = ("_sender", "_template", "ledger", "prefix", "unanswered")

    alive = True

    def __init__(self, prefix: bytes, template: bytes, sender: ResumingSession) -> None:
        self.prefix = prefix
        self.ledger = Ledger()
        self.unanswered: dict[int, int] = {}  # number to time, in the order of sending
        self._template = template
        self._sender = sender

    def send(self, count: int, time_ns: int) -> None:
        for _ in range(count):
            number = self.ledger.send()
            self.unanswered[number] = time_ns
            if self._sender.is_live:
                self._sender.send(self._frame(number, time_ns))

    def repeat(self) -> None:
        """All that has no answer, in its order."""
        if self.unanswered:
            self._sender.send(b"".join(self._frame(number, time_ns) for number, time_ns in self.unanswered.items()))

    def answered(self, number: int) -> bool:
        """False if it was answered before."""
        self.unanswered.pop(number, None)
        return self.ledger.answer(number)

    def _frame(self, number: int, time_ns: int) -> bytes:
        return self._template % (FIRST_REF + number, number, time_ns, number, time_ns)


class ResumingSession:
    """One account, over as many connections as it takes. `join` MUST be called before it is opened."""

    __slots__ = ("_account", "_connection", "_is_inside", "_swarm", "_upto", "inbound", "is_live", "number", "outbound")

    inbound: ResumingFlow
    outbound: ResumingFlow

    def __init__(self, swarm: ResumingSwarm, number: int, account: Account) -> None:
        self.number = number
        self.is_live = False  # logged in, and the backlog has come
        self._swarm = swarm
        self._account = account
        self._connection: Connection | None = None
        self._is_inside = False
        self._upto = b""

    def open(self) -> None:
        target = self._swarm.pairs.target
        try:
            self._connection = Connection(self._swarm.loop, target, source_of(self.number, target), LineFraming(), self)
        except OSError as error:
            self._come_back(f"{REFUSED}: {error.strerror}", _AGAIN_SECONDS)

    def send(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.send(data)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.is_live = False

    def ack(self) -> None:
        if self.is_live and self._upto:
            self.send(b'{"op":"ack","upto":"%b"}\n' % self._upto)

    # -- what its connection tells

    def on_open(self) -> None:
        login = {"op": "login", "ref": 1, "token": self._account.token, "device": self._account.device}
        if self._upto:
            login["since"] = self._upto.decode()
        self.send(msgspec.json.encode(login) + b"\n")

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        if frame.startswith(_MESSAGE):
            self._on_message(frame, now_ns)
        elif frame.startswith(_OK, _OK_AT) and frame.startswith(_REPLY):
            self._on_ok(int(frame[_REF_AT:_OK_AT]) - FIRST_REF)
        elif frame.startswith(PING):
            self._swarm.tally.keepalives += 1
            self.send(b'{"op":"ping"}\n')
        else:
            self._on_other(msgspec.json.decode(frame))

    def on_closed(self, reason: str) -> None:
        if reason.startswith("cannot connect"):
            self._come_back(REFUSED, _AGAIN_SECONDS)
        else:
            self._come_back(CUT if self._is_inside else TURNED_AWAY, _AGAIN_SECONDS)

    def _on_message(self, frame: bytes, now_ns: int) -> None:
        at = frame.find(_ID) + len(_ID)
        stamp = frame[at : at + STAMP_BYTES]
        number = int(stamp[NUMBER_AT:TIME_AT])
        tally = self._swarm.tally
        if stamp.startswith(self.outbound.prefix):  # its own, of which it may have missed the answer
            tally.answered += self.outbound.answered(number)
        elif self.inbound.ledger.deliver(number):
            tally.delivered += 1
            tally.latency.record(now_ns - int(stamp[TIME_AT:]))
        begin = frame.find(_AT) + len(_AT)
        self._upto = frame[begin : frame.index(b'"', begin)]

    def _on_ok(self, number: int) -> None:
        self._swarm.tally.answered += self.outbound.answered(number)

    def _on_other(self, fields: dict[str, object]) -> None:
        match fields:
            case {"re": 1, "ok": _}:
                self._is_inside = True
                self._swarm.tally.logged_in += 1
            case {"re": 1, "err": _}:
                self._come_back(TURNED_AWAY, _AGAIN_SECONDS)
            case {"ev": "synced"}:
                self.is_live = True
                self.outbound.repeat()
            case {"ev": "presence", "show": show}:
                self._swarm.tally.shown += show != "offline"
                if show == "offline":
                    self._swarm.tally.errors[FALSE_OFFLINE] += 1
            case {"ev": "bye", "reconnect": True, **more}:
                after = more.get("after")
                self._come_back(None, float(after) if isinstance(after, int | float) else 0.0)
            case {"err": {"code": code}}:
                self._swarm.tally.errors[f"send refused: {code}"] += 1
                self._swarm.call_later(_AGAIN_SECONDS, self._repeat)
            case {"ev": "bye" | "error"}:
                self._swarm.tally.errors[str(fields.get("code"))] += 1

    def _repeat(self) -> None:
        if self.is_live:
            self.outbound.repeat()

    def _come_back(self, error: str | None, after_seconds: float) -> None:
        if error is not None:
            self._swarm.tally.errors[error] += 1
        self.close()
        self._is_inside = False
        self._swarm.call_later(after_seconds, self.open)


class ResumingSwarm:
    """All sessions of one client process, and their conversations: what `client_process` needs of both."""

    def __init__(self, loop: ClientLoop, pairs: ResumingPairs, tally: Tally) -> None:
        self.loop = loop
        self.pairs = pairs
        self.tally = tally
        self.pacer: Pacer = Quiet()
        self.sessions = [ResumingSession(self, 2 * pairs.first + n, each) for n, each in enumerate(pairs.accounts)]
        self._flows = _flows(self.sessions, pairs)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._on_settled: Callable[[], None] | None = None
        loop.every(_TIMER_SECONDS, self._run_timers)
        loop.every(_ACK_SECONDS, self._ack)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), call))

    def connect(self, on_settled: Callable[[], None]) -> None:
        """Called back when everybody is in; a server that never lets them in is waited for without end."""
        self._on_settled = on_settled
        for session in self.sessions:
            session.open()

    def close(self) -> None:
        for session in self.sessions:
            session.close()
        self._timers.clear()

    def start(self, rate_per_second: float | None) -> None:
        if rate_per_second is None:
            raise ValueError("resuming sessions talk in an open loop only")
        self.pacer = OpenLoop(self._flows, rate_per_second, self.tally)

    def stop(self) -> None:
        self.pacer = Quiet()

    @property
    def outstanding(self) -> int:
        return sum(flow.ledger.outstanding for flow in self._flows)

    def settle(self) -> None:
        """Count what never came, came twice or came late; called once, at the end."""
        for flow in self._flows:
            self.tally.lost += flow.ledger.lost
            self.tally.duplicated += flow.ledger.duplicated
            self.tally.reordered += flow.ledger.reordered
            if flow.ledger.unanswered:
                self.tally.errors["sent and never answered"] += flow.ledger.unanswered

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
        if self._on_settled is not None and all(session.is_live for session in self.sessions):
            on_settled, self._on_settled = self._on_settled, None
            on_settled()

    def _ack(self) -> None:
        for session in self.sessions:
            session.ack()


def _flows(sessions: Sequence[ResumingSession], pairs: ResumingPairs) -> list[ResumingFlow]:
    """Both directions of every pair, which they are told."""
    flows = []
    for number, (left, right) in enumerate(zip(sessions[::2], sessions[1::2], strict=True)):
        recipients = pairs.accounts[2 * number + 1], pairs.accounts[2 * number]
        for direction, (sender, recipient) in enumerate(zip((left, right), recipients, strict=True)):
            prefix = flow_prefix(pairs.first + number, direction)
            template = send_template(prefix, recipient.user, pairs.body_bytes, LineFraming().frame)
            sender.outbound = ResumingFlow(prefix, template, sender)
            flows.append(sender.outbound)
        left.inbound, right.inbound = right.outbound, left.outbound
    return flows
