"""The calls of a link that have no answer yet: how many they may be, and for how long."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from imserver.errors import ImError, Unavailable
from imserver.store.answers import fail
from imserver.store.held import Call, Held, take_out
from imserver.store.link_roles import LinkOwner

if TYPE_CHECKING:
    from imserver.store.redis_link import RedisLink


class Backlog:
    """Of one link, which adds what comes and takes what is answered."""

    _owner: LinkOwner
    why_down: str

    def __init__(self, most_calls: int) -> None:
        self._calls: deque[Call] = deque()  # those without a reply
        self._held = Held()  # those whose reply is not proven
        self._most_calls = most_calls
        self._saturated = False
        self._waiters: list[Callable[[], None]] = []

    @property
    def in_flight(self) -> int:
        return len(self._calls) + len(self._held)

    # -- how many

    def when_relieved(self, wake: Callable[[], None]) -> None:
        """Calls `wake` once half of the calls that saturated the link have been answered."""
        self._waiters.append(wake)

    def _relieve_if_half_done(self) -> None:
        if self._saturated and self.in_flight < self._most_calls // 2:
            self._relieve()

    def _relieve(self) -> None:
        self._saturated = False
        self._owner.on_relieved(cast("RedisLink", self))
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    # -- for how long

    def oldest_call_seconds(self, now: float) -> float:
        """Since when the first call without an answer waits; 0: there is none."""
        oldest = self._held.oldest() or (self._calls[0] if self._calls else None)
        return 0.0 if oldest is None else now - oldest.since

    def _fail_all(self, error: ImError) -> None:
        """All at once: were an older call to fail and a newer one to succeed, messages would change places."""
        calls = list(self._calls)
        self._calls.clear()
        for call in calls:
            fail(call, error)
        self._relieve()

    def fail_what_must_not_be_late(self) -> None:
        """What is to be made `once`, and was on its way when the link was lost."""
        for call in take_out(self._calls, lambda call: call.once):
            fail(call, Unavailable(f"the store is out of reach ({self.why_down}); nobody knows whether this was done"))
