"""What was read, and what has come to a device: `read`, and the marks that follow from acknowledgements.

A mark is a maximum, at both ends. So nothing here waits, and whatever is lost on the way or left out under load is
covered by the next one.

**Invariant: the reader first, then the partner.** `read` moves the reader's own mark; that call tells which message
of the partner was read, and a second one, in another slot perhaps, moves the mark at the partner's. Where a worker dies
in between, the reader's client has no answer, and asks again: the first call then finds its work done, and the second
one is made.

**Invariant: first the senders are told, then it is remembered that they were.** An acknowledgement tells whose messages
were kept since (`kept` in the state of the user, one watermark for all devices). Only when all of those senders have
their marks the watermark moves; where one can't be reached it does not, and the next acknowledgement starts there
again.
"""

from collections.abc import Callable
from functools import partial

from imserver.errors import ImError
from imserver.model import GroupId, Position, UserId, is_group, parse_address, parse_position
from imserver.protocol.commands import Read, Ref
from imserver.protocol.overload import Level, level_of
from imserver.protocol.pushes import (
    EMPTY,
    ConversationPush,
    ConversationsChanged,
    DeliveredPush,
    Push,
    ReadPush,
    Shared,
)
from imserver.routing.messages import given_of
from imserver.session.context import Context
from imserver.session.session import Session
from imserver.store.conversation_calls import HasRead, Marked, Rearranged, Unheard

_CAUGHT_UP_AT_ONCE = 200  # sessions a second that are told to ask for what they have missed


class Marks:
    """Handler of `read`; the rest is told by sessions and the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store.conversations
        self._outdated: dict[Session, None] = {}  # may have missed something

    # -- read

    def read(self, session: Session, command: Read) -> None:
        partner, upto = parse_address(command.partner, "with"), parse_position(command.upto, "upto")
        if is_group(partner):
            upto = given_of(session, GroupId(partner), upto, "with")
        then = partial(self._on_read, session, command.ref, partner)
        self._store.read(session.user, partner, upto, session.place, then)

    def _on_read(self, session: Session, ref: Ref, partner: str, answer: HasRead | ImError) -> None:
        if isinstance(answer, HasRead) and answer.mark is not None and partner != session.user:
            then = partial(_answer, session, ref)
            self._store.mark(UserId(partner), "read", session.user, answer.mark, then)
        else:
            _answer(session, ref, answer)

    # -- delivered

    def kept(self, session: Session, upto: Position, then: Callable[[object], None] | None = None) -> None:
        """Stored in any case; the senders hear of it where there is nothing more important to do."""
        user, device, tail = session.user, session.device, session.tail
        if level_of(self._context.strain(user)) >= Level.MARKERS:
            self._context.store.ack(user, device, upto, then)
            return
        forwarded = tail.take_forwarded(upto) if tail is not None else None
        if forwarded is None:
            self._store.keep(user, device, upto, None, partial(self._on_kept, session, upto, then))
        elif forwarded.marks:
            self._store.keep(user, device, upto, forwarded, partial(self._on_kept, session, forwarded.upto, then))
        else:
            self._context.store.ack(user, device, upto, then)

    def _on_kept(
        self, session: Session, upto: Position, then: Callable[[object], None] | None, unheard: Unheard | ImError
    ) -> None:
        if then is not None:
            then(unheard)
        self._tell(session, upto, unheard)

    def _tell(self, session: Session, upto: Position, unheard: Unheard | ImError) -> None:
        if isinstance(unheard, ImError):
            _look_again(session)
        elif unheard.reached is not None:
            Telling(self._context, session, upto, unheard.reached, self._tell).begin(unheard)

    # -- hearing

    def on_marked(self, what: Marked) -> None:
        self._share(what, _push_of(what))

    def on_rearranged(self, what: Rearranged) -> None:
        muted, pinned, archived = what.arranged
        text = None if archived is None else archived.decode()
        self._share(what, ConversationPush(partner=what.partner, muted=muted, pinned=pinned, archived=text))

    def _share(self, what: Marked | Rearranged, push: Push) -> None:
        shared, most = Shared(push), self._context.settings.out_buffer_bytes
        for session in self._context.registry.sessions_of(what.user):
            if session.place == what.origin:
                continue
            if session.channel.out_bytes > most:
                self._outdated[session] = None
            else:
                session.channel.share(shared)

    # -- what was missed

    def on_marks_missed(self, holds: Callable[[str], bool]) -> None:
        """A shard was out of reach."""
        self._outdated.update((session, None) for session in self._context.registry if holds(session.user))

    def tick(self) -> None:
        """Once a second: some of those that may have missed something are told so, and ask for what has changed.

        Some, since many ask at once after a failover.
        """
        if not self._outdated or level_of(self._context.worst_strain()) >= Level.MARKERS:
            return
        for session in list(self._outdated)[:_CAUGHT_UP_AT_ONCE]:
            if session.is_closed or session.channel.out_bytes <= self._context.settings.out_buffer_bytes:
                del self._outdated[session]
                session.push(ConversationsChanged())


class Telling:
    """Senders are told what a user has kept; then it is remembered, and `then` gets what comes next."""

    __slots__ = ("_context", "_has_failed", "_missing", "_reached", "_session", "_then", "_upto")

    def __init__(
        self,
        context: Context,
        session: Session,
        upto: Position,
        reached: Position,
        then: Callable[[Session, Position, Unheard | ImError], None],
    ) -> None:
        self._context = context
        self._session, self._upto, self._reached, self._then = session, upto, reached, then
        self._missing, self._has_failed = 0, False

    def begin(self, unheard: Unheard) -> None:
        self._missing = len(unheard.marks)
        for sender, mark in unheard.marks:
            self._context.store.conversations.mark(sender, "delivered", self._session.user, mark, self._on_told)
        if not unheard.marks:
            self._end()

    def _on_told(self, answer: object) -> None:
        self._missing -= 1
        self._has_failed = self._has_failed or isinstance(answer, ImError)
        if self._missing:
            return
        if self._has_failed:
            _look_again(self._session)
        else:
            self._end()

    def _end(self) -> None:
        then = partial(self._then, self._session, self._upto)
        self._context.store.conversations.heard(self._session.user, self._reached, self._upto, then)


def _look_again(session: Session) -> None:
    """Somebody may not have been told: with the next acknowledgement it is looked for who."""
    if session.tail is not None:
        session.tail.forget_forwarded()


def _answer(session: Session, ref: Ref, answer: object) -> None:
    if isinstance(answer, ImError):
        session.fail(ref, answer)
    else:
        session.reply(ref, EMPTY)


def _push_of(what: Marked) -> Push:
    upto, mark = what.upto.decode(), what.mark
    if what.kind == "read":
        device, message_id = (None, None) if mark is None else (mark.device, mark.id)
        return ReadPush(by=what.by, partner=what.partner, upto=upto, device=device, id=message_id)
    assert mark is not None
    return DeliveredPush(by=what.by, partner=what.partner, upto=upto, device=mark.device, id=mark.id)
