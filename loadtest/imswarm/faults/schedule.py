"""Which fault comes when. Pure: the same seed gives the same run, as far as the machine lets it."""

from __future__ import annotations

import random
from collections.abc import Sequence


def schedule(seed: int, count: int, kinds: Sequence[str]) -> list[str]:
    """`count` faults; every kind comes once before one comes again."""
    chance = random.Random(seed)
    faults: list[str] = []
    while len(faults) < count:
        faults += chance.sample(kinds, len(kinds))
    return faults[:count]
