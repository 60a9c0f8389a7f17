"""Which instance holds which partitions, as it stands when a worker starts."""

from typing import Any, NamedTuple

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from imserver.config import Durability
from imserver.errors import SetupError
from imserver.store.partitions import PARTITIONS, slot_of_partition

OLDEST_VERSION = (7, 0)


class Shard(NamedTuple):
    """One instance, or one primary of a cluster, and the partitions it holds."""

    url: str
    partitions: list[int]
    clustered: bool  # a call must stay within one slot, even where this is the only primary
    durability: Durability = "process"  # what its replies are taken to promise


def find_shards(url: str, patience_seconds: float = 10.0) -> list[Shard]:
    """Asks the instance at `url` (blocking). Raises SetupError where it can't be reached or can't be used."""
    attempts = max(1, int(patience_seconds / 0.25))
    client = redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.25), attempts), socket_timeout=5)
    try:
        info: dict[str, Any] = client.info()
        _check_version(url, info)
        if not info.get("cluster_enabled"):
            return [Shard(url, list(range(PARTITIONS)), clustered=False)]
        return _of_cluster(url, client)
    except redis.RedisError as error:
        raise SetupError(f"redis: {url} can't be used: {error}") from error
    finally:
        client.close()


def _check_version(url: str, info: dict[str, Any]) -> None:
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise SetupError(f"redis: {url} is version {version}; 7.0 or newer is needed (functions, sharded pub/sub)")


def _of_cluster(url: str, client: "redis.Redis") -> list[Shard]:
    """From CLUSTER SLOTS: rows of (first slot, last slot, [host, port, id], replicas...)."""
    credentials = url.partition("://")[2].rpartition("@")[0]
    host_of: dict[int, str] = {}
    rows = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
    for first, last, primary, *_ in rows:
        address = f"redis://{credentials + '@' if credentials else ''}{_text(primary[0])}:{primary[1]}"
        host_of.update(dict.fromkeys(range(first, last + 1), address))
    shards: dict[str, list[int]] = {}
    for partition in range(PARTITIONS):
        slot = slot_of_partition(partition)
        if slot not in host_of:
            raise SetupError(f"redis: the cluster at {url} does not serve slot {slot}")
        shards.setdefault(host_of[slot], []).append(partition)
    return [Shard(address, partitions, clustered=True) for address, partitions in shards.items()]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
