"""The server under test: started for this run, or running already.

A server tells where it listens, and which processes belong to it, in `run.json` in its data
directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis

from imswarm.connection import Address
from imswarm.processes import Groups, starting_on, total_memory_bytes

START_SECONDS, START_SECONDS_PER_WORKER = 60.0, 3.0
"""Each takes about half a second of CPU to start, of whatever cores there are."""
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LOG_LINES = 20

_UNLIMITED = {"IMSERVER_RATE_PER_SECOND": "1000000", "IMSERVER_RATE_BURST": "1000000"}
"""A few sessions of a swarm send what a crowd of people would."""


class DeploymentError(Exception):
    """The server did not start, or cannot be found; the text says why."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where to connect, and the processes to measure (empty: not known). `data`: None where it is not known."""

    tcp: Address | None
    http: Address | None
    redis_url: str
    workers: tuple[int, ...] = ()
    supervisor: tuple[int, ...] = ()
    redis: tuple[int, ...] = ()
    data: Path | None = None
    stores: tuple[str, ...] = ()
    """The primaries of a cluster."""

    def refreshed(self) -> Deployment:
        """With the workers that run now: one may have been replaced."""
        if self.data is None:
            return self
        run: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return replace(self, workers=tuple(worker["pid"] for worker in run["workers"]))

    @property
    def groups(self) -> Groups:
        return {"server": self.workers, "supervisor": self.supervisor, "redis": self.redis}

    @property
    def pids(self) -> list[int]:
        return [pid for pids in self.groups.values() for pid in pids]

    def target(self, transport: str) -> Address:
        """Raises DeploymentError if the server's address for this transport is not known."""
        address = self.http if transport == "ws" else self.tcp
        if address is None:
            option = "--http" if transport == "ws" else "--tcp"
            raise DeploymentError(f"the address for {transport} is not known: give {option}")
        return address

    def server_memory_bytes(self) -> int | None:
        """Of all workers; None if they are not known."""
        return total_memory_bytes(self.workers) if self.workers else None

    def redis_memory_bytes(self) -> int:
        """What Redis has allocated; in a cluster all primaries. Raises DeploymentError."""
        return self.redis_figure("memory", "used_memory")

    def redis_commands(self) -> int:
        """How many Redis has ever processed. Raises DeploymentError."""
        return self.redis_figure("stats", "total_commands_processed")

    def redis_figure(self, section: str, name: str) -> int:
        """Of INFO, the sum over the stores. Raises DeploymentError."""
        return sum(int(_redis_info(url, section)[name]) for url in self.stores or (self.redis_url,))


