"""What the parent and a client process tell each other over their pipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imswarm.faults.incidents import Incident
from imswarm.history import Device

MISTAKES = ("drop", "double", "swap")
"""What can be done to one delivery before it is recorded, to see that the judge notices."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One device: who it is, how it connects, to whom it writes."""

    device: Device
    url: str
    token: str
    partners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client process does. `window`: messages without an answer, of each device to each partner."""

    seats: tuple[Seat, ...]
    directory: Path
    rate_per_second: float
    window: int
    body_bytes: int
    mistake: str | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Connect everybody; talk as soon as all are in."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break this share of the connections, in the middle of the next frame."""

    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class Restart:
    """This share of the devices dies, and starts anew from what it had kept."""

    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """Say nothing more, and wait until everything is answered."""

    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Each of these devices sends a last message; wait until it has come to all devices of its recipient here.

    A log has one order, so who has the mark has everything.
    """

    marks: tuple[tuple[Device, str], ...]
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """Log out, close the histories."""


Order = Begin | Reset | Restart | Quiet | Mark | End


@dataclass(frozen=True, slots=True)
class Done:
    """The order is obeyed; `missing`: what did not happen in time, in words."""

    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class News:
    """How it goes; `incidents` and `troubles` are new, and no trouble is to be expected."""

    live: int
    delivered: int
    incidents: tuple[Incident, ...] = ()
    troubles: tuple[str, ...] = ()
