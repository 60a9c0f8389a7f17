"""The decision that no gap is possible unseen.

Every entry names the position before it. Whoever has forwarded everything up to `position` can tell from an entry alone
whether it is the next one, an old one, or one behind a gap. Live delivery is only a hint; this makes it safe.
"""

from enum import Enum

from imserver.model import Position, position_order


class Verdict(Enum):
    FORWARD = "forward"
    DUPLICATE = "duplicate"
    GAP = "gap"


_FORWARD = Verdict.FORWARD  # looked up with every message


def judge(position: Position, at: Position, prev: Position) -> Verdict:
    """What to do with an entry when everything up to `position` has been forwarded."""
    if prev == position:
        return _FORWARD
    if not is_newer(at, position):
        return Verdict.DUPLICATE
    return Verdict.GAP


def is_newer(at: Position, position: Position) -> bool:
    return position_order(at) > position_order(position)


def later(position: Position, other: Position | None) -> Position:
    """The newer of the two; a log that has lost its end may end before what was heard of it."""
    return position if other is None or is_newer(position, other) else other
