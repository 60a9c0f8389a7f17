"""Saying something, and what was said."""

import msgspec

from imserver.protocol.commands.base import INSIDE, Command, Name, PageLimit, PositionText, Row
from imserver.protocol.extras import EXTRAS, Attachment, Encrypted, Location, Reference, check_extras
from imserver.protocol.overload import Level


class Send(Command, tag="send"):
    """`again`: sent before, with unknown outcome; it is looked for in the log, too, however long ago that was.

    `reply`: what it answers. `forwarded`: whose words these are. The rest: see `extras`.
    """

    id: str
    to: str
    body: msgspec.Raw
    again: bool = False
    reply: Reference | None = None
    forwarded: Reference | None = None
    attachment: Attachment | None = None
    location: Location | None = None
    encrypted: Encrypted | None = None

    @property
    def has_extras(self) -> bool:
        """Asked of every message; a struct is true."""
        return bool(self.reply or self.forwarded or self.attachment or self.location or self.encrypted)

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
    log: Name | None = None


class History(Command, tag="history"):
    """The conversation with `partner` (`with` on the wire), newest entries first in time, newest last in the reply."""

    partner: Name = msgspec.field(name="with")
    before: PositionText | None = None
    limit: PageLimit = 50


class Typing(Command, tag="typing"):
    to: Name
    on: bool


ROWS = (
    #   schema   states  hot    cost  shed
    Row(Send,    INSIDE, True,  1,    Level.NEVER),
    Row(Resend,  INSIDE, True,  0.5,  Level.NEVER),
    Row(Ack,     INSIDE, True,  0.5,  Level.NEVER),
    Row(History, INSIDE, False, 10,   Level.HISTORY),
    Row(Typing,  INSIDE, True,  20,   Level.TYPING),
)  # fmt: skip
