"""The life of a session, and of each log it follows, as tables. `docs/architecture.md` shows them as diagrams.

A tail that is not LIVE forwards nothing that is published: what it misses it reads from the log, so no entry can fall
between two states.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar


class State(Enum):
    """A session's."""

    NEW = "new"  # connected: may register and log in
    ENTERING = "entering"  # a login is being checked
    INSIDE = "inside"  # logged in: follows its logs
    CLOSED = "closed"


class TailState(Enum):
    """Of one log that a session follows."""

    CATCHING_UP = "catching up"  # reading the log from its position
    LIVE = "live"  # forwarding entries as they are published
    BEHIND = "behind"  # the client does not take more; reads on when it does
    ENDED = "ended"  # the user has left the group


class Event(Enum):
    """What moves a session or a tail."""

    ENTER = "enter"
    REFUSED = "refused"
    WELCOMED = "welcomed"
    CLOSE = "close"
    CAUGHT_UP = "caught up"
    GAP = "gap"  # an entry is missing, or may be: a link was lost
    OVERFLOWED = "overflowed"  # the out-buffer is full
    DRAINED = "drained"  # the out-buffer is empty again
    LEFT = "left"


S = TypeVar("S", State, TailState)

SESSION: dict[State, dict[Event, State]] = {
    State.NEW: {Event.ENTER: State.ENTERING, Event.CLOSE: State.CLOSED},
    State.ENTERING: {Event.REFUSED: State.NEW, Event.WELCOMED: State.INSIDE, Event.CLOSE: State.CLOSED},
    State.INSIDE: {Event.CLOSE: State.CLOSED},
    State.CLOSED: {},
}

TAIL: dict[TailState, dict[Event, TailState]] = {
    TailState.CATCHING_UP: {
        Event.CAUGHT_UP: TailState.LIVE,
        Event.OVERFLOWED: TailState.BEHIND,
        Event.LEFT: TailState.ENDED,
    },
    TailState.LIVE: {
        Event.GAP: TailState.CATCHING_UP,
        Event.OVERFLOWED: TailState.BEHIND,
        Event.LEFT: TailState.ENDED,
    },
    TailState.BEHIND: {
        Event.DRAINED: TailState.CATCHING_UP,
        Event.LEFT: TailState.ENDED,
    },
    TailState.ENDED: {},
}


class IllegalTransition(Exception):
    """A bug of the server, never of its peer; the message names state and event."""


def advance(table: Mapping[S, Mapping[Event, S]], state: S, event: Event) -> S:
    """The state after `event`; raises IllegalTransition where the table has none."""
    try:
        return table[state][event]
    except KeyError:
        raise IllegalTransition(f"{state.value!r} can't take the event {event.value!r}") from None
