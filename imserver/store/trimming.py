"""Logs are kept within bounds, and what has expired leaves them.

A log is trimmed after appends, now and then. Where nobody appends it is trimmed when somebody reads what has expired;
who reads is not given that in any case.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imserver.errors import ImError
from imserver.model import Entry, Position, position_order
from imserver.store import calls
from imserver.store.answers import ignore
from imserver.store.calls import TRIM_STEPS, Bounds
from imserver.store.partitions import UserKeys
from imserver.store.stored import expires_of, removed

if TYPE_CHECKING:
    from imserver.store.redis_link import RedisLink

# Appending calls of one worker between two trims, of whatever log the last one was to. Odd: in a cluster a message
# takes two of them, and an even number would always meet the same side.
_EVERY = 61


def hide_expired(page: list[Entry], now: float) -> list[Position]:
    """In its place stands the entry `removed`, so that nobody misses anything. Returns where. `now`: unix seconds."""
    hidden: list[Position] = []
    for number, entry in enumerate(page):
        expires = expires_of(entry.content)
        if expires is not None and expires <= now:
            page[number] = Entry(entry.at, entry.prev, removed(entry.content))
            hidden.append(entry.at)
    return hidden


class Trimming:
    def __init__(self, by_partition: Sequence["RedisLink"], bounds: Bounds) -> None:
        """`by_partition` may change."""
        self._by_partition, self._bounds = by_partition, bounds
        self._until_trim = _EVERY
        self._sweeping: set[bytes] = set()  # logs

    def now_and_then(self, *appended_to: UserKeys) -> None:
        """After an append to the logs of these."""
        self._until_trim -= 1
        if self._until_trim:
            return
        self._until_trim = _EVERY
        for keys in appended_to:
            self._trim(keys, ignore)

    def readable(self, keys: UserKeys, page: list[Entry]) -> list[Entry]:
        """The page as it may be given to a reader."""
        now = time.time()
        hidden = hide_expired(page, now)
        # What may be sent again yet does not leave: the log would be trimmed in vain, with each page that is read.
        leaves = (now - self._bounds.dedupe_seconds) * 1000
        if hidden and keys.log not in self._sweeping and any(position_order(at)[0] < leaves for at in hidden):
            self._sweeping.add(keys.log)
            self._sweep(keys)
        return page

    def _sweep(self, keys: UserKeys) -> None:
        def trimmed(passed: object) -> None:
            if not isinstance(passed, ImError) and passed == TRIM_STEPS:
                self._sweep(keys)
            else:
                self._sweeping.discard(keys.log)

        self._trim(keys, trimmed)

    def _trim(self, keys: UserKeys, then: Callable[[object], None]) -> None:
        self._by_partition[keys.partition].call(calls.trim(keys, time.time(), self._bounds), then)