class OwnServer:
    """A server with this data directory; started again, it listens where it did before."""

    def __init__(
        self,
        data: Path,
        options: Sequence[str],
        environment: Mapping[str, str],
        start_seconds: float = START_SECONDS,
    ) -> None:
        """`options` of `imserver serve`, the addresses among them."""
        self._data = data
        self._start_seconds = start_seconds
        self._command = [sys.executable, "-m", "imserver.cli", "serve", "--data", str(data), *options]
        self._environment = {**os.environ, **_UNLIMITED, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it serves. Raises DeploymentError."""
        with (self._data / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the run, which stops the server when it has no use for it
            )
        _wait_ready(self._process, self._data, self._start_seconds)

    def stop(self) -> None:
        """As an operator stops it; by force if it takes too long."""
        if self._process is not None:
            _stop(self._process)
            self._process = None


@contextmanager
def started(
    workers: int, redis_url: str | None, cores: frozenset[int] | None, settings: Mapping[str, str] | None = None
) -> Iterator[Deployment]:
    """A server on free ports with a data directory of its own, stopped on exit.

    Its store is embedded unless `redis_url` is given; `settings`: in the environment. Raises DeploymentError.
    """
    with tempfile.TemporaryDirectory(prefix="imswarm-", ignore_cleanup_errors=True) as directory:
        data = Path(directory)
        store = ["--redis", redis_url] if redis_url else []
        start_seconds = START_SECONDS + START_SECONDS_PER_WORKER * workers
        server = OwnServer(data, [*serve_options(workers, (0, 0, 0)), *store], settings or {}, start_seconds)
        try:
            with starting_on(cores):
                server.start()
            yield attached(data)
        finally:
            server.stop()


def serve_options(workers: int, ports: tuple[int, int, int]) -> list[str]:
    """Of `imserver serve`; the ports are those for TCP, HTTP and administration, 0: a free one."""
    addresses = zip(("tcp", "http", "admin"), ports, strict=True)
    return ["--workers", str(workers), *(f"--{name}=127.0.0.1:{port}" for name, port in addresses)]


def attached(data: Path) -> Deployment:
    """The running server that keeps its data in this directory. Raises DeploymentError."""
    try:
        run: dict[str, Any] = json.loads((data / "run.json").read_text())
    except FileNotFoundError:
        raise DeploymentError(f"no server runs on {data}: it has no run.json") from None
    stores = _primaries(run["redis"])
    return Deployment(
        tcp=Address(*run["tcp"]),
        http=Address(*run["http"]),
        redis_url=run["redis"],
        workers=tuple(worker["pid"] for worker in run["workers"]),
        supervisor=(run["pid"],),
        redis=(run["redis_pid"],) if run["redis_pid"] else _local_redis(stores),
        data=data,
        stores=stores,
    )


def addressed(tcp: Address | None, http: Address | None, redis_url: str, workers: tuple[int, ...]) -> Deployment:
    """A running server known by its addresses; `workers` are the process ids to measure.

    Raises DeploymentError.
    """
    stores = _primaries(redis_url)
    return Deployment(tcp, http, redis_url, workers, redis=_local_redis(stores), stores=stores)


def _wait_ready(server: subprocess.Popen[bytes], data: Path, patience_seconds: float) -> None:
    end = time.monotonic() + patience_seconds
    while not _runs(server.pid, data):
        if server.poll() is not None:
            raise DeploymentError(f"the server ended with status {server.returncode}:\n{_last_lines(data)}")
        if time.monotonic() > end:
            raise DeploymentError(f"the server is not ready after {patience_seconds:.0f} s:\n{_last_lines(data)}")
        time.sleep(_POLL_SECONDS)


def _runs(supervisor: int, data: Path) -> bool:
    """Its `run.json` is there, and not one that a predecessor left."""
    try:
        return bool(json.loads((data / "run.json").read_text())["pid"] == supervisor)
    except FileNotFoundError:
        return False


def _last_lines(data: Path) -> str:
    lines = (data / "server.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:])


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _redis_info(url: str, section: str) -> Mapping[str, Any]:
    try:
        with redis.Redis.from_url(url) as store:
            info: Mapping[str, Any] = store.info(section)
    except (redis.RedisError, ValueError) as error:
        raise DeploymentError(f"the store at {url} does not answer: {error}") from error
    return info


def _primaries(url: str) -> tuple[str, ...]:
    """Of a cluster, of which `url` names some nodes; else the store itself. Raises DeploymentError."""
    first = url.partition(",")[0]
    if not _redis_info(first, "cluster")["cluster_enabled"]:
        return (first,)
    with redis.Redis.from_url(first, decode_responses=True) as store:
        rows: Any = store.execute_command("CLUSTER SLOTS")
    return tuple(sorted({f"redis://{row[2][0]}:{row[2][1]}" for row in rows}))


def _local_redis(urls: Sequence[str]) -> tuple[int, ...]:
    """The processes of those stores that are on this machine."""
    pids = (int(_redis_info(url, "server")["process_id"]) for url in urls)
    return tuple(pid for pid in pids if _is_redis(pid))


def _is_redis(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith(("redis", "valkey"))
    except FileNotFoundError:
        return False
