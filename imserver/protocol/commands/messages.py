"""Saying something, and what was said."""

import msgspec

from imserver.protocol.commands.base import INSIDE, Command, Name, PageLimit, PositionText, Row
from imserver.protocol.overload import Level


class Send(Command, tag="send"):
    """`again`: sent before, with unknown outcome; it is looked for in the log, too, however long ago that was."""

    id: str
    to: str
    body: msgspec.Raw
    again: bool = False


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
