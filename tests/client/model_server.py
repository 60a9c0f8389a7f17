"""A model of the server that the client's tests talk to: logs in memory, no sockets, and faults on demand.

It says what the protocol says and nothing more; what it does is meant to be read, not to be fast.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from imserver.errors import BadCredentials, Exists, ImError, NotFound, Overloaded, Unavailable
from imserver.protocol import codec
from imserver.protocol.commands import Ack, Command, History, Login, Logout, Ping, Ref, Register, Resend, Send
from imserver.protocol.pushes import Bye, MessagePush, Push, Regressed, ResendPush, Synced, Truncated, Welcome


class Sent(msgspec.Struct, omit_defaults=True):
    id: str
    at: str
    prev: str | None = None


class Page(msgspec.Struct):
    messages: list[MessagePush]
    more: bool


@dataclass
class ModelServer:
    tells_prev: bool = True  # the ok of a send names the position before it
    ping: float = 60.0
    max_frame: int = 65536
    passwords: dict[str, str] = field(default_factory=dict)
    logs: dict[str, list[MessagePush]] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)  # position of the newest entry, even if it is not kept any more
    stored: dict[tuple[str, str, str, str], str] = field(default_factory=dict)  # owner, sender, device, id -> position
    cursors: dict[tuple[str, str], str] = field(default_factory=dict)
    sessions: list["ModelSession"] = field(default_factory=list)
    faults: deque[str] = field(default_factory=deque)  # what befalls the next sends: see `ModelSession.send`
    time: int = 1000
    is_in_doubt: bool = False  # a failover was not long ago

    def add_user(self, user: str, password: str = "secret") -> None:
        self.passwords[user] = password
        self.logs[user] = []
        self.last[user] = "0-0"

    def connect(self) -> "ModelSession":
        return ModelSession(self)

    def lose_end(self, user: str, count: int) -> None:
        """A failover to a replica that had not got the newest entries, and nobody says so."""
        for _ in range(min(count, len(self.logs[user]))):
            lost = self.logs[user].pop()
            del self.stored[user, lost.sender, lost.device, lost.id]
            self.last[user] = lost.prev

    def fail_over(self, user: str, count: int) -> None:
        """The same, noticed: all who are connected are asked to send again."""
        self.lose_end(user, count)
        self.is_in_doubt = True
        for session in self.sessions:
            session.ask_to_resend()
            if session.user == user:
                session.push(Regressed(self.last[user]))

    def append(self, owner: str, message: dict[str, Any], origin: "ModelSession | None") -> tuple[str, str | None]:
        """Stores and pushes; the position, and the one before it unless this is a repeat."""
        key = (owner, message["sender"], message["device"], message["id"])
        if key in self.stored:
            return self.stored[key], None
        self.time += 1
        prev = self.last[owner]
        entry = MessagePush(at=f"{self.time}-0", prev=prev, **message)
        self.last[owner] = entry.at
        self.logs[owner].append(entry)
        self.stored[key] = entry.at
        for session in self.sessions:
            if session.user == owner and session is not origin:
                session.push(entry)
        return entry.at, prev


class ModelSession:
    """One connection. `out` holds the frames for the client."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.user = ""
        self.device = ""
        self.out: deque[bytes] = deque()
        self.heard: list[Command] = []
        self.takes_resend = False
        self.gates = 0  # how often it was asked to send again, and has not begun to

    def ask_to_resend(self) -> None:
        if self.takes_resend:
            self.gates += 1
            self.push(ResendPush(60))

    def _resend(self, command: Resend) -> None:
        self.gates -= 1

    def push(self, push: Push) -> None:
        self.out.append(codec.encode_push(push))

    def ok(self, ref: Ref, content: msgspec.Struct = codec.EMPTY) -> None:
        if ref is not None:
            self.out.append(codec.encode_reply(ref, content))

    def close(self) -> None:
        if self in self.server.sessions:
            self.server.sessions.remove(self)

    def bye(self, code: str, *, reconnect: bool, after: float = 0.0) -> None:
        self.push(Bye(code, f"because of {code}", reconnect, after))
        self.close()

    def receive(self, frame: bytes) -> None:
        command = codec.decode_command(frame)
        self.heard.append(command)
        handlers: dict[type[Command], Callable[[Any], None]] = {
            Register: self._register,
            Login: self._login,
            Send: self._send,
            Resend: self._resend,
            Ack: self._ack,
            History: self._history,
            Ping: lambda ping: self.ok(ping.ref),
            Logout: lambda logout: self.close(),
        }
        try:
            handlers[type(command)](command)
        except ImError as error:
            self.out.append(codec.encode_failure(command.ref, error))

    def _register(self, command: Register) -> None:
        if command.user in self.server.passwords:
            raise Exists(f"{command.user} exists")
        self.server.add_user(command.user, command.password)
        self.ok(command.ref)

    def _login(self, command: Login) -> None:
        self.user, self.device = self._check(command)
        for other in list(self.server.sessions):
            if (other.user, other.device) == (self.user, self.device):
                other.bye("replaced", reconnect=False)
        self.server.sessions.append(self)
        at = self.server.last[self.user]
        token = f"token:{self.user}:{self.device}"
        self.ok(command.ref, Welcome(self.user, self.device, token, 2**31, at, self.server.ping, self.server.max_frame))
        self.takes_resend = command.resend
        if self.server.is_in_doubt:
            self.ask_to_resend()
        self._give_backlog(command)

    def _check(self, command: Login) -> tuple[str, str]:
        if command.token is not None:
            word, _, rest = command.token.partition(":")
            user, _, device = rest.partition(":")
            if word != "token" or device != command.device:
                raise BadCredentials("the token is not valid")
            return user, device
        if command.user is None or self.server.passwords.get(command.user) != command.password:
            raise BadCredentials("wrong user or password")
        return command.user, command.device

    def _give_backlog(self, command: Login) -> None:
        since = command.since or self.server.cursors.get((self.user, self.device), "0-0")
        assert isinstance(since, str)
        if self.server.is_in_doubt and order(since) > order(self.server.last[self.user]):
            since = self.server.last[self.user]
            self.push(Regressed(since))
        log, last = [entry for entry in self.server.logs[self.user] if order(entry.at) > order(since)], self.server.last
        if log and order(log[0].prev) > order(since):
            self.push(Truncated(log[0].at))
        elif not log and order(last[self.user]) > order(since) and since != "0-0":
            self.push(Truncated(last[self.user]))
        elif log and order(log[0].prev) < order(since):
            self.push(Regressed(log[0].prev))
        for entry in log:
            self.push(entry)
        self.push(Synced(max(last[self.user], since, key=order)))

    def _send(self, command: Send) -> None:
        """Faults: `overloaded` and `unavailable` before anything is stored.

        `unavailable`, too, but stored: `half` after the recipient's log, `whole` after both.
        """
        if self.gates:
            raise Unavailable("send again first")
        fault = self.server.faults.popleft() if self.server.faults else ""
        if fault == "unavailable":
            raise Unavailable("the store is out of reach")
        if fault == "overloaded":
            raise Overloaded("the store is full", 1.0)
        if command.to not in self.server.logs:
            raise NotFound(f"there is no user {command.to}")
        message = {
            "sender": self.user,
            "device": self.device,
            "to": command.to,
            "id": command.id,
            "body": msgspec.json.decode(command.body),
        }
        if command.to != self.user:
            self.server.append(command.to, message, None)
        if fault == "half":
            raise Unavailable("the store is out of reach")
        # After a lost reply the server doesn't know that this session stands for the entry.
        at, prev = self.server.append(self.user, message, None if fault == "whole" else self)
        if fault == "whole":
            raise Unavailable("the store is out of reach")
        self.ok(command.ref, Sent(command.id, at, prev if self.server.tells_prev else None))

    def _ack(self, command: Ack) -> None:
        self.server.cursors[self.user, self.device] = command.upto
        self.ok(command.ref)

    def _history(self, command: History) -> None:
        with_partner = [
            entry
            for entry in self.server.logs[self.user]
            if command.partner in (entry.sender, entry.to)
            and (command.before is None or order(entry.at) < order(command.before))
        ]
        page = with_partner[-command.limit :]
        self.ok(command.ref, Page(page, len(page) < len(with_partner)))


def order(position: str) -> tuple[int, int]:
    milliseconds, _, counter = position.partition("-")
    return int(milliseconds), int(counter)
