"""Conversations as a worker uses them: the calls for marks and switches, and what is published of them to this node."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from imserver.errors import ImError
from imserver.model import Place, Position, UserId
from imserver.store import conversation_calls
from imserver.store.answers import ignore
from imserver.store.conversation_calls import (
    Arranged,
    ConversationPage,
    Forwarded,
    HasRead,
    Kind,
    Mark,
    Marked,
    Rearranged,
    Record,
    Unheard,
)
from imserver.store.partitions import user_keys

if TYPE_CHECKING:
    from imserver.store.store import Store


class MarkListener(Protocol):
    """Who is told what the store says of conversations unasked."""

    def on_marked(self, what: Marked) -> None: ...
    def on_rearranged(self, what: Rearranged) -> None: ...
    def on_marks_missed(self, holds: Callable[[str], bool]) -> None:
        """What was published to users whom a shard holds may not have come."""


class ConversationStore:
    """The calls with `then` are for plain functions, the `async` ones for tasks. Any may raise or give ServiceError."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._listener: MarkListener | None = None

    def listen(self, listener: MarkListener) -> None:
        """MUST be called once, before the links run."""
        self._listener = listener

    def _call(self, user: str, command: bytes, then: Callable[[Any], None], parse: Callable[[Any], Any] | None) -> None:
        self._store.link_of(user).call(command, then, parse)

    # -- marks

    def read(
        self, user: UserId, partner: str, upto: Position, origin: Place, then: Callable[[HasRead | ImError], None]
    ) -> None:
        """The user has read a conversation up to there; its other devices hear of it. `then` may get NotFound."""
        command = conversation_calls.read(user_keys(user), partner, upto, origin)
        self._call(user, command, then, conversation_calls.has_read)

    def mark(
        self, sender: UserId, kind: Kind, partner: UserId, what: Mark, then: Callable[[object], None] = ignore
    ) -> None:
        """The partner has read, or kept, a message of the sender, who hears of it."""
        self._call(sender, conversation_calls.mark(user_keys(sender), kind, partner, what), then, None)

    def keep(
        self,
        user: UserId,
        device: str,
        upto: Position,
        forwarded: Forwarded | None,
        then: Callable[[Unheard | ImError], None],
    ) -> None:
        """As `Store.ack`; `then` gets who is to be told of it. `forwarded`: whose messages these are, if known."""
        command = conversation_calls.keep(user_keys(user), device, upto, forwarded)
        self._call(user, command, then, conversation_calls.unheard)

    def heard(self, user: UserId, reached: Position, upto: Position, then: Callable[[Unheard | ImError], None]) -> None:
        """Of what the user has kept up to `reached` all have been told; `then` gets who is next, up to `upto`."""
        command = conversation_calls.heard(user_keys(user), reached, upto)
        self._call(user, command, then, conversation_calls.unheard)

    # -- switches, the list

    async def records(self, user: UserId, partners: Sequence[str]) -> list[Record]:
        """What is remembered of each of these conversations."""
        if not partners:
            return []
        command = conversation_calls.standing(user_keys(user), partners)
        return conversation_calls.records(await self._store.link_of(user).ask(command))

    async def arrange(self, user: UserId, partner: str, wanted: Sequence[bytes], stamp: int, origin: Place) -> Arranged:
        """`wanted`: as of `conversation_calls.arrange`. The user's other devices hear of it. Raises NotFound."""
        command = conversation_calls.arrange(user_keys(user), partner, wanted, stamp, origin)
        arranged: Arranged = await self._store.link_of(user).ask(command, conversation_calls.arrangement)
        return arranged

    async def listed(self, user: UserId, since: int, behind: int, most: int) -> ConversationPage:
        command = conversation_calls.listed(user_keys(user), since, behind, most)
        return conversation_calls.page(await self._store.link_of(user).ask(command))

    # -- what the store says

    def on_push(self, message: bytes) -> None:
        assert self._listener is not None
        what = conversation_calls.published(message)
        if isinstance(what, Marked):
            self._listener.on_marked(what)
        else:
            self._listener.on_rearranged(what)

    def missed(self, holds: Callable[[str], bool]) -> None:
        """A shard was out of reach."""
        assert self._listener is not None
        self._listener.on_marks_missed(holds)
