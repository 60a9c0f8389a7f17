"""Whether the stores are configured for what their replies are taken to promise: looked at when a worker starts.

Configuration that is changed while the server runs is not noticed before a worker starts again.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from imserver.config import Durability
from imserver.endpoints import hide_password
from imserver.errors import SetupError
from imserver.observe.log import get_logger
from imserver.store.shards import Shard

log = get_logger("store")

ANSWER_SECONDS = 5.0


class Rule(NamedTuple):
    """What Redis's setting `name` must be, and what would happen otherwise."""

    name: str
    good: tuple[str, ...]  # the first is what is recommended
    otherwise: str
    tolerated: tuple[str, ...] = ()  # with a warning


_FULL = Rule("maxmemory-policy", ("noeviction",), "a full Redis throws messages away")
_NOT_POSTPONED = Rule(
    "appendfsync",
    ("no", "always"),
    "Redis postpones writes while the disk is busy, and loses them when it is killed then",
    tolerated=("everysec",),
)
_RULES: dict[Durability, tuple[Rule, ...]] = {
    "process": (
        _FULL,
        Rule("appendonly", ("yes",), "a Redis that is killed loses what was acknowledged"),
        _NOT_POSTPONED,
    ),
    "replica": (
        _FULL,
        Rule(
            "appendonly",
            ("yes",),
            "a primary that is killed and started again is empty, and makes its replicas empty, too",
            tolerated=("no",),
        ),
        _NOT_POSTPONED,  # for a primary that is started again before a replica takes its place
    ),
    "disk": (
        _FULL,
        Rule("appendonly", ("yes",), "a Redis that is killed loses what was acknowledged"),
        Rule("appendfsync", ("always",), "a power failure loses what was acknowledged"),
        Rule("no-appendfsync-on-rewrite", ("no",), "a power failure during a rewrite loses what was acknowledged"),
    ),
}


def hold_to(shards: Sequence[Shard], durability: Durability, *, warn: bool) -> list[Shard]:
    """The shards, whose replies are taken to promise `durability` from now on (blocking).

    Raises SetupError, with a line for each setting that a shard must have otherwise. What is doubtful is logged if
    `warn`; nothing where the server may not be asked (CONFIG is often forbidden on managed ones).
    """
    wrong: list[str] = []
    for shard in shards:
        found = _configuration_of(shard, durability, warn=warn)
        wrong += _complaints(shard, durability, found)
        if warn:
            for text in _doubts(shard, durability, found):
                log.warning("durability is not as promised", why=text)
    if wrong:
        raise SetupError("\n".join(wrong))
    return [shard._replace(durability=durability) for shard in shards]


def _configuration_of(shard: Shard, durability: Durability, *, warn: bool) -> dict[str, str]:
    names = [rule.name for rule in _RULES[durability]]
    client = redis.Redis.from_url(
        shard.url, retry=Retry(NoBackoff(), 1), socket_timeout=ANSWER_SECONDS, decode_responses=True
    )
    try:
        if durability == "replica":
            _look_for_replica(shard, client)
        found = {str(name): str(value) for name, value in client.config_get(*names).items()}
        why = "" if found else "it tells nothing"
    except redis.ResponseError as error:
        found, why = {}, str(error)
    except redis.RedisError as error:
        raise SetupError(f"redis: {hide_password(shard.url)} can't be used: {error}") from error
    finally:
        client.close()
    if why and warn:
        advice = "make sure of it yourself: docs/delivery.md"
        log.warning("durability can't be checked", shard=hide_password(shard.url), why=why, advice=advice)
    return found


def _look_for_replica(shard: Shard, client: "redis.Redis") -> None:
    information = client.info("replication")
    rows = [row for name, row in information.items() if name.startswith("slave") and isinstance(row, dict)]
    if not any(row["state"] == "online" for row in rows):
        raise SetupError(
            f"durability = replica: {hide_password(shard.url)} has no replica that is connected. A replica's "
            "configuration needs the line `replicaof HOST PORT`"
        )


def _complaints(shard: Shard, durability: Durability, found: dict[str, str]) -> Iterator[str]:
    for rule in _RULES[durability]:
        value = found.get(rule.name)
        if value is not None and value not in rule.good + rule.tolerated:
            yield _told(shard, durability, rule, value)


def _doubts(shard: Shard, durability: Durability, found: dict[str, str]) -> Iterator[str]:
    for rule in _RULES[durability]:
        value = found.get(rule.name)
        if value in rule.tolerated:
            yield _told(shard, durability, rule, value)


def _told(shard: Shard, durability: Durability, rule: Rule, value: str) -> str:
    return (
        f"durability = {durability}: {hide_password(shard.url)} has `{rule.name} {value}`: {rule.otherwise}. "
        f"Its configuration needs the line `{rule.name} {rule.good[0]}`"
    )
