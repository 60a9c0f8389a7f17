"""A Redis Cluster of one's own, by default three primaries, each with a replica.

For fault runs, demonstrations, sizing and tests.

Nothing here fails over by itself: the cluster does, within about two node time-outs. What is here starts and kills
processes, asks for a failover or moves a slot, and waits until the cluster says that it is done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from imserver.store.partitions import PARTITIONS, slot_of_partition
from imswarm.deployment import DeploymentError
from imswarm.processes import starting_on

LOOPBACK = "127.0.0.1"
SLOTS = 16384
PRIMARIES = 3
NODES = 2 * PRIMARIES
PORTS = 2 * NODES
"""One for clients and one for the others, of each node."""
NODE_TIMEOUT_MS = 1000
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.02
_ELECTION_SECONDS = 2.5 * NODE_TIMEOUT_MS / 1000
_MIGRATE_KEYS, _MIGRATE_MS = 10, 5000

_OPTIONS = {
    "protected-mode": "no",  # `host` may be a network of the machine's own
    "save": "",
    "appendonly": "yes",
    "appendfsync": "no",
    "maxmemory-policy": "noeviction",
    "repl-diskless-sync-delay": "0",
    "cluster-enabled": "yes",
    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
    "cluster-replica-validity-factor": "0",  # a replica stands for election however long it was cut off
}


class ClusterError(DeploymentError):
    """The cluster has not come to where it was to come; the text says what is missing."""


class ClusterNode:
    """One server. What it kept, and who it is in the cluster, survives `kill` and `start`."""

    def __init__(self, program: Path, directory: Path, host: str, port: int, bus_port: int) -> None:
        self.host, self.port, self.bus_port = host, port, bus_port
        self.url = f"redis://{host}:{port}"
        self._directory = directory
        own = {"bind": host, "port": str(port), "cluster-port": str(bus_port), "dir": str(directory)}
        options = (part for name, value in (_OPTIONS | own).items() for part in (f"--{name}", value))
        self._command = [str(program), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Returns when it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, f"{self.url} answers")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It does nothing, and nobody is told."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def ask(self, *command: str | int) -> Any:
        """Raises redis.RedisError."""
        with redis.Redis(self.host, self.port, socket_timeout=PATIENCE_SECONDS, decode_responses=True) as client:
            return client.execute_command(*command)

    def client(self) -> redis.Redis:
        return redis.Redis(self.host, self.port, socket_timeout=PATIENCE_SECONDS)

    def replication(self) -> dict[str, Any]:
        with self.client() as client:
            found: dict[str, Any] = client.info("replication")
        return found

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.ask("PING"))
        return False


class Cluster:
    """All nodes. What does not come about within PATIENCE_SECONDS is a ClusterError."""

    def __init__(
        self,
        program: Path,
        directory: Path,
        ports: Sequence[int],
        host: str = LOOPBACK,
        primaries: int = PRIMARIES,
    ) -> None:
        """`ports`: two for each node, at `host`, an address of this machine.

        Whether there is a replica for each primary follows from how many there are.
        """
        self._primaries = primaries
        count = len(ports) // 2
        self.nodes = [
            ClusterNode(program, directory / str(number), host, ports[number], ports[count + number])
            for number in range(count)
        ]

    # -- its beginning and end

    def create(self) -> None:
        """Returns when all slots are served, and every primary has its replica, if there are any."""
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            if number < self._primaries:
                begin, end = SLOTS * number // self._primaries, SLOTS * (number + 1) // self._primaries - 1
                node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.ask("CLUSTER", "MEET", first.host, first.port, first.bus_port)
        wait_until(lambda: all(map(self._knows_all, self.nodes)), "all nodes know each other")
        for number, node in enumerate(self.nodes[self._primaries :]):
            node.ask("CLUSTER", "REPLICATE", self.nodes[number].id)
        self.wait_healed()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    # -- who is what

    def primaries(self) -> list[ClusterNode]:
        """Those that hold slots, as the nodes that run see it."""
        return [node for node in self.nodes if node.port in set(self._holders(self._any()).values())]

    def holder(self, slot: int) -> ClusterNode:
        """The primary of a slot."""
        return self._at(self._holders(self._any())[slot])

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """One that is connected to this primary and in step with it."""
        rows = [row for name, row in primary.replication().items() if name.startswith("slave") and type(row) is dict]
        return self._at(next(int(row["port"]) for row in rows if row["state"] == "online"))

    def _knows_all(self, node: ClusterNode) -> bool:
        return f"cluster_known_nodes:{len(self.nodes)}" in _info(node).splitlines()

    def _any(self) -> ClusterNode:
        return next(node for node in self.nodes if node.is_running)

    def _at(self, port: int) -> ClusterNode:
        return next(node for node in self.nodes if node.port == port)

    @staticmethod
    def _holders(node: ClusterNode) -> dict[int, int]:
        """Slot -> port of its primary, as this node sees it."""
        rows = node.ask("CLUSTER", "SLOTS")
        return {slot: int(primary[1]) for first, last, primary, *_ in rows for slot in range(first, last + 1)}

    # -- what happens to it

    def wait_replaced(self, primary: ClusterNode) -> None:
        """Until a replica has taken this primary's slots, and all that run know."""
        wait_until(lambda: self._is_replaced(primary), f"a replica takes the place of {primary.url}")

    def _is_replaced(self, primary: ClusterNode) -> bool:
        running = [node for node in self.nodes if node.is_running and node is not primary]
        return all(_is_ok(node) and primary.port not in self._holders(node).values() for node in running)

    def wait_healed(self) -> None:
        wait_until(self.is_healed, "every primary has its replica")

    def is_healed(self) -> bool:
        """Whether all nodes run as one cluster, every primary with a replica that is connected."""
        try:
            infos = [node.replication() for node in self.nodes]
            are_ok = all(_is_ok(node) for node in self.nodes)
        except redis.RedisError:
            return False
        online = [info.get("slave0", {}).get("state") == "online" for info in infos if info["role"] == "master"]
        linked = [info["master_link_status"] == "up" for info in infos if info["role"] == "slave"]
        if len(self.nodes) == self._primaries:
            return are_ok
        return are_ok and len(online) == self._primaries and all(online) and all(linked)

    @contextmanager
    def left_behind(self, primary: ClusterNode) -> Iterator[None]:
        """Its replica hears nothing of it, not even later what was sent meanwhile."""
        with self.replica_of(primary).stopped():
            primary.ask("CLIENT", "KILL", "TYPE", "replica")
            yield

    def fail_over(self, primary: ClusterNode) -> None:
        """Its replica asks to take its place, as before maintenance; nobody dies, and nothing is lost.

        It asks again where it is not elected: the others vote for replicas of one primary once in two node time-outs.
        """
        replica = self.replica_of(primary)

        def is_done() -> bool:
            with suppress(redis.ResponseError):  # it is no replica any more
                replica.ask("CLUSTER", "FAILOVER")
            end = time.monotonic() + _ELECTION_SECONDS
            while not self._is_replaced(primary) and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
            return self._is_replaced(primary)

        wait_until(is_done, f"the replica of {primary.url} takes its place")

    # -- a slot moves

    def move_slot(self, slot: int, to: ClusterNode) -> None:
        """As `redis-cli --cluster reshard` does it."""
        self.begin_move(slot, to)
        self.move_keys(slot, to, SLOTS)
        self.end_move(slot, to)

    def move_partition(self, partition: int) -> None:
        """To the next primary."""
        slot = slot_of_partition(partition % PARTITIONS)
        primaries = self.primaries()
        self.move_slot(slot, primaries[(primaries.index(self.holder(slot)) + 1) % len(primaries)])

    def begin_move(self, slot: int, to: ClusterNode) -> None:
        source = self.holder(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)

    def move_keys(self, slot: int, to: ClusterNode, most: int) -> None:
        """So many of its keys at most."""
        source = self.holder(slot)
        while most > 0 and (keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, min(most, _MIGRATE_KEYS))):
            source.ask("MIGRATE", to.host, to.port, "", 0, _MIGRATE_MS, "KEYS", *keys)
            most -= len(keys)

    def end_move(self, slot: int, to: ClusterNode) -> None:
        new = to.id
        others = [node for node in self.primaries() if node not in (to, self.holder(slot))]
        for node in (to, self.holder(slot), *others):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", new)

    def cancel_move(self, slot: int, to: ClusterNode) -> None:
        """MUST NOT be called when keys have moved."""
        for node in (self.holder(slot), to):
            node.ask("CLUSTER", "SETSLOT", slot, "STABLE")


@contextmanager
def running_cluster(
    program: Path,
    directory: Path,
    ports: Sequence[int],
    host: str = LOOPBACK,
    primaries: int = PRIMARIES,
    cores: frozenset[int] | None = None,
) -> Iterator[Cluster]:
    """See Cluster; it runs on these cores (None: anywhere). Raises ClusterError."""
    cluster = Cluster(program, directory, ports, host, primaries)
    try:
        with starting_on(cores):
            cluster.create()
        yield cluster
    finally:
        cluster.kill()


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Raises ClusterError."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise ClusterError(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(_POLL_SECONDS)


def _is_ok(node: ClusterNode) -> bool:
    return "cluster_state:ok" in _info(node)


def _info(node: ClusterNode) -> str:
    """redis-py makes a dictionary of it."""
    found = node.ask("CLUSTER", "INFO")
    return "\n".join(f"{name}:{value}" for name, value in found.items()) if isinstance(found, dict) else str(found)
