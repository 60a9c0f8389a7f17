"""What a client met that a deployment should spare it, and which fault excuses it. Pure.

- **refused**: there was nobody to connect to.
- **turned-away**: it connected and did not come in: an error, a reset, an end, no answer in time. A `bye` is none: it
  says come again, and the client does.
- **cut**: a session ended, and the server had not said `bye`.

A fault's row in `catalogue` says which of these it excuses (and what of presence, see `presence_judge`), while it lasts
and until traffic is back: a killed worker says no `bye`. What no fault excuses is counted, and the run has failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from imswarm.faults.figures import Injury
from imswarm.presence_judge import FALSE_OFFLINE, Hindrance

REFUSED, TURNED_AWAY, CUT = INCIDENTS = ("refused", "turned-away", "cut")

LATE_NEWS = "late-news"
"""No incident: that contacts are told late what somebody shows."""

_AFTERMATH_SECONDS = 1.0
"""So long after traffic is back clients may still come back from what the fault did to them."""


class Incident(NamedTuple):
    """`begin`: of the attempt, `time`: of its failure, by the monotonic clock; `who`: a device, or a probe."""

    begin: float
    time: float
    kind: str
    who: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.who}: {self.why}"


Excuses = Mapping[str, Collection[str]]
"""Kind of fault to the kinds of incidents that it excuses."""


def unexcused(incidents: Iterable[Incident], injuries: Sequence[Injury], excuses: Excuses) -> list[Incident]:
    """Those that no fault explains, in the order of time."""
    return sorted(each for each in incidents if not any(_excuses(injury, each, excuses) for injury in injuries))


def _excuses(injury: Injury, incident: Incident, excuses: Excuses) -> bool:
    return incident.kind in excuses[injury.kind] and is_around(injury, incident)


def hindrances(injuries: Iterable[Injury], excuses: Excuses) -> list[Hindrance]:
    """The faults as the judge of presence is told of them."""
    return [
        Hindrance(injury.begin, _over(injury), FALSE_OFFLINE in excuses[injury.kind])
        for injury in injuries
        if {LATE_NEWS, FALSE_OFFLINE} & set(excuses[injury.kind])
    ]


def is_around(injury: Injury, incident: Incident) -> bool:
    """Whether some of it happened in the fault's time or aftermath; if traffic never came back, that has no end."""
    return injury.begin <= incident.time and incident.begin <= _over(injury)


def _over(injury: Injury) -> float:
    back = float("inf") if injury.back_seconds is None else injury.back_seconds
    return injury.mended + back + _AFTERMATH_SECONDS


def count(incidents: Iterable[Incident]) -> dict[str, int]:
    """How many of each kind, all kinds."""
    counts = Counter(incident.kind for incident in incidents)
    return {kind: counts[kind] for kind in INCIDENTS}
