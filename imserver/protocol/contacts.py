"""Who is whose contact: the states, and what moves them, as a table. `docs/protocol.md` shows the same table.

A relation has two ends, and each end's state is the mirror of the other's. What is stored are not states but two
wishes, one of each user (store/functions/contacts.lua): two that cross become one relation, and whatever is done twice,
or comes late to one end, ends in the same. A state is what the two wishes make together.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from imserver.errors import NotFound


class State(Enum):
    """A relation, as one of its two ends sees it."""

    NONE = "none"
    ASKED = "asked"  # the owner has asked
    ASKING = "asking"  # the owner was asked
    MUTUAL = "mutual"


class Event(Enum):
    """What the owner of an end does."""

    ADD = "add"
    ACCEPT = "accept"
    DECLINE = "decline"
    REMOVE = "remove"


MIRROR = {
    State.NONE: State.NONE,
    State.ASKED: State.ASKING,
    State.ASKING: State.ASKED,
    State.MUTUAL: State.MUTUAL,
}

# The state after an event at the owner's end; at the other end it is the mirror of that. An entry in the log of each
# whose state has changed tells of it. What is not here is refused.
TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.NONE: {
        Event.ADD: State.ASKED,
        Event.DECLINE: State.NONE,
        Event.REMOVE: State.NONE,
    },
    State.ASKED: {
        Event.ADD: State.ASKED,
        Event.REMOVE: State.NONE,
    },
    State.ASKING: {
        Event.ADD: State.MUTUAL,
        Event.ACCEPT: State.MUTUAL,
        Event.DECLINE: State.NONE,
        Event.REMOVE: State.NONE,
    },
    State.MUTUAL: {
        Event.ADD: State.MUTUAL,
        Event.ACCEPT: State.MUTUAL,
        Event.REMOVE: State.NONE,
    },
}


class Switches(NamedTuple):
    """What is done to the four switches of a relation, as its owner sees them; None: left as it is."""

    wants: bool | None = None
    wanted: bool | None = None  # the other one wants it
    blocks: bool | None = None
    blocked: bool | None = None  # by the other one

    def mirrored(self) -> "Switches":
        """The same for the other end."""
        return Switches(self.wanted, self.wants, self.blocked, self.blocks)

    def __str__(self) -> str:
        return "".join("-" if switch is None else str(int(switch)) for switch in self)


# Who declines or removes ends both wishes: a request that comes later is a new one.
SWITCHES: Mapping[Event, Switches] = {
    Event.ADD: Switches(wants=True),
    Event.ACCEPT: Switches(wants=True),
    Event.DECLINE: Switches(wants=False, wanted=False),
    Event.REMOVE: Switches(wants=False, wanted=False),
}
BLOCK, UNBLOCK = Switches(blocks=True), Switches(blocks=False)


def state_of(*, wants: bool, wanted: bool) -> State:
    if wants:
        return State.MUTUAL if wanted else State.ASKED
    return State.ASKING if wanted else State.NONE


def after(state: State, event: Event, other: str) -> State:
    """The owner's state after the event. Raises NotFound where there is nothing to accept or decline."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise NotFound(f"user: there is no request from {other}") from None
