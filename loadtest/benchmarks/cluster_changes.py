"""How long calls wait while a cluster changes: one node, one user, a call each five milliseconds.

    python loadtest/benchmarks/cluster_changes.py [ROUNDS]

Prints the longest wait of any call in each round (milliseconds), and for a killed primary also how much of it came
after its replica had been elected: the rest is the cluster's own.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio
from imswarm.cluster import PORTS, Cluster, running_cluster
from imswarm.faults.proxy import server_program
from imswarm.faults.victim import free_ports

from imserver.model import UserId
from imserver.observe import log as observe_log
from imserver.store.partitions import partition_of, slot_of_partition
from tests.store.node import Node, message, opened

USER = "alice"
PAUSE_SECONDS = 0.005


class Pulse:
    """Calls without a pause. `longest`: how long the slowest took; `back_at`: when the last slow one was answered."""

    def __init__(self, node: Node) -> None:
        self._node, self._number = node, 0
        self.longest = self.back_at = 0.0

    async def run(self) -> None:
        while True:
            self._say(time.monotonic())
            await trio.sleep(PAUSE_SECONDS)

    def _say(self, asked: float) -> None:
        self._number += 1
        said = message("someone", USER, f"m{self._number}")

        def then(_: object) -> None:
            took = time.monotonic() - asked
            if took > self.longest:
                self.longest, self.back_at = took, time.monotonic()

        self._node.store.append(USER, said.dedupe, said.content, b"-", then)


async def measure(cluster: Cluster, change: Callable[[], float]) -> tuple[float, float]:
    """Longest wait, and how much of it came after the moment that `change` returns."""
    async with opened(cluster.nodes[0].url, "bench", timeout_seconds=60.0) as node, trio.open_nursery() as nursery:
        pulse = Pulse(node)
        nursery.start_soon(pulse.run)
        await trio.sleep(1.2)
        done_at = await trio.to_thread.run_sync(change)
        await trio.sleep(1.5)
        nursery.cancel_scope.cancel()
    return pulse.longest * 1000, max(0.0, pulse.back_at - done_at) * 1000


def slot() -> int:
    return slot_of_partition(partition_of(USER))


def kill(cluster: Cluster) -> float:
    primary = cluster.holder(slot())
    primary.kill()
    cluster.wait_replaced(primary)
    replaced = time.monotonic()
    primary.start()
    cluster.wait_healed()
    return replaced


def ask(cluster: Cluster) -> float:
    cluster.fail_over(cluster.holder(slot()))
    cluster.wait_healed()
    return time.monotonic()


def move(cluster: Cluster) -> float:
    cluster.move_partition(partition_of(USER))
    return time.monotonic()


async def register(url: str) -> None:
    async with opened(url, "first") as node:
        await node.store.accounts.register(UserId(USER), "hash")


def main() -> None:
    observe_log.configure("error", worker=0)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with (
        tempfile.TemporaryDirectory() as directory,
        running_cluster(server_program(), Path(directory), free_ports(PORTS)) as cluster,
    ):
        trio.run(register, cluster.nodes[0].url)
        for change in (kill, ask, move):
            found = [trio.run(measure, cluster, partial(change, cluster)) for _ in range(rounds)]
            waits, rests = [wait for wait, _ in found], [rest for _, rest in found]
            text = f"{change.__name__:5} longest wait {statistics.median(waits):6.0f} ms"
            rest = f", of it after the election {statistics.median(rests):4.0f} ms" if change is kill else ""
            print(f"{text} ({min(waits):.0f}-{max(waits):.0f}){rest}")


if __name__ == "__main__":
    main()
