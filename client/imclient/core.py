"""The conversation of one device with the server, without sockets, tasks or clocks.

A replica outlives its connections:

    OFFLINE --connected--> ENTERING --welcome--> CATCHING_UP --synced--> LIVE
       ^                       |                      |                   |
       `------ disconnected, bye, gap ----------------+-------------------'
    any --login refused, bye without return--> ENDED

The rules it keeps:

- Every message sent is confirmed exactly once, in order for each recipient, however often the connection is lost. It
  stays in the outbox until the server answers, and is repeated under its id.
- Messages are sent only while LIVE. What an earlier connection left without an answer has by then shown itself in the
  backlog if it was stored. So a repeat does not lean on the server's memory of ids alone, which has a window.
- Every message received is given exactly once, in the order of its log (see `cursor`). One that comes again at a new
  position, since the store had lost it, is known by its sender, device and id.
- What was confirmed lately is sent again when the server asks for it: `resend` first, then that, then what is newer.

The caller feeds it frames and takes frames; the time (`now`: seconds, monotonic) and chance are arguments.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from imclient.errors import ConnectionLost, SessionEnded, error_of
from imclient.events import (
    OWN_LOG,
    Answered,
    Contact,
    Ended,
    Event,
    GroupChanged,
    Message,
    Reconnect,
    Regressed,
    SendFailed,
    Sent,
    Synced,
    Truncated,
    Welcomed,
    group_changed,
)
from imclient.outbox import Outbox
from imclient.reader import Reader, Receipt
from imclient.said import contact_of, message_of, presence_of
from imclient.stages import CONNECTED, INSIDE, Identity, State
from imserver.errors import BadCredentials, BadRequest, ExpiredToken, ImError, NotLoggedIn, Overloaded, Unavailable
from imserver.protocol import codec, pushes
from imserver.protocol.commands import Command, Login, Logout, Ping, Resend

LOGIN_SECONDS = 30.0  # a server under a storm of logins may take its time
LEAST_RETRY_SECONDS = 0.1  # whatever the server says
MOST_REPEAT_SECONDS = 10.0  # of a message that is refused again and again, unless the server says more

_LOGIN, _PROBE = 0, 1  # refs; a send's ref is its id


class _Stored(msgspec.Struct):
    """The `ok` of a send. `prev` is told by newer servers, and not for a repeat."""

    at: str
    prev: str | None = None


class Replica:
    def __init__(self, identity: Identity, reader: Reader, outbox: Outbox, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to 1.

        Raises BadRequest where there is neither password nor token.
        """
        if identity.password is None and identity.token is None:
            raise BadRequest("password: a password or a token is needed to log in")
        self.identity = identity
        self.state = State.OFFLINE
        self.has_entered = False  # once at least
        self._reader = reader
        self._outbox = outbox
        self._random = random
        self._queue: list[Command] = []
        self._asked: set[int] = set()
        self._last_ref = _PROBE
        self._ping: float | None = None
        self._heard = 0.0
        self._is_probing = False

    # -- the connection

    def connected(self, now: float) -> None:
        """There is a connection; `take_frames` has the login."""
        self.state = State.ENTERING
        self._ping = None
        self._queue = [self._login()]
        self.heard(now)

    def _login(self) -> Login:
        who, since = self.identity, self._reader.since()
        if who.token is not None:
            return Login(ref=_LOGIN, device=who.device, token=who.token, since=since, resend=True)
        return Login(ref=_LOGIN, device=who.device, user=who.user, password=who.password, since=since, resend=True)

    def disconnected(self, error: ImError) -> list[Event]:
        """The connection is gone. Sends stay in the outbox; other requests fail with `error`."""
        self._go_offline()
        lost, self._asked = self._asked, set()
        self._outbox.interrupted()
        return [Answered(ref, error) for ref in sorted(lost)]

    def _go_offline(self) -> None:
        if self.state is not State.ENDED:
            self.state = State.OFFLINE
        self._queue.clear()

    def heard(self, now: float) -> None:
        """Bytes came from the server."""
        self._heard = now
        self._is_probing = False

    def dead_at(self) -> float:
        """When, with nothing heard until then, the connection is to be given up."""
        return self._heard + (LOGIN_SECONDS if self._ping is None else 2 * self._ping)

    # -- what the application wants

    def send(self, to: str, body: str | dict[str, Any]) -> str:
        """Queues a message and returns its id; `Sent` or `SendFailed` tells what became of it.

        Raises BadRequest for a bad name or text that can't be carried, and TooLarge.
        """
        return self._outbox.add(to, body)

    def withdraw(self, id: str) -> bool:
        """Takes a message back. False: it has left before, and is repeated until the server answers."""
        return self._outbox.withdraw(id)

    @property
    def unsent(self) -> int:
        """Messages without an answer."""
        return len(self._outbox)

    def ask(self, command: Command) -> int:
        """Queues a request and returns its ref, under which it is `Answered`. Raises ConnectionLost."""
        if self.state not in INSIDE:
            raise ConnectionLost(f"not connected: {self.state.value}")
        self._last_ref += 1
        command.ref = self._last_ref
        self._asked.add(self._last_ref)
        self._queue.append(command)
        return self._last_ref

    def keep(self, message: Message, now: float) -> list[Event]:
        """The application is done with all messages of that log up to this one."""
        if self._reader.keep(message.log, message.at, now) and self.state in INSIDE:
            return self._reconnect("messages came faster than they were taken", 0.0)
        return []

    def kept(self) -> dict[str, str]:
        """Log to position: what a replica made later is to be given as cursors."""
        return self._reader.kept()

    def leave(self) -> None:
        """The application goes; `take_frames` has the last words."""
        if self.state in INSIDE:
            self._queue += [*self._reader.take_acks(), Logout()]
        self.state = State.ENDED

    # -- what goes out

    def take_frames(self, now: float) -> list[bytes]:
        """What is to be sent now, in order."""
        if self.state in INSIDE:
            self._queue += self._due_acks(now) + self._due_probe(now)
        commands, self._queue = self._queue, []
        frames = [codec.encode_command(command) for command in commands]
        if self.state is State.LIVE:
            frames += [item.frame for item in self._outbox.due(now)]
        return frames

    def _due_acks(self, now: float) -> list[Command]:
        due = self._reader.ack_due
        return [*self._reader.take_acks()] if due is not None and due <= now else []

    def _due_probe(self, now: float) -> list[Command]:
        """The server may have nothing to say; then it is asked, before its silence means that it is dead."""
        if self._is_probing or self._ping is None or now < self._heard + self._ping:
            return []
        self._is_probing = True
        return [Ping(ref=_PROBE)]

    def next_due(self) -> float | None:
        """When `take_frames` has something again; None: not before something else happens."""
        if self.state not in INSIDE:
            return None
        times = [self._reader.ack_due]
        if self.state is State.LIVE:
            times.append(self._outbox.next_due())
        if self._ping is not None and not self._is_probing:
            times.append(self._heard + self._ping)
        return min((time for time in times if time is not None), default=None)

    # -- what comes in

    def receive(self, frame: bytes, now: float) -> list[Event]:
        """What a frame means. After `Reconnect` or `Ended` the rest of the connection is ignored."""
        if self.state not in CONNECTED:
            return []
        try:
            said = codec.decode_server_frame(frame)
            return self._on_reply(said, now) if isinstance(said, pushes.Reply) else self._on_push(said, len(frame), now)
        except (ImError, msgspec.DecodeError) as error:
            return self._reconnect(f"the server does not speak the protocol: {error}")

    def _on_push(self, push: pushes.AnyPush | pushes.UnknownPush, size: int, now: float) -> list[Event]:
        match push:
            case pushes.MessagePush():
                return self._on_message(push, size, now)
            case pushes.GroupPush():
                return self._on_group(push)
            case pushes.ContactPush():
                return self._on_entry(OWN_LOG, push.at, push.prev, contact_of(push), 0)
            case pushes.PresencePush() | pushes.TypingPush():
                return [presence_of(push)]
            case codec.UnknownEntry():
                return self._on_entry(push.log or OWN_LOG, push.at, push.prev, None, 0)
        return self._on_notice(push, now)

    def _on_notice(self, push: pushes.AnyPush | pushes.UnknownPush, now: float) -> list[Event]:
        match push:
            case pushes.Synced():
                return self._on_synced(push)
            case pushes.Truncated():
                return self._on_truncated(push)
            case pushes.Regressed():
                log = push.log or OWN_LOG
                return [Regressed(push.at, log)] if self._reader.regressed(log, push.at) else []
            case pushes.ResendPush():
                self._queue.append(Resend())  # each push is answered once
                self._outbox.resend(push.seconds, now)
            case pushes.PingPush():
                self._queue.append(Ping())
            case pushes.Bye():
                return self._on_bye(push)
        # An error that answers no ref is about an ack or a keepalive: the next one says the same again.
        return []

    def _on_bye(self, bye: pushes.Bye) -> list[Event]:
        if not bye.reconnect:
            return self._end(SessionEnded(bye.code, bye.text))
        return self._reconnect(bye.text or bye.code, bye.after if bye.after > 0 else None, bye.code)

    def _reconnect(self, why: str, after: float | None = None, bye: str | None = None) -> list[Event]:
        self._go_offline()
        return [Reconnect(why, after, bye)]

    def _end(self, error: ImError) -> list[Event]:
        self.state = State.ENDED
        return [Ended(error)]

    # -- entries

    def _on_message(self, push: pushes.MessagePush, size: int, now: float) -> list[Event]:
        log = push.log or OWN_LOG
        if self._is_own(push):
            return self._show_sent(push.id, push.at, now) + self._on_entry(log, push.at, push.prev, None, 0)
        if self._reader.comes_again((log, push.sender, push.device, push.id)):
            return self._on_entry(log, push.at, push.prev, None, 0)
        return self._on_entry(log, push.at, push.prev, message_of(push), size)

    def _is_own(self, push: pushes.MessagePush) -> bool:
        """Sent by this very replica: it is confirmed, not given."""
        who = self.identity
        return push.sender == who.user and push.device == who.device and self._outbox.has_made(push.id)

    def _on_group(self, push: pushes.GroupPush) -> list[Event]:
        changed = group_changed(push, self.identity.user)
        events = self._on_entry(changed.log, push.at, push.prev, changed, 0)
        if changed in events and push.group is not None and push.since is not None:
            self._reader.membership(push.group, push.change, push.since)
        return events

    def _on_entry(
        self, log: str, at: str, prev: str, event: Message | GroupChanged | Contact | None, size: int
    ) -> list[Event]:
        receipt = self._reader.receive(log, at, prev, size)
        if receipt is Receipt.GAP:
            return self._reconnect(f"an entry before {at} is missing", 0.0)
        if receipt is Receipt.DROPPED:
            return []
        events: list[Event] = [Truncated(at, log)] if receipt is Receipt.TAKEN_AFTER_HOLE else []
        if event is None:
            return events
        if isinstance(event, Message):
            self._reader.gave((log, event.sender, event.device, event.id), at)
        return [*events, event]

    def _on_truncated(self, push: pushes.Truncated) -> list[Event]:
        log = push.log or OWN_LOG
        if push.count:
            self._reader.skipped(log, push.at)
            return [Truncated(push.at, log, push.count)]
        return [Truncated(push.at, log)] if self._reader.lost_before(log) else []

    def _on_synced(self, push: pushes.Synced) -> list[Event]:
        lost = self._reader.synced(push.at)
        self.state = State.LIVE
        return [Synced()] if lost is None else [Truncated(lost), Synced()]

    # -- replies

    def _on_reply(self, reply: pushes.Reply, now: float) -> list[Event]:
        content = error_of(reply.err) if isinstance(reply.err, pushes.Failure) else reply.ok
        if isinstance(content, msgspec.UnsetType):
            raise BadRequest("a reply has neither ok nor err")
        if isinstance(reply.re, str):
            return self._on_send_reply(reply.re, content, now)
        if reply.re == _LOGIN:
            return self._on_login_reply(content)
        if isinstance(reply.re, int) and reply.re in self._asked:
            self._asked.remove(reply.re)
            return [Answered(reply.re, content)]
        return []

    def _on_login_reply(self, content: msgspec.Raw | ImError) -> list[Event]:
        if isinstance(content, msgspec.Raw):
            return self._on_welcome(msgspec.json.decode(content, type=pushes.Welcome))
        if content.retry is not None:
            is_ticket = isinstance(content, Overloaded)  # the server itself says a time of its own to each
            return self._reconnect(str(content), content.retry if is_ticket else self._spread(content.retry))
        if isinstance(content, BadCredentials | ExpiredToken) and self.identity.token and self.identity.password:
            self.identity.token = None
            self._queue.append(self._login())
            return []
        return self._end(content)

    def _on_welcome(self, welcome: pushes.Welcome) -> list[Event]:
        if welcome.user != self.identity.user:
            return self._end(BadCredentials(f"the token is {welcome.user}'s, not {self.identity.user}'s"))
        self.state = State.CATCHING_UP
        self.has_entered = True
        self.identity.token = welcome.token
        self._ping = max(welcome.ping, 1.0)
        self._outbox.max_frame = welcome.max_frame
        events: list[Event] = [Welcomed(welcome.user, welcome.device, welcome.token, welcome.expires)]
        if self._reader.welcomed(welcome.at):
            events.append(Regressed(welcome.at))
        for item, error in self._outbox.remove_too_large():
            events.append(SendFailed(item.id, item.to, error))
        return events

    def _on_send_reply(self, id: str, content: msgspec.Raw | ImError, now: float) -> list[Event]:
        if isinstance(content, msgspec.Raw):
            stored = msgspec.json.decode(content, type=_Stored)
            return self._confirm(id, stored, now)
        if isinstance(content, NotLoggedIn):
            return self._reconnect("the server has no session for this connection")
        if content.retry is None:
            return self._fail(id, content)
        refusals = self._outbox.refusals(id)
        due = now + self._wait_before_repeat(content.retry, refusals)
        self._outbox.postpone(id, due, may_be_stored=isinstance(content, Unavailable))
        return []

    def _wait_before_repeat(self, retry: float, refusals: int) -> float:
        """Longer with each refusal; and what made the server refuse one made it refuse many: they don't return in step.

        `refusals`: of this message, before this one.
        """
        return self._spread(max(retry, min(retry * 2.0**refusals, MOST_REPEAT_SECONDS)))

    def _spread(self, retry: float) -> float:
        return max(retry, LEAST_RETRY_SECONDS) * (1 + self._random() / 2)

    def _confirm(self, id: str, stored: _Stored, now: float) -> list[Event]:
        item = self._outbox.answered(id, now)
        if item is None:
            return []
        self._reader.replied(item.to if item.to.startswith("#") else OWN_LOG, stored.at, stored.prev)
        return [] if item.is_confirmed else [Sent(id, item.to, stored.at)]

    def _show_sent(self, id: str, at: str, now: float) -> list[Event]:
        """An own message came from the log: so it is stored, unless the recipient's log has lost it since."""
        is_news = self._outbox.confirm(id)
        item = self._outbox.find(id) if self._outbox.is_in_doubt else self._outbox.answered(id, now)
        return [Sent(id, item.to, at)] if is_news and item is not None else []

    def _fail(self, id: str, error: ImError) -> list[Event]:
        item = self._outbox.remove(id)
        return [] if item is None or item.is_confirmed else [SendFailed(id, item.to, error)]
