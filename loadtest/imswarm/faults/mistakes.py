"""Mistakes made on purpose, between a device and its history: who judges must be seen to notice them."""

from __future__ import annotations

from collections.abc import Callable

from imswarm.history import Deliver, Line, Seen

_AT_DELIVERY = 20
"""So many come right first."""
_FLAP_AFTER_SECONDS = 3.0
"""After a contact was shown: until then somebody who has just come may still be shown offline."""

Write = Callable[[Line], None]


class Mistake:
    """Writes what it is given, but for one delivery, which it drops, doubles, or swaps with the next.

    Or it leaves all as it is, and adds that a contact is offline: "flap".
    """

    def __init__(self, kind: str, write: Write) -> None:
        self._kind = kind
        self._write = write
        self._deliveries = 0
        self._held: Line | None = None
        self._shown: Seen | None = None
        self._has_flapped = False

    def record(self, line: Line) -> None:
        self._deliveries += isinstance(line, Deliver)
        if self._kind == "flap":
            self._write(line)
            self._flap(line)
        elif isinstance(line, Deliver) and self._deliveries == _AT_DELIVERY:
            self._spoil(line)
        else:
            self._write(line)
            self._write_held(line)

    def _spoil(self, line: Line) -> None:
        if self._kind == "swap":
            self._held = line
        elif self._kind == "double":
            self._write(line)
            self._write(line)

    def _flap(self, line: Line) -> None:
        """Once, some time after a contact was shown."""
        if isinstance(line, Seen) and self._shown is None:
            self._shown = line
        elif self._shown is not None and line.time >= self._shown.time + _FLAP_AFTER_SECONDS and not self._has_flapped:
            self._write(Seen(line.time, self._shown.user, "offline"))
            self._has_flapped = True

    def _write_held(self, line: Line) -> None:
        if self._held is not None and isinstance(line, Deliver):
            self._write(self._held)
            self._held = None
