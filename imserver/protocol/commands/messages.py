"""Saying something, and what was said."""

from typing import Annotated

import msgspec
from msgspec import Meta

from imserver.protocol.commands.base import ADDRESS, INSIDE, Address, Command, Group, PageLimit, PositionText, Row
from imserver.protocol.extras import (
    EXTRAS,
    MESSAGE_ID,
    Attachment,
    Encrypted,
    Location,
    Mentions,
    Reference,
    check_extras,
)
from imserver.protocol.overload import Level
from imserver.protocol.pushes.messages import Page, Sent

# With every message the decoder checks only types; the rest is checked where it is parsed.
MessageId = Annotated[str, Meta(extra_json_schema=MESSAGE_ID)]
Recipient = Annotated[str, Meta(extra_json_schema=ADDRESS)]
# Seconds: shorter, and nobody would have read it; longer than logs keep anything by default.
Lifetime = Annotated[int, Meta(ge=5, le=90 * 86_400)]
Body = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["string", "object"]})]


class Send(Command, tag="send"):
    """`again`: sent before, with unknown outcome; it is looked for in the log, too, however long ago that was.

    `reply`: what it answers. `forwarded`: whose words these are. `mentions`: members of the group. More: `extras`.
    `ttl`: after so many seconds it vanishes.
    """

    id: MessageId
    to: Recipient
    body: Body
    again: bool = False
    reply: Reference | None = None
    forwarded: Reference | None = None
    attachment: Attachment | None = None
    location: Location | None = None
    encrypted: Encrypted | None = None
    mentions: Mentions | None = None
    ttl: Lifetime | None = None

    @property
    def has_extras(self) -> bool:
        """Asked of every message; a struct is true."""
        return bool(
            self.reply
            or self.forwarded
            or self.attachment
            or self.location
            or self.encrypted
            or self.mentions
            or self.ttl
        )

    def checked_extras(self) -> dict[str, object]:
        """Those that are there. Raises BadRequest."""
        extras = {name: value for name in EXTRAS if (value := getattr(self, name)) is not None}
        check_extras(extras)
        return extras


class Resend(Command, tag="resend"):
    """From here on this client sends again what it was asked for, before anything newer."""


class Ack(Command, tag="ack"):
    """This device has kept everything of the log up to `upto`."""

    upto: PositionText
    log: Group | None = None


class History(Command, tag="history"):
    """The conversation with `partner` (`with` on the wire), newest entries first in time, newest last in the reply."""

    partner: Address = msgspec.field(name="with")
    before: PositionText | None = None
    limit: PageLimit = 50


class Typing(Command, tag="typing"):
    to: Address
    on: bool


ROWS = (
    #   schema   states  hot    cost  shed           ok
    Row(Send,    INSIDE, True,  1,    Level.NEVER,   Sent),
    Row(Resend,  INSIDE, True,  0.5,  Level.NEVER),
    Row(Ack,     INSIDE, True,  0.5,  Level.NEVER),
    Row(History, INSIDE, False, 10,   Level.HISTORY, Page),
    Row(Typing,  INSIDE, True,  20,   Level.TYPING),
)  # fmt: skip
