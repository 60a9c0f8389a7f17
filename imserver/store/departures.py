"""Who has left, and stands in the directory all the same, since the store could not write: it is asked again.

Else contacts would see them for as long as this node lives. A node that ends with some of them keeps its lease, so that
others clear them when that is over.
"""

from collections.abc import Callable
from functools import partial

from imserver.errors import ImError
from imserver.model import Place


class Departures:
    __slots__ = ("_again",)

    def __init__(self) -> None:
        self._again: dict[Place, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._again)

    def watch(
        self, place: Place, again: Callable[[], None], then: Callable[[object], None]
    ) -> Callable[[object], None]:
        """What takes the store's answer: an error is followed by `again`, in a second; anything else is for `then`."""
        return partial(self._answered, place, again, then)

    def _answered(self, place: Place, again: Callable[[], None], then: Callable[[object], None], reply: object) -> None:
        if isinstance(reply, ImError):
            self._again[place] = again
        else:
            then(reply)

    def tick(self) -> None:
        """Once a second."""
        again, self._again = self._again, {}
        for ask in again.values():
            ask()
