"""How much an asynchronous failover loses: a primary is killed under load, and its replica looked at.

    python -m tests.store.failover_window [runs]

Prints, for each run, how many messages were acknowledged, how many of them the replica lacks, and how old the oldest of
these was when the primary died. Both instances and the worker's store are on this machine: a replica behind a network
lacks its delay more.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from imserver.errors import ImError
from imserver.observe import log
from imserver.store.calls import Appended, Bounds
from imserver.store.partitions import PARTITIONS
from imserver.store.shards import Shard
from imserver.store.store import NOBODY
from tests.conftest import required
from tests.store.answers import ids_in, registered
from tests.store.deployment import deployment_at
from tests.store.node import Node, message, serving
from tests.store.redis_process import RedisProcess, replica_of, running

LOAD_SECONDS = 2.0
ON_THEIR_WAY = (1, 10, 400)
ENDLESS = Bounds(most_entries=10**8, longest_age_seconds=86_400, dedupe_seconds=600)


class Load:
    """So many messages are on their way at any time."""

    def __init__(self, node: Node, user: str) -> None:
        self._node, self._user = node, user
        self._made = 0
        self.acknowledged: dict[bytes, float] = {}  # id -> when

    def send(self) -> None:
        self._made += 1
        message_id = f"m{self._made}"
        said = message("someone", self._user, message_id)
        self._node.store.append(self._user, said.dedupe, said.content, NOBODY, partial(self._answered, message_id))

    def _answered(self, message_id: str, result: Appended | ImError) -> None:
        if isinstance(result, Appended):
            self.acknowledged[message_id.encode()] = time.monotonic()
            self.send()


async def measure(directory: Path, on_their_way: int) -> str:
    options = ("--appendonly", "yes", "--appendfsync", "no", "--repl-diskless-sync-delay", "0")
    primary = RedisProcess(required("redis-server"), directory / "primary", *options)
    with running(primary), replica_of(primary, directory) as replica:
        shard = Shard(primary.url, list(range(PARTITIONS)), clustered=False)
        async with serving(Node([shard], "node", bounds=ENDLESS)) as node:
            await registered(node, "bob")
            load = Load(node, "bob")
            for _ in range(on_their_way):
                load.send()
            await trio.sleep(LOAD_SECONDS)
            primary.kill()
            killed = time.monotonic()
            with replica.client() as client:
                client.replicaof("NO", "ONE")
            with deployment_at(replica.url) as oracle:
                lost = load.acknowledged.keys() - set(ids_in(oracle, "bob"))
        oldest = max((killed - load.acknowledged[message_id] for message_id in lost), default=0.0)
    acknowledged = f"{len(load.acknowledged)} acknowledged"
    return f"{on_their_way} on their way: {acknowledged}, {len(lost)} lost, the oldest {oldest * 1000:.1f} ms old"


def main() -> None:
    log.configure("critical")
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        for on_their_way in ON_THEIR_WAY:
            with tempfile.TemporaryDirectory() as directory:
                print(trio.run(measure, Path(directory), on_their_way), flush=True)


if __name__ == "__main__":
    main()
