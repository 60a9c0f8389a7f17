"""One device's session, from its first byte to its last.

It takes commands from its channel, decides whether they are allowed now, and hands them to the rule that knows (a row
of `protocol.commands`, a handler of `routing`). It passes on what its tail forwards. However it ends, it ends in
`_end`, once.
"""

from functools import partial
from typing import NoReturn

import msgspec

from imserver.errors import ImError, NotAllowed, NotLoggedIn, Overloaded, RateLimited, Unavailable
from imserver.model import DeviceId, Entry, GroupId, Place, Position, UserId, is_group
from imserver.observe.log import get_logger
from imserver.protocol.commands import COMMANDS, Command, Ref
from imserver.protocol.lifecycle import SESSION, Event, State, advance
from imserver.protocol.limits import TokenBucket
from imserver.protocol.overload import Level, level_of, retry_after
from imserver.protocol.pushes import Bye, Push, ResendPush
from imserver.session.context import Channel, Context, RareHandler
from imserver.session.cursor import is_newer
from imserver.session.following import Following
from imserver.session.identity import Identity
from imserver.session.tail import Tail
from imserver.store.calls import OWES
from imserver.store.epochs import RESEND_SECONDS

log = get_logger("session")

# A client that was never in comes back by itself only if it is told when.
NEWCOMER_RETRY_SECONDS = 0.1

_NEVER = Level.NEVER  # looked up with every message
LOGOUT = "logout"


