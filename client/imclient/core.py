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

Its parts: `entries` (what the logs bring), `confirming` (what becomes of what is sent), `keepalive`. Here is what has
to do with the connection as a whole. The caller feeds it frames and takes frames; the time (`now`: seconds, monotonic)
and chance are arguments.
"""

from collections.abc import Callable
from typing import Any, Unpack

import msgspec

from imclient.confirming import Confirming
from imclient.entries import Entries, LogPush
from imclient.errors import ConnectionLost, SessionEnded, error_of
from imclient.events import Answered, Ended, Entry, Event, Reconnect, Regressed, SendFailed, Welcomed
from imclient.journal import Journal, Mark
from imclient.keepalive import PROBE, Keepalive
from imclient.outbox import Extras, Outbox
from imclient.reader import Reader
from imclient.said import MarkPush, marks_of, presence_of
from imclient.stages import CONNECTED, INSIDE, Identity, State
from imserver.errors import BadCredentials, BadRequest, ExpiredToken, ImError, Overloaded
from imserver.protocol import codec, pushes
from imserver.protocol.commands import Command, Delete, Edit, Login, Logout, Ping, React, Resend

_LOGIN = 0  # its ref; a send's is its id


class Replica:
    def __init__(
        self,
        identity: Identity,
        reader: Reader,
        outbox: Outbox,
        random: Callable[[], float],
        journal: Journal | None = None,
    ) -> None:
        """`random` gives numbers from 0 to 1. `journal`: the one of reader and outbox, where they have one.

        Raises BadRequest where there is neither password nor token.
        """
        if identity.password is None and identity.token is None:
            raise BadRequest("password: a password or a token is needed to log in")
        self.identity = identity
        self.state = State.OFFLINE
        self.has_entered = False  # once at least; before this program began, too, if the file says so
        self._reader = reader
        self._outbox = outbox
        self._queue: list[Command] = []
        self._asked: set[int] = set()
        self._last_ref = PROBE
        self._keepalive = Keepalive()
        journal = journal or Journal()
        self._confirming = Confirming(identity, outbox, reader, random, journal)
        self._entries = Entries(identity, reader, outbox, self._confirming, journal)

    # -- the connection

    def connected(self, now: float) -> None:
        """There is a connection; `take_frames` has the login."""
        self.state = State.ENTERING
        self._queue = [self._login()]
        self._keepalive.connected(now)

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
        self._keepalive.heard(now)

    def dead_at(self) -> float:
        """When, with nothing heard until then, the connection is to be given up."""
        return self._keepalive.dead_at()

    # -- what the application wants

    def send(
        self,
        to: str,
        body: str | dict[str, Any],
        *,
        id: str | None = None,
        again: bool = False,
        **extras: Unpack[Extras],
    ) -> str:
        """Queues a message and returns its id; `Sent` or `SendFailed` tells what became of it.

        Raises BadRequest for a bad name or id, an extra that can't be, or text that can't be carried, and TooLarge.
        """
        return self._outbox.add(to, body, extras, id=id, again=again)

    def amend(self, to: str, command: Edit | Delete | React) -> str:
        """The same for what changes a message; `id` and `ref` are set here."""
        return self._outbox.amend(to, command)

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

    def keep(self, entry: Entry, now: float) -> list[Event]:
        """The application is done with all entries of that log up to this one."""
        if self._reader.keep(entry.log, entry.at, now) and self.state in INSIDE:
            return self._obey([Reconnect("messages came faster than they were taken", 0.0)])
        return []

    def kept(self) -> dict[str, str]:
        """Log to position: what a replica made later is to be given as cursors."""
        return self._reader.kept()

    def mark(self) -> Mark:
        """How far everything is by now. What has happened since the last one is in the journal."""
        return Mark(self._reader.kept(), self._outbox.last_number)

    def saved(self, mark: Mark, now: float) -> None:
        """Everything up to this mark is in the file: so much may be acknowledged, and sent."""
        self._reader.saved(mark.cursors, now)
        self._outbox.saved(mark.number)

    def leave(self) -> None:
        """The application goes; `take_frames` has the last words."""
        if self.state in INSIDE:
            self._queue += [*self._reader.take_acks(), Logout()]
        self.state = State.ENDED

    # -- what goes out

    def take_frames(self, now: float) -> list[bytes]:
        """What is to be sent now, in order."""
        if self.state in INSIDE:
            self._queue += [*self._due_acks(now), *self._keepalive.due_probe(now)]
        commands, self._queue = self._queue, []
        frames = [codec.encode_command(command) for command in commands]
        if self.state is State.LIVE:
            frames += [item.frame for item in self._outbox.due(now)]
        return frames

    def _due_acks(self, now: float) -> list[Command]:
        due = self._reader.ack_due
        return [*self._reader.take_acks()] if due is not None and due <= now else []

    def next_due(self) -> float | None:
        """When `take_frames` has something again; None: not before something else happens."""
        if self.state not in INSIDE:
            return None
        times = [self._reader.ack_due, self._keepalive.next_due()]
        if self.state is State.LIVE:
            times.append(self._outbox.next_due())
        return min((time for time in times if time is not None), default=None)

    # -- what comes in

    def receive(self, frame: bytes, now: float) -> list[Event]:
        """What a frame means. After `Reconnect` or `Ended` the rest of the connection is ignored."""
        if self.state not in CONNECTED:
            return []
        try:
            said = codec.decode_server_frame(frame)
            if isinstance(said, pushes.Reply):
                return self._obey(self._on_reply(said, now))
            return self._obey(self._on_push(said, len(frame), now))
        except (ImError, msgspec.DecodeError) as error:
            return self._obey([Reconnect(f"the server does not speak the protocol: {error}")])

    def _obey(self, events: list[Event]) -> list[Event]:
        """What they say of the connection is so at once."""
        for event in events:
            if isinstance(event, Reconnect):
                self._go_offline()
            elif isinstance(event, Ended):
                self.state = State.ENDED
        return events

    def _on_push(self, push: pushes.AnyPush | pushes.UnknownPush, size: int, now: float) -> list[Event]:
        if isinstance(push, LogPush):
            return self._entries.on_push(push, size, now)
        if isinstance(push, pushes.PresencePush | pushes.TypingPush):
            return [presence_of(push)]
        if isinstance(push, MarkPush):
            return [marks_of(push)]
        return self._on_notice(push, now)

    def _on_notice(self, push: pushes.AnyPush | pushes.UnknownPush, now: float) -> list[Event]:
        match push:
            case pushes.Synced():
                self.state = State.LIVE
                return self._entries.on_synced(push)
            case pushes.Truncated():
                return self._entries.on_truncated(push)
            case pushes.Regressed():
                return self._entries.on_regressed(push)
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
            return [Ended(SessionEnded(bye.code, bye.text))]
        return [Reconnect(bye.text or bye.code, bye.after if bye.after > 0 else None, bye.code)]

    # -- replies

    def _on_reply(self, reply: pushes.Reply, now: float) -> list[Event]:
        content = error_of(reply.err) if isinstance(reply.err, pushes.Failure) else reply.ok
        if isinstance(content, msgspec.UnsetType):
            raise BadRequest("a reply has neither ok nor err")
        if isinstance(reply.re, str):
            return self._confirming.on_reply(reply.re, content, now)
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
            after = content.retry if is_ticket else self._confirming.spread(content.retry)
            return [Reconnect(str(content), after)]
        if isinstance(content, BadCredentials | ExpiredToken) and self.identity.token and self.identity.password:
            self.identity.token = None
            self._queue.append(self._login())
            return []
        return [Ended(content)]

    def _on_welcome(self, welcome: pushes.Welcome) -> list[Event]:
        if welcome.user != self.identity.user:
            return [Ended(BadCredentials(f"the token is {welcome.user}'s, not {self.identity.user}'s"))]
        self.state = State.CATCHING_UP
        self.has_entered = True
        self.identity.token = welcome.token
        self._keepalive.welcomed(welcome.ping)
        self._outbox.max_frame = welcome.max_frame
        events: list[Event] = [Welcomed(welcome.user, welcome.device, welcome.token, welcome.expires)]
        if self._reader.welcomed(welcome.at):
            events.append(Regressed(welcome.at))
        for item, error in self._outbox.remove_too_large():
            events.append(SendFailed(item.id, item.to, error))
        return events
