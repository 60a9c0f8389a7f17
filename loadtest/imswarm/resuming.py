"""Raw sessions that come back: as cheap as those of `population`, where workers are replaced and people come and go.

A session whose connection has ended logs in again with the positions of the last entries that it has got, and repeats,
under their ids, the messages that have no answer. What is due meanwhile waits, and carries the time at which it was
due: whoever measures sees the interruption as delay. Only who is out on purpose says nothing, and what waited for it
in the log counts as read from there (`Tally.waited`), not as delay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from imswarm.backoff import backoff_seconds, told_seconds
from imswarm.client_loop import ClientLoop
from imswarm.connection import Address, Connection, source_of
from imswarm.flows import ResumingFlow
from imswarm.framing import PING, Framing
from imswarm.population import Account, new_framing
from imswarm.stamps import NUMBER_AT, PREFIX_BYTES, STAMP_BYTES, TIME_AT
from imswarm.stats import Tally

REFUSED, TURNED_AWAY, CUT = INCIDENTS = ("refused", "turned-away", "cut")
"""Errors of the tally: nobody to connect to; no login; a session that ended without a `bye`."""
SETUP = "setup"
"""The `ref` of requests that prepare a run."""

_MESSAGE, _ID, _AT, _LOG = b'{"ev":"msg",', b'"id":"', b'"at":"', b'"log":'
_REPLY, _REF_AT, _OK_AT, _OK = b'{"re":1', 6, 16, b',"ok":'
_SETUP_REPLY = b'{"re":"%b"' % SETUP.encode()
_AGAIN_SECONDS = 0.1


class Host(Protocol):
    """The process that a session lives in."""

    loop: ClientLoop
    tally: Tally
    flows: dict[bytes, ResumingFlow]
    """By the first digits of their stamps."""
    began_ns: int
    """What is older was said in another run."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> None: ...
    def on_live(self, session: ResumingSession) -> None: ...
    def on_lost(self, session: ResumingSession) -> None: ...
    def on_setup_reply(self, reply: dict[str, Any]) -> None: ...


