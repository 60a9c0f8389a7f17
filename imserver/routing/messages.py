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

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from imserver.errors import BadRequest, ImError, NotFound, Unavailable
from imserver.model import (
    Address,
    Entry,
    GroupId,
    Place,
    Position,
    UserId,
    before,
    parse_address,
    parse_group,
    parse_message_id,
    parse_position,
)
from imserver.protocol.commands import Ack, Delete, Edit, Ping, React, Resend, Send
from imserver.protocol.pushes import EMPTY, Amended, Sent
from imserver.routing.returning import Returning, ReturningGroups
from imserver.session.context import Context
from imserver.session.cursor import is_newer
from imserver.session.fan_out import fan_out
from imserver.session.session import Session
from imserver.session.tail import Tail
from imserver.store.amending import Appends
from imserver.store.calls import Appended
from imserver.store.redis_link import RedisLink
from imserver.store.store import NOBODY
from imserver.store.stored import head_of, is_removed, with_expires, with_extras

Append = Callable[..., None]  # `Store.append`, or what does more
Entering = Send | Edit | Delete | React  # the commands that become entries of logs
_OVERTAKEN = Unavailable("the store may have lost this; send again with the same id")
MENTION_COST = 1  # each is a field more to read and to write
AGAIN_COST = 20  # in units of a send: looking through a log takes the store as long


class Told(NamedTuple):
    """What the answer says of an entry beside its place."""

    expires: int | None = None  # when it vanishes (unix seconds)
    stamp: int | None = None  # an amendment's
    is_stored: bool = False  # the stamp is the stored entry's; else a repeat may find another one there

    def answer(self, message_id: str, result: Appended) -> Sent:
        expires = result.expires or self.expires
        if self.stamp is None:
            return Sent(message_id, result.at, result.prev, expires)
        is_known = self.is_stored or result.prev is not None
        return Amended(message_id, result.at, result.prev, expires, self.stamp if is_known else None)


_PLAIN = Told()


class Sending:
    """One send on its way to the store; `on_stored` gets what became of it."""

    __slots__ = ("_asked", "_command", "_session", "_told")

    def __init__(self, session: Session, command: Entering, told: Told = _PLAIN) -> None:
        self._session = session
        self._told = told
        self._asked = session.asked
        self._command = command
        session.started_sending(command.id)

    def on_stored(self, result: Appended | ImError) -> None:
        """In both logs, or refused."""
        session, command = self._session, self._command
        tail = session.tail_of(command.to)
        if self._asked != session.asked:  # one of the logs may have lost it since
            if isinstance(result, Appended) and tail is not None:
                tail.give_instead(result)
            result = _OVERTAKEN
        if isinstance(result, Appended):
            if self._told is _PLAIN:  # nearly always: `answer` would be a call more with every message
                reply = Sent(command.id, result.at, result.prev, result.expires)
            else:
                reply = self._told.answer(command.id, result)
            if tail is None:  # a group that this session does not follow yet, or any more
                session.reply(command.ref, reply)
            else:
                tail.answer(command.ref, reply)
        else:
            session.fail(command.ref, result)
        session.finished_sending(command.id)


def given_of(session: Session, group: GroupId, upto: Position, field: str = "log") -> Position:
    """Never past what the session was given of the group's log. Raises NotFound."""
    tail = session.tail_of(group)
    if tail is None:
        raise NotFound(f"{field}: you are no member of {group}")
    return tail.position if is_newer(upto, tail.position) else upto


def check_resent(session: Session) -> None:
    """Raises Unavailable."""
    if session.asked != session.resent:
        raise Unavailable("what was confirmed last has to be sent again first: say `resend`")


def _member(session: Session, group: GroupId) -> str:
    """The user, and in which membership of the group it speaks; `-`: in none that this session has heard of."""
    since = None if session.following is None else session.following.membership(group)
    if since is not None:
        return f"{session.user} {since.decode()}"
    return f"{session.user} -" if session.tail_of(group) is None else session.user


def _charge_mentions(session: Session, mentions: Sequence[str], *, to_group: bool) -> None:
    """Raises BadRequest, RateLimited."""
    if not to_group:
        raise BadRequest("mentions: only a message to a group may have them")
    session.charge(MENTION_COST * len(mentions))


# To whom, content and `again` as of `Messages.append`, whom it mentions, when it vanishes.
Said = tuple[Address, bytes, int, Sequence[str], int | None]


