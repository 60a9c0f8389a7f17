"""Changing what was said."""

from typing import Annotated

from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Address, Command, Row
from imserver.protocol.commands.messages import Body, MessageId
from imserver.protocol.extras import Reference
from imserver.protocol.overload import Level
from imserver.protocol.pushes.amendments import Amended


class Edit(Command, tag="edit"):
    """The message `of` says `body` from now on. `to` and `again`: as with `send`."""

    id: MessageId
    to: Address
    of: Reference
    body: Body
    again: bool = False


class Delete(Command, tag="delete"):
    """The message `of` is gone, for all."""

    id: MessageId
    to: Address
    of: Reference
    again: bool = False


class React(Command, tag="react"):
    """This user's one reaction to the message `of`; without `emoji` it is taken back."""

    id: MessageId
    to: Address
    of: Reference
    emoji: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    again: bool = False


ROWS = (
    #   schema  states  hot    cost  shed           ok
    Row(Edit,   INSIDE, False, 10,   Level.HISTORY, Amended),
    Row(Delete, INSIDE, False, 10,   Level.HISTORY, Amended),
    Row(React,  INSIDE, False, 10,   Level.HISTORY, Amended),
)  # fmt: skip
