"""Real Redis servers that tests start: one instance, or a cluster of three primaries."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import redis

PATIENCE_SECONDS = 20.0
SLOTS = 16384
PRIMARIES = 3
CERTIFICATE = str(Path(__file__).parent.parent / "client" / "certificate.pem")


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; taken all at once, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Looks again and again; raises AssertionError after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)


class RedisProcess:
    """A server on a port of its own. What it appends survives `kill` and `start`."""

    def __init__(self, program: Path, directory: Path, *options: str, port: int | None = None) -> None:
        self.program = program
        self.port = port or free_ports(1)[0]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._directory = directory
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
        self._command = [str(program), *own, *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=PATIENCE_SECONDS)

    def start(self) -> None:
        """Returns when it answers, its data loaded."""
        self.start_nowait()
        wait_until(self.answers, f"redis-server answers: {self.log}")

    def start_nowait(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def stop(self) -> None:
        """It does nothing until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class TlsProcess(RedisProcess):
    """With a second port, for TLS. Its certificate is for localhost, signed by itself."""

    def __init__(self, program: Path, directory: Path, *options: str, port: int | None = None) -> None:
        self.tls_port = free_ports(1)[0]
        files = ["--tls-cert-file", CERTIFICATE, "--tls-key-file", CERTIFICATE, "--tls-ca-cert-file", CERTIFICATE]
        own = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no", *files]
        super().__init__(program, directory, *own, *options, port=port)

    def tls_url(self, credentials: str = "", certificate: str = CERTIFICATE) -> str:
        return f"rediss://{credentials}localhost:{self.tls_port}?ssl_ca_certs={certificate}"


_Process = TypeVar("_Process", bound=RedisProcess)


@contextmanager
def running(process: _Process) -> Iterator[_Process]:
    process.start()
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def replica_of(primary: RedisProcess, directory: Path) -> Iterator[RedisProcess]:
    """A replica that is connected and has everything. The primary sends its data to it at once."""
    with primary.client() as client:
        client.config_set("repl-diskless-sync-delay", "0")
        replica = RedisProcess(primary.program, directory / "replica", "--replicaof", f"127.0.0.1 {primary.port}")
        with running(replica):
            wait_until(lambda: has_replica(client), f"the replica is connected: {replica.log}")
            yield replica


def has_replica(client: "redis.Redis") -> bool:
    found = client.info("replication").get("slave0")
    return isinstance(found, dict) and found["state"] == "online"


@contextmanager
def cluster(program: Path, directory: Path) -> Iterator[list[RedisProcess]]:
    """A cluster of three primaries, all slots served."""
    ports = free_ports(2 * PRIMARIES)
    nodes = [
        RedisProcess(program, directory / str(number), *_cluster_options(ports[PRIMARIES + number]), port=ports[number])
        for number in range(PRIMARIES)
    ]
    try:
        for node in nodes:
            node.start()
        _join(nodes, ports[PRIMARIES:])
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _cluster_options(bus_port: int) -> list[str]:
    return ["--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-node-timeout", "5000"]


def _join(nodes: list[RedisProcess], bus_ports: list[int]) -> None:
    share = SLOTS // PRIMARIES
    for number, node in enumerate(nodes):
        last = SLOTS - 1 if number == PRIMARIES - 1 else (number + 1) * share - 1
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, bus_ports[0])
    for node in nodes:
        wait_until(partial(_is_complete, node), f"the cluster is complete: {node.log}")


def _is_complete(node: RedisProcess) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER", "INFO").decode()
        rows = client.execute_command("CLUSTER", "NODES").decode().splitlines()
    links = [row.split()[7] for row in rows]
    return "cluster_state:ok" in info and links == ["connected"] * PRIMARIES
