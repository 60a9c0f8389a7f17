"""Which instance holds which partitions: at the start. How a cluster changes later: cluster_watch.py, links.py."""

import time
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from imserver.config import Durability
from imserver.endpoints import hide_password
from imserver.errors import SetupError
from imserver.store.cluster_map import ClusterMap, parse_map
from imserver.store.partitions import PARTITIONS, slot_of_partition

OLDEST_VERSION = (7, 0)
_PAUSE_SECONDS = 0.25


class Shard(NamedTuple):
    """One instance, or one primary of a cluster, and the partitions it holds, in order."""

    url: str
    partitions: list[int]
    clustered: bool  # a call must stay within one slot, even where this is the only primary
    durability: Durability = "process"  # what its replies are taken to promise


def find_shards(url: str, patience_seconds: float = 10.0) -> list[Shard]:
    """Asks the instance at `url` (blocking); where several nodes of a cluster are named there, the first that answers.

    Raises SetupError where none can be reached, or what is reached can't be used.
    """
    urls = url.split(",")
    deadline = time.monotonic() + patience_seconds
    while True:
        for each in urls:
            try:
                return _ask(each, alone=len(urls) == 1)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if time.monotonic() >= deadline:
                    raise SetupError(f"redis: {hide_password(each)} can't be used: {error}") from error
            except redis.RedisError as error:
                raise SetupError(f"redis: {hide_password(each)} can't be used: {error}") from error
        time.sleep(_PAUSE_SECONDS)


def _ask(url: str, *, alone: bool) -> list[Shard]:
    """Raises redis.RedisError and SetupError."""
    client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5)
    try:
        info: dict[str, Any] = client.info()
        _check_version(url, info)
        if info.get("cluster_enabled"):
            slots: Any = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
            return _of_cluster(url, parse_map(url, slots, b""))
        if not alone:
            raise SetupError(f"redis: several stores are named, and {hide_password(url)} is not one of a cluster")
        return [Shard(url, list(range(PARTITIONS)), clustered=False)]
    finally:
        client.close()


def _check_version(url: str, info: dict[str, Any]) -> None:
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise SetupError(f"redis: {url} is version {version}; 7.0 or newer is needed (functions, sharded pub/sub)")


def _of_cluster(url: str, found: ClusterMap) -> list[Shard]:
    if not found.is_complete:
        missing = next(partition for partition in range(PARTITIONS) if partition not in found.holders)
        raise SetupError(f"redis: the cluster at {url} does not serve slot {slot_of_partition(missing)}")
    return [Shard(primary, partitions, clustered=True) for primary, partitions in found.shards().items()]
