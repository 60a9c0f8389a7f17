"""From what everything costs and what people do to cores, memory and traffic. Pure.

The model is a sum: each thing that happens has a price in CPU time of workers and of the store, in bytes kept and in
bytes on the network, whatever else happens. That is only nearly so (work comes in batches, which get cheaper as there
is more of it); how near, the coefficients' `checks` say: the same sum against runs of several sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

EVENTS = ("message", "group_post", "group_delivery", "login", "presence_told", "keepalive")
"""What has a price: a message one to one, stored in both logs and delivered; a message to a group, and each delivery of
it; a login by token; one contact told of one change of presence; a ping and its answer."""

_HOUR = 3600


class SizingError(Exception):
    """A file can't be used; the text says why."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one event: microseconds of CPU of workers and of the store; bytes between clients and workers, both ways."""

    server_us: float
    redis_us: float
    network_bytes: float = 0.0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A run of another size than those the coefficients come from. Cores: of workers and store together."""

    what: str
    sessions: int
    per_second: Mapping[str, float]
    """Events a second, by name."""
    measured_cores: float


class Coefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything measured on one machine on one day. Bytes are of one session, account or message."""

    date: str
    machine: Mapping[str, str | int]
    costs: Mapping[str, Cost]
    idle_worker_cores: float
    """Of a worker and its share of the store, while nobody is there: leases, probes."""
    worker_bytes: float
    session_server_bytes: float
    session_kernel_bytes: float
    """Of one end of a connection."""
    session_redis_bytes: float
    account_bytes: float
    message_bytes: float
    """In both users' logs together, with what repeats are known by."""
    checks: Sequence[Check]


Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]


class People(msgspec.Struct, frozen=True, kw_only=True):
    """Who there is and what they do. Rates are of one who is online, in the busiest hour."""

    users: Annotated[int, Meta(ge=1)]
    online: Share = 0.2
    messages_per_hour: float = 15.0
    group_messages_per_hour: float = 4.0
    group_members_online: float = 10.0
    presence_per_hour: float = 6.0
    contacts_online: float = 12.0
    logins_per_hour: float = 0.5
    ping_seconds: Positive = 60.0
    kept_messages: float = 1000.0
    """Messages of each user that the store keeps (both logs), on average."""


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """At the busiest hour, without any reserve."""

    sessions: float
    per_second: dict[str, float]
    server_cores: float
    redis_cores: float
    server_bytes: float
    redis_bytes: float
    network_bytes_per_second: float


def events_per_second(people: People) -> dict[str, float]:
    online = people.users * people.online
    posts = online * people.group_messages_per_hour / _HOUR
    return {
        "message": online * people.messages_per_hour / _HOUR,
        "group_post": posts,
        "group_delivery": posts * people.group_members_online,
        "login": online * people.logins_per_hour / _HOUR,
        "presence_told": online * people.presence_per_hour * people.contacts_online / _HOUR,
        "keepalive": online / people.ping_seconds,
    }


def needs(people: People, known: Coefficients) -> Needs:
    per_second = events_per_second(people)
    sessions = people.users * people.online
    return Needs(
        sessions=sessions,
        per_second=per_second,
        server_cores=_sum(per_second, known, "server_us") / 1e6,
        redis_cores=_sum(per_second, known, "redis_us") / 1e6,
        server_bytes=sessions * (known.session_server_bytes + known.session_kernel_bytes),
        redis_bytes=people.users * known.account_bytes
        + sessions * known.session_redis_bytes
        + people.users * people.kept_messages * known.message_bytes / 2,
        network_bytes_per_second=_sum(per_second, known, "network_bytes"),
    )


def predicted_cores(per_second: Mapping[str, float], known: Coefficients) -> float:
    """Of one worker and its store together."""
    events = _sum(per_second, known, "server_us") + _sum(per_second, known, "redis_us")
    return events / 1e6 + known.idle_worker_cores


def errors(known: Coefficients) -> list[float]:
    """How much too high the model is in each check, as a share; negative: too low."""
    return [predicted_cores(check.per_second, known) / check.measured_cores - 1 for check in known.checks]


def _sum(per_second: Mapping[str, float], known: Coefficients, name: str) -> float:
    return sum(rate * float(getattr(known.costs[event], name)) for event, rate in per_second.items())


def read_coefficients(path: Path) -> Coefficients:
    """Raises SizingError."""
    try:
        known = msgspec.json.decode(path.read_bytes(), type=Coefficients)
    except (OSError, ValueError) as error:
        raise SizingError(f"{path}: {error}") from error
    missing = [event for event in EVENTS if event not in known.costs]
    if missing:
        raise SizingError(f"{path}: costs lacks {', '.join(missing)}")
    return known