class Session:
    __slots__ = (
        "_bad_frames",
        "_bucket",
        "_holds",
        "acked",
        "asked",
        "channel",
        "context",
        "following",
        "heard",
        "identity",
        "opened",
        "resent",
        "sending",
        "state",
        "tail",
        "takes_resend",
    )

    def __init__(self, channel: Channel, context: Context) -> None:
        now = context.clock.now
        self.channel = channel
        self.context = context
        self.state = State.NEW
        self.identity: Identity | None = None
        self.tail: Tail | None = None
        self.following: Following | None = None  # groups, and what is to come before `synced`
        self.opened = self.heard = now
        self.acked: Position | None = None  # kept by the device, not stored yet
        self.sending: list[str] | None = None  # ids of the sends without an answer; None at rest
        self.takes_resend = False  # its client keeps what was confirmed
        self.asked = self.resent = 0  # how often it was asked to send it again; how often it has begun to
        self._bad_frames = 0
        self._holds = 0  # reasons not to take commands
        self._bucket = TokenBucket(context.settings.rate_burst, now)
        context.counters.sessions_opened += 1
        context.newcomers[self] = None
        context.wheel.add(self, now + min(context.settings.login_timeout_seconds, context.settings.ping_seconds))

    # -- who it is

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def user(self) -> UserId:
        assert self.identity is not None
        return self.identity.user

    @property
    def device(self) -> DeviceId:
        assert self.identity is not None
        return self.identity.device

    @property
    def place(self) -> Place:
        assert self.identity is not None
        return self.identity.place

    # -- commands

    def handle(self, command: Command) -> None:
        """One command, in the order in which the client sent them."""
        context, kind = self.context, type(command)
        _, states, hot, cost, shed, _ = COMMANDS[kind]
        try:
            if self.state not in states:
                self._refuse_in_state()
            wait = self._bucket.take(cost, context.limits, context.clock.now)
            if wait:
                self._refuse_in_excess(wait)
            if shed is not _NEVER:
                self._refuse_if_shed(shed, kind)
            handler = context.handlers[kind]
            if hot:
                handler(self, command)
            else:
                self.hold()
                context.spawn(self.run_rare, handler, command)
        except ImError as error:
            self.fail(command.ref, error)

    def charge(self, cost: float) -> None:
        """For what costs more than its row says. Raises RateLimited."""
        wait = self._bucket.take(cost, self.context.limits, self.context.clock.now)
        if wait:  # no misbehaviour: whoever had much under way when it lost its connection has much to repeat
            raise RateLimited("too much at once", round(wait, 3) + 0.001)

    def _refuse_in_state(self) -> NoReturn:
        if self.state is State.INSIDE:
            raise NotAllowed(f"already logged in as {self.user}")
        raise NotLoggedIn("log in first")

    def _refuse_in_excess(self, wait: float) -> NoReturn:
        self._misbehaved("flood", "requests came faster than allowed for too long")
        raise RateLimited("too many requests", round(wait, 3) + 0.001)

    def _refuse_if_shed(self, shed: Level, kind: type[Command]) -> None:
        context = self.context
        strain = context.strain(None if self.identity is None else self.identity.user)
        if level_of(strain) >= shed:
            context.counters.shed_command(kind.__name__.lower())
            raise Overloaded("the server has too much to do", retry_after(strain, context.random()))

    async def run_rare(self, handler: RareHandler, command: Command) -> None:
        """While it runs, the client's next commands wait: they take effect in the order sent. `hold` comes before."""
        try:
            await handler(self, command)
        except ImError as error:
            self.fail(command.ref, error)
        except Exception:
            log.exception("a command failed", op=type(command).__name__)
            self.fail(command.ref, Unavailable("the server made a mistake; it has been noted"))
        finally:
            self.release()

    def refuse(self, ref: Ref, error: ImError) -> None:
        """A frame that is no command."""
        self._misbehaved("bad-frame", "too many bad frames")
        self.fail(ref, error)

    def _misbehaved(self, code: str, text: str) -> None:
        self._bad_frames += 1
        if self._bad_frames > self.context.settings.max_bad_frames:
            self.expel(code, text, reconnect=False)

    def hold(self) -> None:
        """Stops taking commands until `release` has been called as often as this."""
        self._holds += 1
        if self._holds == 1 and not self.is_closed:
            self.channel.pause()

    def release(self) -> None:
        self._holds -= 1
        if self._holds == 0 and not self.is_closed:
            self.channel.resume()

    # -- what the client is told

    def reply(self, ref: Ref, content: msgspec.Struct) -> None:
        if ref is not None and self.state is not State.CLOSED:
            self.channel.reply(ref, content)

    def fail(self, ref: Ref, error: ImError) -> None:
        errors = self.context.counters.errors
        errors[error.code] = errors.get(error.code, 0) + 1
        if not self.is_closed:
            self.channel.fail(ref, error)

    def push(self, push: Push) -> None:
        if not self.is_closed:
            self.channel.push(push)

    # -- following its log

    def on_drained(self) -> None:
        """The channel has sent all that was kept."""
        if self.tail is not None:
            self.tail.drained()
        if self.following is not None:
            for tail in tuple(self.following.tails.values()):
                tail.drained()

    def tail_of(self, log: str) -> Tail | None:
        """Of the own log, or of a group's that is followed."""
        if not is_group(log):
            return self.tail
        return None if self.following is None else self.following.tails.get(GroupId(log))

    def caught_up(self, tail: Tail) -> None:
        """A log has been read to its end."""
        if self.following is not None:
            self.following.caught_up(tail.log)

    @property
    def is_synced(self) -> bool:
        """The client was told that the backlog is over."""
        return self.tail is not None and (self.following is None or self.following.is_synced)

    def cannot_read(self, tail: Tail) -> None:
        """The store does not give a log."""
        if self.following is not None and is_group(tail.log):
            self.following.cannot_read(tail)
        else:
            self.send_away("the log can't be read now")

    def on_group_event(self, tail: Tail, entry: Entry) -> None:
        """An entry about a group was forwarded: the user may have joined, or left."""
        (self.following or Following(self)).on_event(tail, entry)

    # -- logging in

    def enter(self) -> None:
        self.state = advance(SESSION, self.state, Event.ENTER)

    def refused(self) -> None:
        if not self.is_closed:
            self.state = advance(SESSION, self.state, Event.REFUSED)

    def new_place(self, device: DeviceId) -> Place:
        """Where this session is, never used before."""
        self.context.opened += 1
        return Place(b"%b=%b.%x" % (device.encode(), self.context.store.node.encode(), self.context.opened))

    def welcome(self, identity: Identity, position: Position, end: Position, *, new_device: bool) -> None:
        """Logged in, and in the directory: what is published comes here. `tail.begin` MUST follow, after the reply.

        The client has everything up to `position`; the log ends at `end`.
        """
        self.state = advance(SESSION, self.state, Event.WELCOMED)
        self.identity = identity
        self.tail = Tail(self, identity.user, position, end, new_device=new_device)
        self.following = Following(self, end, is_synced=False)
        del self.context.newcomers[self]
        self.channel.admitted()
        self.context.registry.add(identity.user, self)
        self.context.counters.logins += 1
        log.debug("session opened", user=identity.user, device=identity.device)

    # -- sending

    def started_sending(self, message_id: str) -> None:
        """A send is on its way. With too many of them the client has to wait: nobody buffers for it."""
        if self.sending is None:
            self.sending = []
        self.sending.append(message_id)
        if len(self.sending) == self.context.settings.in_flight_sends:
            self.hold()

    def finished_sending(self, message_id: str) -> None:
        assert self.sending is not None
        was_full = len(self.sending) == self.context.settings.in_flight_sends
        self.sending.remove(message_id)
        if not self.sending:
            self.sending = None
        if was_full:
            self.release()

    # -- sending again

    def ask_to_resend(self) -> None:
        """What was confirmed may be lost. Nothing newer may get in before it: until the client says `resend`, nothing.

        The client answers each push once, so that no answer to an earlier one lets it in too soon.
        """
        if self.takes_resend and not self.is_closed:
            self.asked += 1
            self.push(ResendPush(RESEND_SECONDS))

    def begin_resend(self) -> None:
        """What the client sends from here on is what it was asked for."""
        self.resent = min(self.resent + 1, self.asked)

    # -- acknowledging

    def keep(self, position: Position) -> None:
        """The device has kept everything up to `position`; stored within a second, many at once."""
        if self.acked is None or is_newer(position, self.acked):
            self.acked = position
        self.context.cursors[self] = None

    def store_acked(self) -> None:
        """What was kept since this was called last."""
        if self.acked is not None:
            self.context.marking.kept(self, self.acked)
            self.acked = None
        if self.following is not None:
            self.following.store_acked()

    # -- time

    def on_timer(self, now: float) -> float | None:
        """Login time-out, keepalive, a client that takes nothing. Called by the timer wheel."""
        settings = self.context.settings
        if self.is_closed:
            return None
        if self.state is not State.INSIDE:
            if self in self.context.entrance:
                return now + min(settings.login_timeout_seconds, settings.ping_seconds)  # it waits, not we
            due = self.opened + settings.login_timeout_seconds
            if now < due:
                return min(due, now + settings.ping_seconds)  # it may log in meanwhile
            self.expel("login-timeout", f"no login within {settings.login_timeout_seconds:g} s", reconnect=True)
            return None
        if self.channel.stuck_seconds(now) >= settings.stuck_seconds:
            self.channel.drop("took nothing for too long")
            return None
        silent = now - self.heard
        if silent >= 2 * settings.ping_seconds:
            self.expel("idle", f"nothing heard for {silent:.0f} s", reconnect=True)
            return None
        if silent < settings.ping_seconds:
            return self.heard + settings.ping_seconds
        self.channel.keepalive()
        return self.heard + 2 * settings.ping_seconds

    # -- the end

    def expel(self, code: str, text: str, *, reconnect: bool, after: float = 0.0) -> None:
        """The server ends it: says why, then closes."""
        if self.is_closed:
            return
        byes = self.context.counters.byes
        byes[code] = byes.get(code, 0) + 1
        self._end(code)  # first: where the client is gone already, the channel says so while it is told
        self.channel.push(Bye(code, text, reconnect, after))
        self.channel.close()

    def expelled(self, why: str) -> None:
        """The store says that this session must go: `replaced` or `revoked`."""
        text = "this device has logged in elsewhere" if why == "replaced" else "this login was revoked"
        self.expel(why, text, reconnect=False)

    def send_away(self, text: str) -> None:
        """It can't be served now; many may be sent away at once, so each comes back at another time."""
        self.expel("unavailable", text, reconnect=True, after=round(1 + self.context.random(), 3))

    def send_elsewhere(self) -> None:
        """It is not in yet, and this worker takes nobody in any more; another one does."""
        self.expel("drain", "this server is being replaced", reconnect=True, after=NEWCOMER_RETRY_SECONDS)

    def leave(self, why: str = LOGOUT) -> None:
        """The client ends it: by a logout, or, with another `why`, only the connection: it may be back at once."""
        if not self.is_closed:
            self._end(why)
            self.channel.close()

    def lost(self, why: str) -> None:
        """The connection is gone; the channel has closed itself."""
        if not self.is_closed:
            self._end(why)

    def _end(self, why: str) -> None:
        self.state = advance(SESSION, self.state, Event.CLOSE)
        context, identity = self.context, self.identity
        context.counters.sessions_closed += 1
        context.cursors.pop(self, None)
        context.newcomers.pop(self, None)
        if identity is not None:
            if self.following is not None:
                self.following.close()
            context.registry.remove(identity.user, self)
            untold = self.tail.forget_forwarded() if self.tail is not None else None
            if (kept := self.acked or untold) is not None:  # `detach` stores it as well, but tells no sender
                context.marking.kept(self, kept)
            context.store.detach(identity.user, identity.place, self.acked, partial(self._went, why == LOGOUT))
            log.debug("session closed", user=identity.user, device=identity.device, why=why)

    def _went(self, said_so: bool, reply: object) -> None:
        """It has left the directory."""
        if reply == OWES:
            self.context.attendance.went(self.user, self.place, said_so=said_so)
