"""A store that tests use as a whole, with redis-py's synchronous client beside it as an independent oracle."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from imserver.store.partitions import UserKeys, user_keys
from imserver.store.shards import find_shards


class Deployment:
    """The store at `url`: one instance, or a cluster of which one member is named."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shards = find_shards(url)
        self.clients = [redis.Redis.from_url(shard.url) for shard in self.shards]

    @property
    def is_cluster(self) -> bool:
        return len(self.shards) > 1

    def oracle(self, user: str) -> "redis.Redis":
        """The client of the instance that holds the user."""
        return self.oracle_of_partition(user_keys(user).partition)

    def oracle_of_partition(self, partition: int) -> "redis.Redis":
        return next(
            client for client, shard in zip(self.clients, self.shards, strict=True) if partition in shard.partitions
        )

    def log(self, user: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        entries: Any = self.oracle(user).xrange(self.keys(user).log)
        return list(entries)

    def state(self, user: str) -> dict[bytes, bytes]:
        state: Any = self.oracle(user).hgetall(self.keys(user).state)
        return dict(state)

    def dedupe(self, user: str) -> dict[bytes, bytes]:
        """The dedupe fields of a user: all that have two slashes."""
        return {field: at for field, at in self.state(user).items() if field.count(b"/") == 2}

    def all_keys(self) -> set[bytes]:
        return {key for client in self.clients for key in client.scan_iter(count=1000)}

    @staticmethod
    def keys(user: str) -> UserKeys:
        return user_keys(user)

    def close(self) -> None:
        for client in self.clients:
            client.close()


@contextmanager
def deployment_at(url: str) -> Iterator[Deployment]:
    deployment = Deployment(url)
    try:
        yield deployment
    finally:
        deployment.close()
