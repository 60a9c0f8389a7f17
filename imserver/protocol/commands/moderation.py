"""What administrators are to hear of."""

from typing import Annotated

import msgspec
from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Command, Group, PositionText, Row, User
from imserver.protocol.overload import Level

Reason = Annotated[str, Meta(min_length=1, max_length=1000)]


class ReportedMessage(msgspec.Struct):
    """One of the own log, or of the group whose log it is in."""

    at: PositionText
    log: Group | None = None


class Report(Command, tag="report"):
    """`user` misbehaves; said again, it replaces what was said before."""

    user: User
    reason: Reason
    messages: Annotated[list[ReportedMessage], Meta(max_length=20)] = msgspec.field(default_factory=list)


ROWS = (
    #   schema  states  hot    cost  shed
    Row(Report, INSIDE, False, 50,   Level.HISTORY),
)  # fmt: skip
