"""What has come over a link and is not given on yet: Redis may have sent it before it wrote what it tells of.

Redis executes commands, then writes what they changed to its append-only file, then sends the replies: one turn of its
event loop. Only where a connection has unsent output from an earlier turn it may send a reply, or something published,
in the turn that executes the command, before the write (docs/decisions/0008-durability.md).

**Invariant: what is given on has been written.** Redis reads a connection once a turn. So a command that was written
after something had arrived is executed in a later turn than that, behind the write in between; its reply is the proof.
An error is none: Redis may refuse a command in the middle of a turn. If it refuses one because a write failed
(MISCONF), the writes of what waits may have failed, and their outcome is unknown.

**Invariant: nothing overtakes.** Replies and pushes wait in one queue, or an entry could pass the reply to the append
before it, which a session takes for a gap.

Pure: replies are numbered as they come on one connection, from 1.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hiredis
import msgspec

from imserver.store.calls import pack

PING = pack(b"PING")  # asked for a proof when nothing else is; Redis refuses it as it refuses writes
_Refusal = hiredis.ReplyError
_NAME_ENDS = 16  # bytes of a packed command within which its name stands
_FUNCTION_ENDS = 32  # the same, for the first nine letters of a function's


class Call(msgspec.Struct, gc=False, eq=False):
    """A call on its way."""

    command: bytes
    parse: Any  # of the reply, before it is given on
    then: Any  # takes the reply, or an ImError
    since: float
    once: bool  # not repeated


Item = tuple[Call | None, Any]  # a call and its reply; None and what was published


class Held:
    """The items of one connection that wait for a proof, oldest first."""

    __slots__ = ("_batches", "_items")

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._batches: deque[tuple[int, int]] = deque()  # a reply with a higher number is a proof; how many items

    def __len__(self) -> int:
        return len(self._items)

    def add(self, batch: Sequence[Item], behind: int) -> None:
        """What came at once. Its proof is a reply with a number above `behind`."""
        self._items.extend(batch)
        self._batches.append((behind, len(batch)))

    def oldest(self) -> Call | None:
        """The first call that waits."""
        return next((call for call, _ in self._items if call is not None), None)

    def release(self, proof: int) -> Iterator[Item]:
        """What the reply with this number proves; ends early if `take_back` is called meanwhile."""
        count = 0
        while self._batches and self._batches[0][0] < proof:
            count += self._batches.popleft()[1]
        items = self._items
        while count and items:
            count -= 1
            yield items.popleft()

    def take_back(self) -> list[Call]:
        """The calls whose replies never were given on, oldest first; nothing is held any more."""
        calls = [call for call, _ in self._items if call is not None]
        self._items.clear()
        self._batches.clear()
        return calls


def changes(call: Call) -> bool:
    """Whether Redis refuses the call after a write that failed: what may change something, and PING."""
    return call.command is PING or b"FCALL" in call.command[:_NAME_ENDS]


def appends(call: Call) -> bool:
    """Whether it puts a message into a log."""
    return b"im_append" in call.command[:_FUNCTION_ENDS]


def take_out(calls: deque[Call], is_meant: Callable[[Call], bool]) -> list[Call]:
    """Those that are meant; the others stay, in their order."""
    taken = [call for call in calls if is_meant(call)]
    if taken:
        others = [call for call in calls if not is_meant(call)]
        calls.clear()
        calls.extend(others)
    return taken


def number_of_proof(batch: Sequence[Item], last: int) -> int:
    """Of the last reply in the batch that proves anything; 0: none. `last`: the number of the last reply in it."""
    for call, reply in reversed(batch):
        if call is not None:
            if type(reply) is not _Refusal and changes(call):
                return last
            last -= 1
    return 0
