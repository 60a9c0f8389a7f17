"""Amendments come into logs: not where the message is deleted; and a deletion takes it, and its edits, out of them."""

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


class Gone(NamedTuple):
    """What leaves a log with a deletion. `seen`: the log was read up to there; what came since is looked at again."""

    seen: Position
    message: Position | None
    edits: Sequence[tuple[Position, bytes]]  # with their dedupe fields; the message's stays until its deletion is old

    def packed(self) -> bytes:
        entries = [*self.edits] if self.message is None else [(self.message, b""), *self.edits]
        return b"".join(b"%b %b\n" % entry for entry in entries)


class Deletion(NamedTuple):
    """`edits`: what edits of the message begin with, of people and of bots. `gone`: by log."""

    edits: tuple[bytes, bytes]
    gone: Mapping[str, Gone]


class What(NamedTuple):
    """An entry that changes a message. `message`: the dedupe field of that. `again`: as for `Store.append`."""

    message: bytes
    deletion: Deletion | None  # where it is one
    dedupe: bytes
    content: bytes
    origin: bytes
    again: int = 0


class AmendmentStore:
    """As part of a store."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def of(self, message: bytes, deletion: Deletion | None = None) -> Appends:
        """For an entry that changes a message, which is named by its dedupe field. `deletion`: where it is one."""
        amending = _Amending(self._store, message, deletion)
        return Appends(amending.append, amending.append_both, amending.post)


class _Amending:
    def __init__(self, store: "Store", message: bytes, deletion: Deletion | None) -> None:
        self._store, self._message, self._deletion = store, message, deletion

    def append(self, user: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0) -> None:
        what = What(self._message, self._deletion, dedupe, content, origin, again)
        self._call(user, append(user, what), then, calls.appended)

    def append_both(
        self, to: str, own: str, dedupe: bytes, content: bytes, origin: bytes, then: Then, again: int = 0
    ) -> None:
        what = What(self._message, self._deletion, dedupe, content, origin, again)
        self._call(to, append_both(to, own, what), then, calls.appended)
        self._store.trimming.now_and_then(user_keys(own))

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
        what = What(self._message, self._deletion, dedupe, content, origin, again)
        self._call(group, post(group, sender, what), then, group_calls.posted)

    def _call(self, owner: str, command: Packed, then: Then, parse: Callable[[Any], Any]) -> None:
        self._store.link_of(owner).call(command, then, parse)
        self._store.trimming.now_and_then(user_keys(owner))


def append(user: str, what: What) -> Packed:
    """Into a user's log."""
    keys = user_keys(user)
    return call(b"im_append_amendment_2", (keys.state, keys.log), *_arguments(what, user))


def append_both(to: str, own: str, what: What) -> Packed:
    """Into the recipient's and the sender's."""
    keys, own_keys = user_keys(to), user_keys(own)
    called_with = (keys.state, keys.log, own_keys.state, own_keys.log)
    return call(b"im_append_amendment_2", called_with, *_arguments(what, to, own))


def post(group: str, sender: str, what: What) -> Packed:
    """Into a group's."""
    keys = group_keys(group)
    called_with = (keys.state, keys.log, keys.members)
    return call(b"im_append_group_amendment_2", called_with, sender, *_arguments(what, group))


def _arguments(what: What, *logs: str) -> list[bytes | int]:
    arguments: list[bytes | int] = [what.dedupe, what.content, what.origin, what.message, what.again or b""]
    if what.deletion is not None:
        arguments += what.deletion.edits
        for log in logs:
            gone = what.deletion.gone[log]
            arguments += [gone.seen, gone.packed()]
    return arguments