class ResumingSession:
    """One account, over as many connections as it takes. What it says (`outbound`) is given before it is opened."""

    __slots__ = (
        "_account",
        "_connection",
        "_failures",
        "_group_upto",
        "_host",
        "_is_inside",
        "_live_ns",
        "_started_ns",
        "_target",
        "_told",
        "_transport",
        "_upto",
        "_was_out_ns",
        "group",
        "is_live",
        "is_out",
        "number",
        "outbound",
    )

    def __init__(self, host: Host, number: int, account: Account, transport: str, target: Address) -> None:
        """`number`: in the whole swarm."""
        self.number = number
        self.is_live = False  # logged in, and the backlog has come
        self.is_out = False
        self.outbound: tuple[ResumingFlow, ...] = ()
        self.group = ""
        self._host = host
        self._account = account
        self._transport, self._target = transport, target
        self._connection: Connection | None = None
        self._is_inside = False
        self._failures = 0
        self._started_ns = self._live_ns = 0
        self._was_out_ns = 0  # what was due before, waited in the log
        self._upto = self._group_upto = b""
        self._told: dict[str, int] = {}  # when the newest presence of each contact was due

    @property
    def user(self) -> str:
        return self._account.user

    def framing(self) -> Framing:
        return new_framing(self._transport, self._target)

    def open(self) -> None:
        self._started_ns = time.monotonic_ns()
        try:
            source = source_of(self.number, self._target)
            self._connection = Connection(self._host.loop, self._target, source, self.framing(), self)
        except OSError as error:
            self._come_back(f"{REFUSED}: {error.strerror}", None)

    def send(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.send(data)

    def say(self, request: dict[str, Any]) -> None:
        """A request of which nothing is remembered."""
        assert self._connection is not None
        self._connection.send_frame(msgspec.json.encode(request))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self.is_live:
            self.is_live = False
            self._host.on_lost(self)
        self._is_inside = False

    def go_out(self) -> None:
        """Log out, and stay away until `come_in`."""
        self.is_out = True
        self.say({"op": "logout"})
        self.close()

    def come_in(self) -> None:
        if self.is_out:
            self.is_out = False
            self._was_out_ns = -1  # until it has read what waited
            self.open()

    def ack(self) -> None:
        if self.is_live and self._upto:
            self.say({"op": "ack", "upto": self._upto.decode()})
        if self.is_live and self._group_upto:
            self.say({"op": "ack", "upto": self._group_upto.decode(), "log": self.group})

    # -- what its connection tells

    def on_open(self) -> None:
        login: dict[str, Any] = {
            "op": "login",
            "ref": 1,
            "token": self._account.token,
            "device": self._account.device,
        }
        positions = (("", self._upto), (self.group, self._group_upto))
        since = {log: position.decode() for log, position in positions if position}
        if since:
            login["since"] = since
        self.say(login)

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        if frame.startswith(_MESSAGE):
            self._on_message(frame, now_ns)
        elif frame.startswith(_OK, _OK_AT) and frame.startswith(_REPLY):
            self._on_ok(frame)
        elif frame.startswith(PING):
            assert self._connection is not None
            self._host.tally.keepalives += 1
            self._connection.answer_ping(frame)
        else:
            self._on_other(msgspec.json.decode(frame), now_ns)

    def on_closed(self, reason: str) -> None:
        if reason.startswith("cannot connect"):
            self._come_back(REFUSED, None)
        else:
            self._come_back(CUT if self._is_inside else TURNED_AWAY, None)

    def _on_message(self, frame: bytes, now_ns: int) -> None:
        stamp = _stamp(frame)
        tally = self._host.tally
        flow = self._host.flows.get(stamp[:PREFIX_BYTES]) if stamp.isdigit() else None
        if flow is None or (due_ns := int(stamp[TIME_AT:])) < self._host.began_ns:
            tally.stray += 1
        elif flow.is_from(self.number):  # its own, of which it may have missed the answer
            tally.answered += flow.answered(int(stamp[NUMBER_AT:TIME_AT]))
        elif not flow.is_for(self.number):
            tally.errors["a message for somebody else"] += 1
        elif flow.deliver(int(stamp[NUMBER_AT:TIME_AT]), self.number):
            tally.delivered += 1
            self._record_delay(due_ns, now_ns)
        begin = frame.find(_AT) + len(_AT)
        position = frame[begin : frame.index(b'"', begin)]
        if frame.find(_LOG, 0, frame.find(_ID)) > 0:
            self._group_upto = position
        else:
            self._upto = position

    def _record_delay(self, due_ns: int, now_ns: int) -> None:
        if self._was_out_ns < 0 or due_ns < self._was_out_ns:
            self._host.tally.waited += 1
        else:
            self._host.tally.latency.record(now_ns - due_ns)

    def _on_ok(self, frame: bytes) -> None:
        stamp = _stamp(frame)
        flow = self._host.flows.get(stamp[:PREFIX_BYTES])
        if flow is not None:
            self._host.tally.answered += flow.answered(int(stamp[NUMBER_AT:TIME_AT]))

    def _on_other(self, fields: dict[str, Any], now_ns: int) -> None:
        tally = self._host.tally
        match fields:
            case {"re": 1, "ok": _}:
                self._is_inside = True
                tally.logged_in += 1
            case {"re": 1, "err": error}:
                self._come_back(TURNED_AWAY, error.get("retry"))
            case {"re": re} if re == SETUP:
                self._host.on_setup_reply(fields)
            case {"ev": "synced"}:
                self._enter(now_ns)
            case {"ev": "presence"}:
                self._on_presence(fields, now_ns)
            case {"ev": "bye", "reconnect": True, **more}:
                self._come_back(None, float(more.get("after") or 0.0))
            case {"err": {"code": code}}:
                tally.errors[f"send refused: {code}"] += 1
                self._host.call_later(_AGAIN_SECONDS, self._repeat)
            case {"ev": "error", "code": "overloaded"}:  # presence, the only thing it says without `ref`
                tally.shed += 1
            case {"ev": "bye" | "error"}:
                tally.errors[str(fields.get("code"))] += 1

    def _on_presence(self, fields: dict[str, Any], now_ns: int) -> None:
        is_offline = fields["show"] == "offline"
        self._host.tally.shown += not is_offline
        self._host.tally.shown_offline += is_offline
        if "status" in fields:
            self._on_status(fields["user"], fields["status"], now_ns)

    def _on_status(self, user: str, status: str, now_ns: int) -> None:
        """The status is the time at which it was due. What was due before the login, or told before, comes again."""
        due_ns = int(status) if status.isdigit() else 0
        if due_ns > max(self._live_ns, self._told.get(user, 0)):
            self._told[user] = due_ns
            self._host.tally.presence.record(now_ns - due_ns)

    def _enter(self, now_ns: int) -> None:
        self.is_live = True
        self._failures = 0
        self._live_ns = now_ns
        if self._was_out_ns < 0:
            self._was_out_ns = now_ns
        self._host.tally.entry.record(now_ns - self._started_ns)
        self._host.on_live(self)
        self._repeat()

    def _repeat(self) -> None:
        if self.is_live:
            for flow in self.outbound:
                flow.repeat()

    def _come_back(self, error: str | None, after_seconds: float | None) -> None:
        """`after_seconds`: what the server said; None: nothing."""
        if self.is_out:
            return
        if error is not None:
            self._host.tally.errors[error] += 1
        self.close()
        if after_seconds is None:
            wait = backoff_seconds(self._failures)
            self._failures += 1
        else:
            wait = told_seconds(after_seconds)
        self._host.call_later(wait, self._open_again)

    def _open_again(self) -> None:
        if not self.is_out:
            self.open()


def _stamp(frame: bytes) -> bytes:
    at = frame.find(_ID) + len(_ID)
    return frame[at : at + STAMP_BYTES]
