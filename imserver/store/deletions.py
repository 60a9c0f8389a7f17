"""What an entry does besides being appended: a deletion takes the message, and its edits, out of the logs."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from imserver.errors import ImError
from imserver.model import Position
from imserver.store import calls, group_calls
from imserver.store.calls import Appended, Packed, call
from imserver.store.partitions import group_keys, user_keys

if TYPE_CHECKING:
    from imserver.store.store import Store

Then = Callable[[Appended | ImError], None]


class Appends(NamedTuple):
    """How an entry comes into logs: as `Store.append`, `Store.append_both` and `GroupStore.post`."""

    one: Callable[..., None]
    both: Callable[..., None]
    group: Callable[..., None]


class Deletions:
    """As part of a store."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def of(self, gone: Mapping[str, Sequence[Position]]) -> Appends:
        """For an entry with which others leave: `gone` has their positions in each of the logs concerned."""
        deletion = _Deletion(self._store, {log: b" ".join(positions) for log, positions in gone.items()})
        return Appends(deletion.append, deletion.append_both, deletion.post)


class _Deletion:
    def __init__(self, store: "Store", gone: dict[str, bytes]) -> None:
        self._store, self._gone = store, gone

    def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0) -> None:
        keys = user_keys(user)
        command = deletion((keys.state, keys.log), dedupe, content, origin, self._gone[user], b"", again)
        self._call(user, command, then, calls.appended)

    def append_both(
        self, to: str, own: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0
    ) -> None:
        keys, own_keys = user_keys(to), user_keys(own)
        called_with = (keys.state, keys.log, own_keys.state, own_keys.log)
        command = deletion(called_with, dedupe, content, origin, self._gone[to], self._gone[own], again)
        self._call(to, command, then, calls.appended)
        self._store.trimming.now_and_then(own_keys)

    def post(
        self,
        group: str,
        sender: str,
        dedupe: bytes,
        content: bytes,
        origin: bytes,
        then: Then,
        again: int = 0,
        mentions: Sequence[str] = (),
    ) -> None:
        """It mentions nobody."""
        keys = group_keys(group)
        called_with, gone = (keys.state, keys.log, keys.members), self._gone[group]
        function = b"im_append_group_deletion_2"
        command = call(function, called_with, dedupe, content, origin, sender, gone, *_again(again))
        self._call(group, command, then, group_calls.posted)

    def _call(self, owner: str, command: Packed, then: Then, parse: Callable[[Any], Any]) -> None:
        self._store.link_of(owner).call(command, then, parse)
        self._store.trimming.now_and_then(user_keys(owner))


def deletion(
    keys: tuple[bytes, ...],
    dedupe: bytes,
    content: bytes,
    origin: bytes,
    gone: bytes,
    own_gone: bytes,
    again: int = 0,
) -> Packed:
    """`keys`: state and log of one user, or of recipient and sender. `gone`, `own_gone`: positions."""
    return call(b"im_append_deletion_2", keys, dedupe, content, origin, gone, own_gone, *_again(again))


def _again(again: int) -> tuple[int, ...]:
    return (again,) if again else ()
