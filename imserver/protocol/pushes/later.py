"""Messages that are to be said at a later time."""

from typing import Annotated

import msgspec
from msgspec import Meta

from imserver.protocol.pushes.base import Failure

# The push `msg` without `at` and `prev`, which it gets when it is said.
Unsaid = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]


class ScheduledAt(msgspec.Struct):
    """The `ok` of `schedule`. `when`: as it was scheduled first."""

    id: str
    when: int


class ScheduledMessage(msgspec.Struct, omit_defaults=True):
    """`failed`: why it was refused when it was due."""

    when: int
    message: Unsaid
    failed: Failure | None = None


class ScheduledList(msgspec.Struct):
    """The `ok` of `scheduled`, in the order in which they are said."""

    messages: list[ScheduledMessage]