def said_by(session: Session, command: Send, at: int | None = None) -> Said:
    """What a command says now, or is to say at that time (unix seconds). Raises BadRequest, RateLimited."""
    identity = session.identity
    assert identity is not None
    to, message_id, sender = parse_address(command.to), parse_message_id(command.id), identity.sender
    content = (sender.group_content if to[0] == "#" else sender.content)(to, message_id, command.body)
    again = len(content) - len(bytes(command.body)) - 1 if command.again else 0
    if at is None and not command.has_extras:
        return to, content, again, (), None
    extras, expires = command.checked_extras(), None
    if at is not None:
        extras["scheduled"] = at
    if command.ttl is not None:
        said_at = session.context.wall() if at is None else at
        extras["expires"] = expires = int(said_at) + command.ttl  # the last of them
    content = with_extras(content, extras)
    if command.mentions:
        _charge_mentions(session, command.mentions, to_group=to[0] == "#")
    return to, content, again, command.mentions or (), expires


class SendingInSteps(Sending):
    """The same where no call reaches both logs."""

    __slots__ = ("_again", "_append", "_content", "_dedupe", "_epochs")

    def __init__(
        self,
        session: Session,
        command: Entering,
        append: Append,
        dedupe: bytes,
        content: bytes,
        again: int,
        told: Told,
    ) -> None:
        super().__init__(session, command, told)
        self._epochs = session.context.epochs
        self._append = append
        self._dedupe = dedupe
        self._content = content
        self._again = again

    def deliver(self, to: str) -> None:
        """Into the recipient's log."""
        self._append(to, self._dedupe, self._content, NOBODY, self._record, self._again)

    def _record(self, result: Appended | ImError) -> None:
        """Into the sender's own log; not before what a new epoch may have lost of it, even if nobody is left to ask."""
        if isinstance(result, Appended) and self._epochs != self._session.context.epochs:
            result = _OVERTAKEN
        if isinstance(result, ImError):
            self.on_stored(result)
            return
        if result.expires is not None:  # half done before: it vanishes here when it does there
            self._told = self._told._replace(expires=result.expires)
            self._content = with_expires(self._content, result.expires)
        if result.prev is None and not isinstance(self._command, Send):
            # An amendment's stamp is of the attempt that was stored, and both logs MUST have the same.
            store, to = self._session.context.store, parse_address(self._command.to)
            store.read(to, before(result.at), 1, partial(self._record_stored, result.at))
        else:
            self._record_content()

    def _record_stored(self, at: Position, found: list[Entry] | ImError) -> None:
        """As the recipient's log has it at that position."""
        if isinstance(found, ImError):
            self.on_stored(found)
        elif self._epochs != self._session.context.epochs:
            self.on_stored(_OVERTAKEN)
        elif not found or found[0].at != at or is_removed(found[0].content):
            self.on_stored(NotFound("of: there is no such message, or not any more"))
        else:
            self._content = found[0].content
            self._told = self._told._replace(stamp=head_of(self._content).stamp, is_stored=True)
            self._record_content()

    def _record_content(self) -> None:
        identity = self._session.identity
        assert identity is not None
        self._append(identity.user, self._dedupe, self._content, identity.place, self.on_stored, self._again)


