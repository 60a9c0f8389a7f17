"""The ladder: what is given up, and in which order, when more is asked than can be done. Pure.

A command's row in `protocol.commands` names the level at which it is refused. Messages of established sessions are
never refused for that: their clients are not read from (`Store.hold_while_saturated`), so they wait where they are.
"""

from enum import IntEnum
from math import inf
from typing import NamedTuple


class Level(IntEnum):
    """What is shed at this level and above, in the order in which it is."""

    CALM = 0
    TYPING = 1
    PRESENCE = 2
    MARKERS = 3
    HISTORY = 4
    LOGINS = 5
    NEVER = 6  # no strain reaches it: what is never shed


class Strain(NamedTuple):
    """What a worker and one of its shards have to bear, as measured now.

    calls: unanswered on the shard's link, as a share of `store_in_flight`
    oldest: seconds since the oldest of them was made
    lag: seconds by which the worker's turns come late
    logins: how long a login that came now would wait in line, as a share of `login_wait_seconds`
    """

    calls: float
    oldest: float
    lag: float
    logins: float


# Each of these alone leads to the level. At calls = 1 messages wait. A long line of logins never refuses logins: the
# line does that itself, and tells when to come back (protocol/admission.py).
_STEPS = (
    #                    calls  oldest  lag  logins
    (Level.LOGINS, Strain(0.75, 4.0, 1.5, inf)),
    (Level.HISTORY, Strain(0.5, 2.0, 1.0, 0.8)),
    (Level.MARKERS, Strain(0.4, 1.0, 0.6, 0.6)),
    (Level.PRESENCE, Strain(0.3, 0.5, 0.4, 0.4)),
    (Level.TYPING, Strain(0.2, 0.25, 0.2, 0.2)),
)

_LEAST = _STEPS[-1][1]

_LONGEST_DELAY_SECONDS = 4.0  # of what is counted on; most of a long one is over soon after its cause is


def level_of(strain: Strain) -> Level:
    """The highest level that one of the measures has reached."""
    calls, oldest, lag, logins = strain
    if calls < _LEAST.calls and oldest < _LEAST.oldest and lag < _LEAST.lag and logins < _LEAST.logins:
        return Level.CALM  # nearly always; asked with every acknowledgement
    for level, bounds in _STEPS:
        if any(measured >= bound for measured, bound in zip(strain, bounds, strict=True)):
            return level
    return Level.CALM


def lag_of(late: float, spent: float) -> float:
    """By how many seconds turns come late, where one was so `late` and so much CPU was `spent` meanwhile.

    Who did nothing was stopped, and is not any more; who has too much to do gets a quarter of a core at least.
    """
    return min(late, 4 * spent)


def retry_after(strain: Strain, random: float) -> float:
    """Seconds after which a command that was shed may be done: what is there now takes about as long as it has taken.

    `random` (0 to 1) spreads those who were refused together.
    """
    return round((0.5 + min(strain.oldest + strain.lag, _LONGEST_DELAY_SECONDS)) * (1 + random), 3)
