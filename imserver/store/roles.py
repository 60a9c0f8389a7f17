"""Whom the store deals with."""

from collections.abc import Callable
from typing import Protocol

from imserver.model import Entry, Place, UserId


class Listener(Protocol):
    """Who is told what the store says unasked."""

    def on_entry(self, log: str, entry: Entry, origin: bytes) -> None:
        """An entry was appended to the log of a user who has sessions here, or of a group that has followers here."""

    def on_expelled(self, user: UserId, place: Place, why: str) -> None:
        """A session must go: `replaced` or `revoked`."""

    def on_link_up(self, holds: Callable[[str], bool]) -> None:
        """A shard was out of reach: what was published meanwhile is lost, for the users and groups it holds."""

    def on_cleared(self, holds: Callable[[str], bool]) -> None:
        """What this node had entered of groups of a shard is gone; it may be entered again."""

    def on_new_epoch(self, holds: Callable[[str], bool]) -> None:
        """A shard may have lost what it acknowledged last, of the logs of the users and groups it holds.

        Whoever sent it has to send it again, before anything newer.
        """

    def on_lease_lost(self, holds: Callable[[str], bool]) -> None:
        """Sessions of users of a shard MUST go elsewhere: before long this node is taken for dead there."""


class Holdable(Protocol):
    def hold(self) -> None: ...
    def release(self) -> None: ...
