"""Pages of logs are read a few at a time over each link; others wait in line.

A page takes a worker a millisecond, to parse and to send on. Were all sessions that read their logs at the same time to
ask at once (hundreds come back, or fall behind in one group), every message and every answer to a send would wait
behind all of their pages. So few are under way that nothing waits for long behind them, and enough that the store
always has the next one at hand. A read that waits is as good as one that is under way: it gives what the log has when
it is done.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from imserver.errors import ImError
from imserver.model import Entry, Position
from imserver.store import calls
from imserver.store.calls import Packed
from imserver.store.partitions import UserKeys
from imserver.store.trimming import Trimming

if TYPE_CHECKING:
    from imserver.store.redis_link import RedisLink

AT_ONCE = 4

OnPage = Callable[[list[Entry] | ImError], None]


class _Read(NamedTuple):
    keys: UserKeys
    after: Position
    most: int
    then: OnPage


class PageReads:
    def __init__(self, by_partition: Sequence["RedisLink"], trimming: Trimming) -> None:
        """`by_partition` may change; a read goes to the link that has its partition when its turn has come."""
        self._by_partition = by_partition
        self._trimming = trimming
        self._under_way: dict[RedisLink, int] = {}
        self._waiting: dict[RedisLink, deque[_Read]] = {}

    def read(self, keys: UserKeys, after: Position, most: int, then: OnPage) -> None:
        link, read = self._by_partition[keys.partition], _Read(keys, after, most, then)
        if self._under_way.get(link, 0) < AT_ONCE:
            self._begin(link, read)
        else:
            self._waiting.setdefault(link, deque()).append(read)

    async def read_now(self, keys: UserKeys, command: Packed) -> list[Entry]:
        """For a task that reads a log: a page of its own, not in line. Raises ServiceError."""
        page = calls.entries(await self._by_partition[keys.partition].ask(command))
        return self._trimming.readable(keys, page)

    def _begin(self, counted: "RedisLink", read: _Read) -> None:
        self._under_way[counted] = self._under_way.get(counted, 0) + 1
        link = self._by_partition[read.keys.partition]
        command = calls.read(read.keys, read.after, read.most)
        link.call(command, partial(self._on_page, counted, read), calls.entries)

    def _on_page(self, counted: "RedisLink", read: _Read, page: list[Entry] | ImError) -> None:
        left = self._under_way[counted] = self._under_way[counted] - 1
        waiting = self._waiting.get(counted)
        if waiting:
            # After an error the link is out of reach, or was: all wait for it alike, and hear of it alike.
            for _ in range(len(waiting) if isinstance(page, ImError) else 1):
                self._begin(counted, waiting.popleft())
        elif not left:
            del self._under_way[counted]
            self._waiting.pop(counted, None)
        if not isinstance(page, ImError):
            self._trimming.readable(read.keys, page)
        read.then(page)
