"""What the store needs of those it is put together with."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from imserver.model import Entry, Place, UserId
from imserver.store.calls import Bounds
from imserver.store.circle_calls import Told


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


class PresenceListener(Protocol):
    """The same of presence."""

    def on_told(self, user: UserId, to: Sequence[UserId], told: Told) -> None:
        """Contacts of the user, who have sessions here, are told its presence."""

    def on_typing(self, to: str, sender: UserId, *, is_on: bool) -> None:
        """The sender types; the user, or followers of the group, have sessions here."""

    def missed(self) -> None:
        """What was published to this node may not have come, or may not come any more."""

    async def clear(self, user: UserId, node: str) -> None:
        """The user's sessions at the node, which is dead, have left the directory; contacts are to be told.

        Raises ServiceError: then it is called again.
        """


class Holdable(Protocol):
    def hold(self) -> None: ...
    def release(self) -> None: ...


class StoreOptions(NamedTuple):
    """Settings; `most_calls`: unanswered ones of one link."""

    bounds: Bounds
    timeout_seconds: float
    probe_seconds: float
    lease_seconds: float
    most_calls: int