class Messages:
    """Handlers of `send`, `resend`, `ack` and `ping`, and the listener of the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        store = context.store
        self.appends = Appends(store.append, store.append_both, store.groups.post)
        self._returning: dict[RedisLink, Returning] = {}
        self._returning_groups: dict[RedisLink, ReturningGroups] = {}

    # -- commands

    def send(self, session: Session, command: Send) -> None:
        to, content, again, mentions, expires = said_by(session, command)
        told = _PLAIN if expires is None else Told(expires)
        self.append(session, command, to, content, again, self.appends, mentions, told)

    def append(
        self,
        session: Session,
        command: Entering,
        to: Address,
        content: bytes,
        again: int,
        appends: Appends,
        mentions: Sequence[str] = (),
        told: Told = _PLAIN,
    ) -> None:
        """Into the logs concerned; the reply comes in the entry's place. Raises Unavailable, RateLimited.

        `again`: so many bytes of the content tell it from all others, where it may be stored already.
        """
        store, identity = self._context.store, session.identity
        assert identity is not None
        check_resent(session)
        if again:
            session.charge(AGAIN_COST)
        self._context.counters.messages_in += 1
        user, place, dedupe = identity.user, identity.place, identity.sender.dedupe(command.id)
        if to[0] == "#":
            command.to = to
            then = Sending(session, command, told).on_stored
            appends.group(to, _member(session, GroupId(to)), dedupe, content, place, then, again, mentions)
        elif to == user:
            appends.one(user, dedupe, content, place, Sending(session, command, told).on_stored, again)
        elif store.reaches_both:
            appends.both(to, user, dedupe, content, place, Sending(session, command, told).on_stored, again)
        else:
            SendingInSteps(session, command, appends.one, dedupe, content, again, told).deliver(to)
        if store.saturated:
            store.hold_while_saturated(session)

    def resend(self, session: Session, command: Resend) -> None:
        session.begin_resend()
        session.reply(command.ref, EMPTY)

    def ack(self, session: Session, command: Ack) -> None:
        """With `ref` it is answered once the cursor is stored; without, it is stored within a second."""
        upto = parse_position(command.upto, "upto")
        group = None if command.log is None else parse_group(command.log, "log")
        if group is not None:
            upto = given_of(session, group, upto)
        if command.ref is None:
            if group is None or session.following is None:
                session.keep(upto)
            else:
                session.following.keep(group, upto)
            return

        def stored(reply: object) -> None:
            if isinstance(reply, ImError):
                session.fail(command.ref, reply)
            else:
                session.reply(command.ref, EMPTY)

        if group is None:
            self._context.marking.kept(session, upto, stored)
        else:
            self._context.store.groups.ack(session.user, session.device, group, upto, stored)

    def ping(self, session: Session, command: Ping) -> None:
        session.reply(command.ref, EMPTY)

    # -- what the store says

    def on_entry(self, log: str, entry: Entry, origin: bytes) -> None:
        if log[0] == "#":
            followers = self._context.registry.followers_of(log)
            fan_out(self._context, followers, entry, self._own_tail(log, entry, origin))
            return
        for session in self._context.registry.sessions_of(UserId(log)):
            assert session.tail is not None
            session.tail.offer(entry, is_own=session.place == origin)

    def _own_tail(self, group: str, entry: Entry, origin: bytes) -> Tail | None:
        """The tail of the session that sent a group's message, where it is here."""
        if origin == NOBODY:
            return None
        sender = UserId(head_of(entry.content).sender or "")
        of_sender = (it.tail_of(group) for it in self._context.registry.sessions_of(sender) if it.place == origin)
        return next(of_sender, None)

    def on_expelled(self, user: UserId, place: Place, why: str) -> None:
        if place in self._context.entering:  # in the directory already, but its login has not heard of that
            self._context.entering[place] = why
        for session in self._context.registry.sessions_of(user):
            if session.place == place:
                session.expelled(why)

    def on_link_up(self, holds: Callable[[str], bool]) -> None:
        """What was published while a shard was out of reach never came: its sessions read from where they are."""
        sessions = [session for session in self._context.registry if holds(session.user)]
        if sessions:
            link = self._context.store.link_of(sessions[0].user)
            self._returning.setdefault(link, Returning(self._context)).begin(sessions)
        self.on_cleared(holds)

    def on_cleared(self, holds: Callable[[str], bool]) -> None:
        """The node enters the groups of a shard again."""
        groups = [group for group in self._context.registry.groups() if holds(group)]
        if groups:
            link = self._context.store.link_of(groups[0])
            self._returning_groups.setdefault(link, ReturningGroups(self._context)).begin(groups)

    def on_new_epoch(self, holds: Callable[[str], bool]) -> None:
        """All sessions are asked: what a client sent to a user of that shard may be lost, whatever shard is its own."""
        self._context.epochs += 1
        for session in self._context.registry:
            if holds(session.user) and session.tail is not None:
                session.tail.doubt()
            session.ask_to_resend()
        for group in self._context.registry.groups():
            if holds(group):
                for tail in self._context.registry.followers_of(group):
                    tail.doubt()

    def on_lease_lost(self, holds: Callable[[str], bool]) -> None:
        """Other workers may reach the shard; each client waits a little, so that they do not all come at once."""
        random = self._context.random
        for session in self._context.registry:
            if holds(session.user):
                session.expel("unavailable", "the store is out of reach", reconnect=True, after=round(random() * 2, 3))
