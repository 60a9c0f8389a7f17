"""Which fault comes when. Pure: the same seed gives the same run, as far as the machine lets it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_LATEST_SHARE = 0.9


class Step(NamedTuple):
    """One fault, or a second one that begins while the first is under way.

    `after`: when the second begins, as a share of the first one's time. Each lasts as long as it does alone.
    """

    kinds: tuple[str, ...]
    after: float = 0.0


def schedule(seed: int, count: int, kinds: Sequence[str]) -> list[str]:
    """`count` faults; every kind comes once before one comes again."""
    chance = random.Random(seed)
    faults: list[str] = []
    while len(faults) < count:
        faults += chance.sample(kinds, len(kinds))
    return faults[:count]


def steps(
    seed: int, count: int, kinds: Sequence[str], overlap: float, may_overlap: Callable[[str, str], bool]
) -> list[Step]:
    """The same faults, of which some come in pairs: a fault is followed, with probability `overlap`, by a second one.

    The second is the next one that may overlap with it; the others keep their order.
    """
    chance = random.Random(f"overlap {seed}")
    waiting = schedule(seed, count, kinds)
    found: list[Step] = []
    while waiting:
        first = waiting.pop(0)
        fits = (number for number, other in enumerate(waiting) if may_overlap(first, other))
        found.append(Step((first,)) if chance.random() >= overlap else _pair(first, waiting, fits, chance))
    return found


def _pair(first: str, waiting: list[str], fits: Iterator[int], chance: random.Random) -> Step:
    second = next(fits, None)
    if second is None:
        return Step((first,))
    return Step((first, waiting.pop(second)), chance.uniform(0.0, _LATEST_SHARE))
