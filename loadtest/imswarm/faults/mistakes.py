"""Mistakes made on purpose, between a device and its history: who judges must be seen to notice them."""

from __future__ import annotations

from collections.abc import Callable

from imswarm.history import Deliver, Line

_AT_DELIVERY = 20
"""So many come right first."""

Write = Callable[[Line], None]


class Mistake:
    """Writes what it is given, but for one delivery, which it drops, doubles, or swaps with the next."""

    def __init__(self, kind: str, write: Write) -> None:
        self._kind = kind
        self._write = write
        self._deliveries = 0
        self._held: Line | None = None

    def record(self, line: Line) -> None:
        self._deliveries += isinstance(line, Deliver)
        if isinstance(line, Deliver) and self._deliveries == _AT_DELIVERY:
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

    def _write_held(self, line: Line) -> None:
        if self._held is not None and isinstance(line, Deliver):
            self._write(self._held)
            self._held = None
