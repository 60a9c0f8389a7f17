"""How far a user has read, and how its conversations are arranged."""

from typing import Annotated

import msgspec
from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Address, Command, PositionText, Row, Version
from imserver.protocol.overload import Level
from imserver.protocol.pushes.conversations import Arrangement, ConversationsPage


class Read(Command, tag="read"):
    """Everything of the conversation with `partner` (`with` on the wire) up to `upto` has been read."""

    partner: Address = msgspec.field(name="with")
    upto: PositionText


class ConversationSet(Command, tag="conversation.set"):
    """What is left out stays as it is."""

    partner: Address = msgspec.field(name="with")
    muted: bool | None = None
    pinned: bool | None = None
    archived: bool | None = None


class Conversations(Command, tag="conversations"):
    """All conversations, or what has changed since a version; `after` is the `next` of the page before."""

    since: Version = 0
    after: Version = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


ROWS = (
    #   schema           states  hot    cost  shed           ok
    Row(Read,            INSIDE, True,  5,    Level.MARKERS),
    Row(ConversationSet, INSIDE, False, 5,    Level.HISTORY, Arrangement),
    Row(Conversations,   INSIDE, False, 100,  Level.HISTORY, ConversationsPage),
)  # fmt: skip
