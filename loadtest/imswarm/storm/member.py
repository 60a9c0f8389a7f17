"""A session that comes back by itself, resumes where it was, and honours what the server tells it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Protocol

import msgspec

from imswarm.backoff import backoff_seconds, told_seconds
from imswarm.client_loop import ClientLoop
from imswarm.connection import Connection, source_of
from imswarm.framing import PING
from imswarm.population import Account, Crowd, Session
from imswarm.storm.flow import Flow

LOGIN_SECONDS = 30.0
"""So long a client waits for the answer to its login."""
_LOGIN = "login"


class Host(Protocol):
    """The process that a member lives in."""

    loop: ClientLoop
    crowd: Crowd
    refusals: Counter[str]
    errors: Counter[str]

    def at(self, due: float, member: Member) -> None:
        """Calls the member's `wake` then."""

    def on_live(self, member: Member) -> None: ...


class Member:
    __slots__ = (
        "_account",
        "_connection",
        "_failures",
        "_host",
        "_position",
        "_returns_at",
        "_wait",
        "attempts",
        "inbound",
        "is_live",
        "live_ns",
        "lost_ns",
        "number",
        "outbound",
        "started",
    )

    def __init__(self, host: Host, number: int, account: Account) -> None:
        """`number`: in the whole swarm."""
        self._host, self.number, self._account = host, number, account
        self._connection: Connection | None = None
        self._position = ""  # everything up to there has come
        self._failures = 0
        self._wait: float | None = None  # what the server has said
        self._returns_at = 0.0
        self.is_live = False
        self.started = 0.0
        self.attempts = 0
        self.live_ns: list[int] = []
        self.lost_ns: list[int] = []  # when it was live and its connection went
        self.outbound: Flow | None = None
        self.inbound: Flow | None = None

    @property
    def user(self) -> str:
        return self._account.user

    def connect(self) -> None:
        crowd, self.started = self._host.crowd, time.monotonic()
        self.attempts += 1
        self._host.at(self.started + LOGIN_SECONDS, self)
        try:
            source = source_of(self.number, crowd.target)
            self._connection = Connection(self._host.loop, crowd.target, source, Session.framing(crowd), self)
        except OSError as error:
            self.on_closed(f"cannot connect: {error.strerror}")

    def say(self, request: dict[str, Any]) -> None:
        assert self._connection is not None
        self._connection.send_frame(msgspec.json.encode(request))

    def wake(self, now: float) -> None:
        """A time that was asked for has come: to connect, to send again, or to give a login up."""
        if self._connection is None:
            if now >= self._returns_at:
                self.connect()
        elif self.is_live:
            self._send()
        elif now - self.started >= LOGIN_SECONDS:
            self._give_up("no answer to a login")

    def _send(self) -> None:
        if self.outbound is not None:
            self.outbound.pump(self)

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()

    # -- what the connection says

    def on_open(self) -> None:
        account = self._account
        login = {"op": "login", "ref": _LOGIN, "token": account.token, "device": account.device}
        self.say(login | ({"since": self._position} if self._position else {}))

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        if self._connection is None:
            return  # given up; what came in the same packet does not count
        if frame.startswith(PING):
            self._connection.answer_ping(frame)
            return
        fields = msgspec.json.decode(frame)
        if "re" in fields:
            self._on_reply(fields, now_ns)
            return
        match fields["ev"]:
            case "msg":
                self._on_message(fields, now_ns)
            case "synced":
                self._on_synced(fields, now_ns)
            case "bye":
                self._on_bye(fields)
            case "error" | "regressed" | "truncated" | "resend" as event:
                self._host.errors[f"{event} {fields.get('code', '')}"] += 1

    def on_closed(self, reason: str) -> None:
        self._connection = None
        if self.is_live:
            self.is_live = False
            self.lost_ns.append(time.monotonic_ns())
        if self.outbound is not None:
            self.outbound.interrupted()
        wait, self._wait = self._wait, None
        self._returns_at = time.monotonic() + (self._backoff() if wait is None else wait)
        self._host.at(self._returns_at, self)

    def _backoff(self) -> float:
        self._failures += 1
        return backoff_seconds(self._failures - 1)

    def _give_up(self, why: str, wait: float | None = None) -> None:
        """This connection is not worth keeping; `wait`: what the server said."""
        assert self._connection is not None
        self._host.refusals[why] += 1
        self._wait = None if wait is None else told_seconds(wait)
        self._connection.close()
        self.on_closed(why)

    # -- what the server says

    def _on_synced(self, push: dict[str, Any], now_ns: int) -> None:
        self._position = push["at"]
        self._failures = 0
        self.is_live = True
        self.live_ns.append(now_ns)
        self._host.on_live(self)
        self._send()

    def _on_bye(self, push: dict[str, Any]) -> None:
        if not push["reconnect"]:
            self._host.errors[f"bye {push['code']}"] += 1
        self._give_up(f"bye {push['code']}", push.get("after") or None)

    def _on_message(self, message: dict[str, Any], now_ns: int) -> None:
        self._position = message["at"]
        is_own = message["from"] == self.user
        flow = self.outbound if is_own else self.inbound
        number = None if flow is None else flow.number_of(message["id"])
        if flow is None or number is None:
            self._host.errors["a message of no conversation here"] += 1
        elif is_own:
            flow.answer(number, now_ns)
        else:
            flow.deliver(number, now_ns)

    def _on_reply(self, reply: dict[str, Any], now_ns: int) -> None:
        error, ref = reply.get("err"), reply["re"]
        if ref == _LOGIN:
            if error is not None:
                self._on_login_refused(error)
        elif self.outbound is not None:
            if error is None:
                self._position = _later(self._position, reply["ok"]["at"])
                self.outbound.answer(ref, now_ns)
                self.outbound.pump(self)
            else:
                self._on_send_refused(error)

    def _on_login_refused(self, error: dict[str, Any]) -> None:
        if "retry" not in error:
            self._host.errors[f"login: {error['code']}"] += 1
        self._give_up(f"login: {error['code']}", error.get("retry"))

    def _on_send_refused(self, error: dict[str, Any]) -> None:
        assert self.outbound is not None
        self._host.refusals[f"send: {error['code']}"] += 1
        self.outbound.interrupted()
        if "retry" in error:
            self._host.at(time.monotonic() + told_seconds(error["retry"]), self)
        else:
            self._host.errors[f"send: {error['code']}: {error['text']}"] += 1


def _later(one: str, other: str) -> str:
    return max(one, other, key=_order)


def _order(position: str) -> tuple[int, ...]:
    return tuple(map(int, (position or "0-0").split("-")))
