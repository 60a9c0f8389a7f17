"""One-to-one messages: the straight line from the sender's command to the recipient's sessions.

**Invariant: stored, then acknowledged.** The entry is in the recipient's log and in the sender's own before the sender
is told. Where one call reaches both logs it goes into both at once. In a cluster, where they lie in two slots,
the recipient's comes first: were it the other way round, a worker that dies in between would leave a message
that its sender's devices show as sent and nobody received. This way a repeat of the send (same id) finds the first half
done and completes it; a client that gets no answer repeats.

**Invariant: nothing newer overtakes what is sent again.** When a shard may have lost its newest entries, each session
is asked to send again what was confirmed. From then on its sends are refused until it says that it does so; those half
done are, too. Dedupe makes this harmless for what was not lost, in either of the two logs.
"""

from collections.abc import Callable

from imserver.errors import ImError, NotFound, Unavailable
from imserver.model import Entry, Place, UserId, parse_address, parse_message_id, parse_position
from imserver.protocol.commands import Ack, Ping, Resend, Send
from imserver.protocol.pushes import EMPTY
from imserver.routing.returning import Returning
from imserver.session.context import Context
from imserver.session.session import Session
from imserver.store.calls import Appended
from imserver.store.redis_link import RedisLink
from imserver.store.store import NOBODY, Store

_OVERTAKEN = Unavailable("the store may have lost this; send again with the same id")
AGAIN_COST = 20  # in units of a send: looking through a log takes the store as long


class Sending:
    """One send on its way to the store; `on_stored` gets what became of it."""

    __slots__ = ("_asked", "_command", "_session")

    def __init__(self, session: Session, command: Send) -> None:
        self._session = session
        self._asked = session.asked
        self._command = command
        session.started_sending(command.id)

    def on_stored(self, result: Appended | ImError) -> None:
        """In both logs, or refused."""
        session, command = self._session, self._command
        if self._asked != session.asked:  # one of the logs may have lost it since
            result = _OVERTAKEN
        if isinstance(result, Appended):
            assert session.tail is not None  # a session that sends has logged in; a closed one keeps its tail
            session.tail.answer(result.at, result.prev, command.ref, command.id)
        else:
            session.fail(command.ref, result)
        session.finished_sending(command.id)


class SendingInSteps(Sending):
    """The same where no call reaches both logs."""

    __slots__ = ("_again", "_content", "_dedupe", "_store")

    def __init__(
        self, session: Session, command: Send, store: Store, dedupe: bytes, content: bytes, again: int
    ) -> None:
        super().__init__(session, command)
        self._store = store
        self._dedupe = dedupe
        self._content = content
        self._again = again

    def deliver(self, to: str) -> None:
        """Into the recipient's log."""
        self._store.append(to, self._dedupe, self._content, NOBODY, self._record, self._again)

    def _record(self, result: Appended | ImError) -> None:
        """Into the sender's own log."""
        if isinstance(result, ImError) or self._asked != self._session.asked:
            self.on_stored(result)
            return
        identity = self._session.identity
        assert identity is not None
        self._store.append(identity.user, self._dedupe, self._content, identity.place, self.on_stored, self._again)


class Messages:
    """Handlers of `send`, `resend`, `ack` and `ping`, and the listener of the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._returning: dict[RedisLink, Returning] = {}

    # -- commands

    def send(self, session: Session, command: Send) -> None:
        context, identity = self._context, session.identity
        assert identity is not None
        if session.asked != session.resent:
            raise Unavailable("what was confirmed last has to be sent again first: say `resend`")
        to, message_id = parse_address(command.to), parse_message_id(command.id)
        if to[0] == "#":
            raise NotFound(f"to: there is no group {to}")
        context.counters.messages_in += 1
        store, user, sender = context.store, identity.user, identity.sender
        dedupe, content, again = sender.dedupe(message_id), sender.content(to, message_id, command.body), 0
        if command.again:
            session.charge(AGAIN_COST)
            again = len(content) - len(bytes(command.body)) - 1
        if to == user:
            store.append(user, dedupe, content, identity.place, Sending(session, command).on_stored, again)
        elif store.reaches_both:
            store.append_both(to, user, dedupe, content, identity.place, Sending(session, command).on_stored, again)
        else:
            SendingInSteps(session, command, store, dedupe, content, again).deliver(to)
        if store.saturated:
            store.hold_while_saturated(session)

    def resend(self, session: Session, command: Resend) -> None:
        session.begin_resend()
        session.reply(command.ref, EMPTY)

    def ack(self, session: Session, command: Ack) -> None:
        """With `ref` it is answered once the cursor is stored; without, it is stored within a second."""
        upto = parse_position(command.upto, "upto")
        if command.log is not None:
            raise NotFound(f"log: there is no group {command.log}")
        if command.ref is None:
            session.keep(upto)
            return

        def stored(reply: object) -> None:
            if isinstance(reply, ImError):
                session.fail(command.ref, reply)
            else:
                session.reply(command.ref, EMPTY)

        self._context.store.ack(session.user, session.device, upto, stored)

    def ping(self, session: Session, command: Ping) -> None:
        session.reply(command.ref, EMPTY)

    # -- what the store says

    def on_entry(self, user: UserId, entry: Entry, origin: bytes) -> None:
        for session in self._context.registry.sessions_of(user):
            assert session.tail is not None
            session.tail.offer(entry, is_own=session.place == origin)

    def on_expelled(self, user: UserId, place: Place, why: str) -> None:
        if place in self._context.entering:  # in the directory already, but its login has not heard of that
            self._context.entering[place] = why
        for session in self._context.registry.sessions_of(user):
            if session.place == place:
                session.expelled(why)

    def on_link_up(self, holds: Callable[[UserId], bool]) -> None:
        """What was published while a shard was out of reach never came: its sessions read from where they are."""
        sessions = [session for session in self._context.registry if holds(session.user)]
        if sessions:
            link = self._context.store.link_of(sessions[0].user)
            self._returning.setdefault(link, Returning(self._context)).begin(sessions)

    def on_new_epoch(self, holds: Callable[[UserId], bool]) -> None:
        """All sessions are asked: what a client sent to a user of that shard may be lost, whatever shard is its own."""
        for session in self._context.registry:
            if holds(session.user) and session.tail is not None:
                session.tail.doubt()
            session.ask_to_resend()

    def on_lease_lost(self, holds: Callable[[UserId], bool]) -> None:
        """Other workers may reach the shard; each client waits a little, so that they do not all come at once."""
        random = self._context.random
        for session in self._context.registry:
            if holds(session.user):
                session.expel("unavailable", "the store is out of reach", reconnect=True, after=round(random() * 2, 3))
