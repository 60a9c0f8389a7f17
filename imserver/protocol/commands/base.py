"""What every command has, and how each is treated."""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from imserver.protocol.lifecycle import State
from imserver.protocol.overload import Level
from imserver.protocol.pushes.base import Empty, Ref

# What is shown of a name to those who write clients; what is checked is in `imserver.model`.
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_USER, _GROUP, ADDRESS = {"pattern": f"^{_NAME}$"}, {"pattern": f"^#{_NAME}$"}, {"pattern": f"^#?{_NAME}$"}

Name = Annotated[str, Meta(min_length=1, max_length=65)]
User = Annotated[Name, Meta(extra_json_schema=_USER)]
Group = Annotated[Name, Meta(extra_json_schema=_GROUP)]
Address = Annotated[Name, Meta(extra_json_schema=ADDRESS)]
Device = Annotated[Name, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9._-]{1,64}$"})]
PositionText = Annotated[str, Meta(max_length=40, extra_json_schema={"pattern": "^[0-9]{1,15}-[0-9]{1,15}$"})]
Secret = Annotated[str, Meta(min_length=1, max_length=1024)]
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
    `ok`: what the reply has.
    """

    schema: type[Command]
    states: tuple[State, ...]
    hot: bool
    cost: float
    shed: Level
    ok: type[msgspec.Struct] = Empty


OUTSIDE = (State.NEW,)
INSIDE = (State.INSIDE,)
