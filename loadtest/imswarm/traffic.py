"""The conversations of a client process: who talks to whom, and what became of every message.

A server frame in the expected shape is never parsed as JSON; a frame in any other shape is, and
means the same, so that only the cost depends on how the server orders its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from imswarm.pacing import ClosedLoop, Flow, OpenLoop, Pacer, Quiet
from imswarm.population import Population, Session
from imswarm.stamps import FIRST_REF, NUMBER_AT, STAMP_BYTES, TIME_AT, flow_prefix
from imswarm.stats import Tally

_MESSAGE, _ID, _BODY = b'{"ev":"msg",', b'"id":"', b'"body":"'
_REPLY, _REF_AT, _OK_AT, _OK = b'{"re":1', 6, 16, b',"ok":'

_ACK_ROUND_SECONDS = 1.0
_ACK_PARTS = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sessions, by their numbers in the crowd; `number` tells the pair from all others."""

    number: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the pairs of one client process do."""

    pairs: tuple[Pair, ...]
    window: int
    body_bytes: int
    ack: bool


class Talker:
    """One session of a pair: sends in one flow, receives the other."""

    def __init__(self, session: Session, outbound: Flow, inbound: Flow, traffic: Traffic) -> None:
        self._session = session
        self._outbound = outbound
        self._inbound = inbound
        self._traffic = traffic
        self._tally = traffic.tally
        self._last_message = b""
        session.connection.on_frame = self.on_frame

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        if frame.startswith(_MESSAGE):
            at = frame.find(_ID) + len(_ID)
            stamp = frame[at : at + STAMP_BYTES]
            if _BODY + stamp in frame and self._take_message(stamp, now_ns):
                self._last_message = frame
                return
        elif frame.startswith(_OK, _OK_AT) and frame.startswith(_REPLY):
            self._take_ok(int(frame[_REF_AT:_OK_AT]))
            return
        self._on_other(frame, now_ns)

    def _take_message(self, stamp: bytes, now_ns: int) -> bool:
        """False if it is no message of this conversation."""
        flow = self._inbound
        if not stamp.startswith(flow.prefix):
            return False
        number = int(stamp[NUMBER_AT:TIME_AT])
        if number >= flow.ledger.sent:
            return False
        if flow.ledger.deliver(number):
            self._tally.delivered += 1
            self._tally.latency.record(now_ns - int(stamp[TIME_AT:]))
            self._traffic.pacer.touch(flow)
        return True

    def _take_ok(self, ref: int) -> None:
        self._tally.answered += 1
        if not self._outbound.ledger.answer(ref - FIRST_REF):
            self._tally.errors["answered twice"] += 1
        self._traffic.pacer.touch(self._outbound)

    def _on_other(self, frame: bytes, now_ns: int) -> None:
        fields = msgspec.json.decode(frame)
        if "re" in fields:
            self._on_reply(fields)
        elif fields.get("ev") == "msg":
            self._on_message(fields, frame, now_ns)
        else:
            self._session.on_event(frame, now_ns)

    def _on_reply(self, reply: dict[str, Any]) -> None:
        if "ok" in reply:
            self._take_ok(reply["re"])
            return
        error = reply["err"]
        self._tally.errors[f"{error['code']}: {error['text']}"] += 1
        self._outbound.ledger.refuse(reply["re"] - FIRST_REF)
        self._traffic.pacer.touch(self._outbound)

    def _on_message(self, message: dict[str, Any], frame: bytes, now_ns: int) -> None:
        stamp = message["id"]
        intact = len(stamp) == STAMP_BYTES and str(message["body"]).startswith(stamp)
        if intact and self._take_message(stamp.encode(), now_ns):
            self._last_message = frame
        else:
            self._tally.errors["a message of no conversation here, or changed on its way"] += 1

    def ack(self) -> None:
        """Acknowledge the last message, if there is one that is not acknowledged yet."""
        if self._last_message:
            position = msgspec.json.decode(self._last_message)["at"]
            self._last_message = b""
            request = msgspec.json.encode({"op": "ack", "upto": position})
            self._session.connection.send_frame(request)


class Traffic:
    """All conversations of one client process. Begins quiet."""

    def __init__(
        self, population: Population, conversation: Conversation, tally: Tally, talker: type[Talker] = Talker
    ) -> None:
        self.tally = tally
        self.pacer: Pacer = Quiet()
        self._population = population
        self._talker = talker
        self._conversation = conversation
        self._flows: list[Flow] = []
        self._talkers: list[Talker] = []
        self._ack_part = 0
        if conversation.ack:
            population.loop.every(_ACK_ROUND_SECONDS / _ACK_PARTS, self._ack_some)

    def start(self, rate_per_second: float | None) -> None:
        """Open loop at this rate for all flows together; closed loop if None.

        Everybody must be logged in.
        """
        if not self._flows:
            for pair in self._conversation.pairs:
                self._join(pair)
        if not self._flows:
            return
        if rate_per_second is None:
            self.pacer = ClosedLoop(self._flows, self._conversation.window, self.tally)
        else:
            self.pacer = OpenLoop(self._flows, rate_per_second, self.tally)

    def stop(self) -> None:
        self.pacer = Quiet()

    @property
    def outstanding(self) -> int:
        """What may still come: messages between sessions that both live."""
        return sum(flow.ledger.outstanding for flow in self._flows if flow.alive)

    def settle(self) -> None:
        """Count what never came, came twice or came late; called once, at the end."""
        for flow in self._flows:
            ledger = flow.ledger
            self.tally.duplicated += ledger.duplicated
            self.tally.reordered += ledger.reordered
            if flow.recipient_present:
                self.tally.lost += ledger.lost
            else:
                self._note("not delivered: its recipient's session had ended", ledger.lost)
            self._note("sent and never answered", ledger.unanswered)

    def _note(self, error: str, count: int) -> None:
        if count:
            self.tally.errors[error] += count

    def _join(self, pair: Pair) -> None:
        sessions = self._population.sessions
        left, right = sessions[pair.left], sessions[pair.right]
        there, back = self._flow(pair, 0, left, right), self._flow(pair, 1, right, left)
        self._flows += (there, back)
        self._talkers += (self._talker(left, there, back, self), self._talker(right, back, there, self))

    def _flow(self, pair: Pair, direction: int, sender: Session, recipient: Session) -> Flow:
        prefix = flow_prefix(pair.number, direction)
        template = sender.template(prefix, recipient.user, self._conversation.body_bytes)
        return Flow(prefix, template, sender.connection, recipient.connection)

    def _ack_some(self) -> None:
        """A tenth of the talkers each time, so that acknowledgements do not come in bursts."""
        for talker in self._talkers[self._ack_part :: _ACK_PARTS]:
            talker.ack()
        self._ack_part = (self._ack_part + 1) % _ACK_PARTS
