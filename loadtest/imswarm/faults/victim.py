"""The server that is broken and mended: where its parts are now, and how it is started again."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import redis

from imswarm.cluster import PORTS, Cluster, running_cluster
from imswarm.deployment import DeploymentError, OwnServer, serve_options
from imswarm.faults.proxy import StoreProxy
from imswarm.faults.store import ExternalStore, external_store, server_program
from imswarm.presence_judge import Terms

HEAL_SECONDS = 30.0
_POLL_SECONDS = 0.02
_LOWEST_PORT = 20_000

# Shorter than an operator would have it, so that much can happen in a minute.
SETTINGS = {
    "IMSERVER_PING_SECONDS": "2",
    "IMSERVER_STUCK_SECONDS": "2",
    "IMSERVER_STORE_TIMEOUT_SECONDS": "2",
    "IMSERVER_PROBE_SECONDS": "1",  # three that are late make a worker refuse logins: a busy machine needs so long
    "IMSERVER_DRAIN_SECONDS": "1",
    "IMSERVER_LEASE_SECONDS": "5",
    "IMSERVER_PRESENCE_GRACE_SECONDS": "4",
    "IMSERVER_GROUP_BACKLOG_ENTRIES": "100000",  # who was away gets all of it
}
LEASE_SECONDS = 5.0
"""After so long without word from it a worker counts as dead."""
GRACE_SECONDS = 4.0
"""So long a user who is away without a word stays as it was to its contacts."""
PATIENCE_SECONDS = 4.0
"""So long a client waits for a sign of life: twice the ping time."""


EMBEDDED, EXTERNAL, PROXIED, CLUSTER = STORES = ("embedded", "external", "proxied", "cluster")
"""The server's own store; a redis-server that is started here; the same, behind a proxy; primaries with replicas."""


class Victim:
    """A running server, known by its data directory.

    `own`: if it was started here; `external` or `cluster`: its store, if that was; `proxy`: if its store is behind one.
    """

    def __init__(
        self,
        data: Path,
        own: OwnServer | None = None,
        external: ExternalStore | None = None,
        proxy: StoreProxy | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.data = data
        self.own = own
        self.external = external
        self.proxy = proxy
        self.cluster = cluster

    # -- where it is

    @property
    def run(self) -> dict[str, Any]:
        """What it says of itself. Raises DeploymentError if it does not run."""
        try:
            found: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        except FileNotFoundError:
            raise DeploymentError(f"no server runs on {self.data}: it has no run.json") from None
        return found

    @property
    def workers(self) -> list[int]:
        return [worker["pid"] for worker in self.run["workers"]]

    @property
    def store(self) -> int | None:
        """The process of the store, if it is the server's own or was started here; None also while it does not run."""
        if self.external is not None:
            return self.external.pid
        pid: int | None = self.run["redis_pid"]
        return pid

    @property
    def terms(self) -> Terms | None:
        """What contacts of it may expect; None: it was not started here, and nobody knows how it is set."""
        return None if self.own is None else Terms(GRACE_SECONDS, LEASE_SECONDS)

    def store_client(self) -> redis.Redis:
        """Of the store, or of one node of a cluster."""
        return redis.Redis.from_url(self.run["redis"].partition(",")[0])

    # -- what is done to it

    def signal_supervisor(self, number: signal.Signals) -> None:
        os.kill(self.run["pid"], number)

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Raises DeploymentError after HEAL_SECONDS: what was broken has not come back."""
        end = time.monotonic() + HEAL_SECONDS
        while not is_so():
            if time.monotonic() > end:
                raise DeploymentError(f"{what} did not come back within {HEAL_SECONDS:g} s; see {self.data}/server.log")
            time.sleep(_POLL_SECONDS)


@contextmanager
def own_victim(directory: Path, workers: int, store: str, durability: str) -> Iterator[Victim]:
    """A server that is started, and can be started again on the same ports. `store`: one of STORES.

    Raises DeploymentError.
    """
    ports = free_ports(3 + PORTS)
    data = directory / "server"
    data.mkdir()
    with ExitStack() as stack:
        external, proxy, cluster = None, None, None
        redis_urls: list[str] = []
        if store == CLUSTER:
            cluster = stack.enter_context(running_cluster(Path(server_program()), directory / "store", ports[3:]))
            redis_urls = [node.url for node in cluster.nodes]
        elif store != EMBEDDED:
            external = stack.enter_context(external_store(directory / "store", ports[3]))
            redis_urls = [external.url]
        if store == PROXIED and external is not None:
            proxy = StoreProxy(ports[4], external.port)
            stack.callback(proxy.close)
            redis_urls = [proxy.url]
        options = serve_options(workers, (ports[0], ports[1], ports[2]))
        options += ["--redis", ",".join(redis_urls)] if redis_urls else []
        server = OwnServer(data, options, {**SETTINGS, "IMSERVER_DURABILITY": durability})
        stack.callback(server.stop)
        server.start()
        yield Victim(data, server, external, proxy, cluster)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on and that no outgoing connection gets.

    While the server is away, clients connect to its ports in vain. Were these among those that the system
    gives to outgoing connections, one of them could get the port itself, and the server could not return.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = random.sample(range(min(_LOWEST_PORT, low - 5_000), low), 50)
    return list(islice(filter(_is_free, candidates), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
