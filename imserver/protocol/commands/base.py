"""What every command has, and how each is treated."""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from imserver.protocol.lifecycle import State
from imserver.protocol.overload import Level

Ref = int | str | None
Name = Annotated[str, Meta(min_length=1, max_length=65)]
PositionText = Annotated[str, Meta(max_length=40)]
Note = Annotated[str, Meta(max_length=256)]
PageLimit = Annotated[int, Meta(ge=1, le=200)]
Version = Annotated[int, Meta(ge=0, lt=1 << 53)]  # of a list that is kept in step


class Command(msgspec.Struct, tag_field="op", omit_defaults=True, kw_only=True, gc=False):
    """A request; `ref` asks for a reply and is repeated in it."""

    ref: Ref = None


class Row(NamedTuple):
    """How a command is treated.

    `hot`: answered by plain functions; else by a task of its own while the session's reading is paused.
    `cost`: what it takes out of the session's token bucket.
    `shed`: the level of overload from which on it is refused, `Level.NEVER` where it waits instead.
    """

    schema: type[Command]
    states: tuple[State, ...]
    hot: bool
    cost: float
    shed: Level


OUTSIDE = (State.NEW,)
INSIDE = (State.INSIDE,)
