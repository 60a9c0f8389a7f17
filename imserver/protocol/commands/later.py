"""Messages that are to be said at a later time."""

from typing import Annotated

from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Command, Device, Row
from imserver.protocol.commands.messages import MessageId, Send
from imserver.protocol.overload import Level
from imserver.protocol.pushes.later import ScheduledAt, ScheduledList


class Schedule(Send, tag="schedule", kw_only=True):
    """As `send`, said at `when` (unix seconds); at once where that has passed. `again` is not needed."""

    when: Annotated[int, Meta(ge=0, lt=1 << 53)]


class Scheduled(Command, tag="scheduled"):
    """The user's messages that wait, and those that were refused when they were due."""


class Unschedule(Command, tag="unschedule"):
    """The message will not be said. `device`: the one that has scheduled it; without it, this one."""

    id: MessageId
    device: Device | None = None


ROWS = (
    #   schema      states  hot    cost  shed           ok
    Row(Schedule,   INSIDE, False, 10,   Level.HISTORY, ScheduledAt),
    Row(Scheduled,  INSIDE, False, 20,   Level.HISTORY, ScheduledList),
    Row(Unschedule, INSIDE, False, 10,   Level.NEVER),
)  # fmt: skip
