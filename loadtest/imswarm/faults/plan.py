"""What the parent and a client process tell each other over their pipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imswarm.faults.incidents import Incident
from imswarm.history import Device

MISTAKES = ("drop", "double", "swap", "flap")
"""What can be done to one delivery before it is recorded, or beside it, to see that a judge notices."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a user does in its group: it writes to it, as long as it is a member.

    `wanders`: it joins and leaves now and then, and is no member at first. `kicks`: whom it throws out now and then.
    """

    group: str
    wanders: bool = False
    kicks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """One device: who it is, how it connects, to whom it writes; all but the hopeless of them are contacts.

    `since`: the end of its log before the run. `role`: in a group; of the first device only `is_active` in it.
    """

    device: Device
    url: str
    token: str
    since: str
    contacts: tuple[str, ...]
    role: Role
    is_active: bool
    hopeless: tuple[str, ...] = ()

    @property
    def partners(self) -> tuple[str, ...]:
        """Users and groups."""
        return self.contacts + self.hopeless + ((self.role.group,) if self.is_active else ())


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client process does. `window`: messages without an answer, of each device to each partner."""

    seats: tuple[Seat, ...]
    directory: Path
    rate_per_second: float
    window: int
    body_bytes: int
    seed: int
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
class Leave:
    """These users are away with all their devices, until `Return`; they log out, or go without a word."""

    users: tuple[str, ...]
    says_so: bool


@dataclass(frozen=True, slots=True)
class Return:
    """Who is away comes back."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Say nothing more, and wait until everything is answered."""

    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Mark:
    """Each of these devices sends a last message; wait until it has come to all devices of its recipient here.

    To a group, to all devices of its members. A log has one order, so who has the mark has everything. Then each device
    is to be shown all its contacts, too.
    """

    marks: tuple[tuple[Device, str], ...]
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """Log out, close the histories."""


Order = Begin | Reset | Restart | Leave | Return | Quiet | Mark | End


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
