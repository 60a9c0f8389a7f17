"""The server that is broken and mended: where its parts are now, and how it is started again."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import redis

from imswarm.deployment import DeploymentError, OwnServer, serve_options

HEAL_SECONDS = 30.0
_POLL_SECONDS = 0.02
_LOWEST_PORT = 20_000

# Shorter than an operator would have it, so that much can happen in a minute.
SETTINGS = {
    "IMSERVER_PING_SECONDS": "2",
    "IMSERVER_STUCK_SECONDS": "2",
    "IMSERVER_STORE_TIMEOUT_SECONDS": "2",
    "IMSERVER_PROBE_SECONDS": "0.5",
    "IMSERVER_DRAIN_SECONDS": "1",
}
PATIENCE_SECONDS = 4.0
"""So long a client waits for a sign of life: twice the ping time."""


class Victim:
    """A running server, known by its data directory. `own` is there if it was started here."""

    def __init__(self, data: Path, own: OwnServer | None = None) -> None:
        self.data = data
        self.own = own

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
        """The process of the embedded store; None without one."""
        pid: int | None = self.run["redis_pid"]
        return pid

    def store_client(self) -> redis.Redis:
        return redis.Redis.from_url(self.run["redis"])

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


def own_server(data: Path, workers: int) -> OwnServer:
    """A server to be started, and started again, with the same ports."""
    return OwnServer(data, serve_options(workers, free_ports()), SETTINGS)


def free_ports() -> tuple[int, int, int]:
    """Ports that nobody listens on and that no outgoing connection gets.

    While the server is away, clients connect to its ports in vain. Were these among those that the system
    gives to outgoing connections, one of them could get the port itself, and the server could not return.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = random.sample(range(min(_LOWEST_PORT, low - 5_000), low), 50)
    first, second, third = islice(filter(_is_free, candidates), 3)
    return first, second, third


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
