"""What becomes of the messages that were sent: the server's replies to them, and the log in which they show themselves.

`now`: seconds, monotonic.
"""

from collections.abc import Callable

import msgspec

from imclient.amendments import AnyAmendment, amended
from imclient.events import OWN_LOG, Event, Message, Reconnect, SendFailed, Sent
from imclient.journal import Journal, Kept
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity
from imserver.errors import ImError, NotLoggedIn, Unavailable
from imserver.protocol.commands import Command, Delete, Edit, React, Send

LEAST_RETRY_SECONDS = 0.1  # whatever the server says
MOST_REPEAT_SECONDS = 10.0  # of a message that is refused again and again, unless the server says more


class _Stored(msgspec.Struct):
    """The `ok` of a send. `prev` is told by newer servers, and not for a repeat. `stamp`: of what changes a message."""

    at: str
    prev: str | None = None
    stamp: int | None = None
    expires: int | None = None


class Confirming:
    def __init__(
        self, identity: Identity, outbox: Outbox, reader: Reader, random: Callable[[], float], journal: Journal
    ) -> None:
        """`random` gives numbers from 0 to 1."""
        self._identity = identity
        self._journal = journal
        self._outbox = outbox
        self._reader = reader
        self._random = random

    def on_reply(self, id: str, content: msgspec.Raw | ImError, now: float) -> list[Event]:
        """The answer to a send: the content of its `ok`, or an error."""
        if isinstance(content, msgspec.Raw):
            return self._confirm(id, msgspec.json.decode(content, type=_Stored), now)
        if isinstance(content, NotLoggedIn):
            return [Reconnect("the server has no session for this connection")]
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
        return self.spread(max(retry, min(retry * 2.0**refusals, MOST_REPEAT_SECONDS)))

    def spread(self, retry: float) -> float:
        """Up to half longer, at random."""
        return max(retry, LEAST_RETRY_SECONDS) * (1 + self._random() / 2)

    def _confirm(self, id: str, stored: _Stored, now: float) -> list[Event]:
        item = self._outbox.answered(id, now)
        if item is None:
            return []
        log = item.to if item.to.startswith("#") else OWN_LOG
        if self._journal.is_on:
            self._journal.add(Kept(log, stored.at, self._entry(item.command(), log, stored)))
        self._reader.replied(log, stored.at, stored.prev)
        return [] if item.is_confirmed else [Sent(id, item.to, stored.at, stored.stamp, stored.expires)]

    def _entry(self, said: Command, log: str, stored: _Stored) -> Message | AnyAmendment:
        """As it stands in the log."""
        who = self._identity
        if not isinstance(said, Send):
            assert isinstance(said, Edit | Delete | React)
            return amended(said, who.user, who.device, stored.at, log, stored.stamp, stored.expires)
        return Message(
            at=stored.at,
            sender=who.user,
            device=who.device,
            to=said.to,
            id=said.id,
            body=msgspec.json.decode(said.body),
            log=log,
            prev=stored.prev,
            reply=said.reply,
            forwarded=said.forwarded,
            attachment=said.attachment,
            location=said.location,
            encrypted=said.encrypted,
            mentions=said.mentions,
            expires=stored.expires,
        )

    def show_sent(
        self, id: str, at: str, now: float, stamp: int | None = None, expires: int | None = None
    ) -> list[Event]:
        """An own message came from the log: so it is stored, unless the recipient's log has lost it since.

        `stamp`: of what changes a message. `expires`: when it vanishes.
        """
        is_news = self._outbox.confirm(id)
        item = self._outbox.find(id) if self._outbox.is_in_doubt else self._outbox.answered(id, now)
        return [Sent(id, item.to, at, stamp, expires)] if is_news and item is not None else []

    def _fail(self, id: str, error: ImError) -> list[Event]:
        item = self._outbox.remove(id)
        return [] if item is None or item.is_confirmed else [SendFailed(id, item.to, error)]
