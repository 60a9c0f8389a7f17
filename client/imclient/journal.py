"""What is to be remembered of a conversation with the server, in the order in which it happened. Sans-IO.

Who has a file (see `keeping`) takes it from here and writes it; for who has none nothing is noted.
"""

from collections.abc import Callable

import msgspec

from imclient.events import Contact, Entry


class Kept(msgspec.Struct, frozen=True):
    """An entry has been taken; a message that is known already has moved to `at`."""

    log: str
    at: str
    entry: Entry


class Lost(msgspec.Struct, frozen=True):
    """A log has lost what was behind a position. Up to `done` (None: nothing) the application has had it."""

    log: str
    behind: str
    done: str | None


class Queued(msgspec.Struct, frozen=True):
    """A message without an answer. `number` is its place among them, `frame` the request without its `again`."""

    number: int
    id: str
    to: str
    frame: bytes
    is_confirmed: bool = False  # the application knows that it is stored; it is sent again all the same
    run: str | None = None  # that made the id; None where it is known, or the application chose the id


class Unqueued(msgspec.Struct, frozen=True):
    """It has been answered for, or taken back."""

    id: str


class Listed(msgspec.Struct, frozen=True):
    """The list of contacts, as it was read."""

    version: int
    contacts: tuple[Contact, ...]


class Mark(msgspec.Struct, frozen=True):
    """A point in time, as far as a file is concerned."""

    cursors: dict[str, str]  # log to position: what the application was done with
    number: int  # of the last message that was queued


Change = Kept | Lost | Queued | Unqueued | Listed


class Journal:
    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        """`wake`: there is something to be taken. None: nobody will."""
        self._wake = wake
        self._changes: list[Change] = []

    @property
    def is_on(self) -> bool:
        return self._wake is not None

    def add(self, change: Change) -> None:
        if self._wake is not None:
            self._changes.append(change)
            self._wake()

    def take(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes
