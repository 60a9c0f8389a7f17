"""A real imserver in a process of its own, for tests: started, killed in parts, started again on the same data."""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

READY_SECONDS = 30.0


class Server:
    """`imserver serve` on free ports. The same ports after `stop` and `start`: clients come back to them."""

    def __init__(
        self,
        data: Path,
        *options: str,
        workers: int = 2,
        host: str = "127.0.0.1",
        ports: Mapping[str, int] = MappingProxyType({}),
        **settings: object,
    ) -> None:
        """`options` for the command line; `settings` as in the environment, in lower case without the prefix.

        `ports`: of `tcp`, `http`, `admin`, where they must be known before.
        """
        self.data = data
        self.host = host
        self._options = [
            *options,
            "--workers",
            str(workers),
            "--registration",
            str(settings.pop("registration", "open")),
        ]
        cheap = {"password_memory_kib": 1024, "password_rounds": 1}  # what a password costs is not what is tested
        chosen = {f"IMSERVER_{name.upper()}": str(value) for name, value in (cheap | settings).items()}
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("IMSERVER_")
        } | chosen
        self._ports = {"tcp": 0, "http": 0, "admin": 0, **ports}
        self.process: subprocess.Popen[bytes] | None = None

    # -- where it is

    @property
    def run(self) -> dict[str, Any]:
        """What the server says of itself while it serves."""
        found: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return found

    @property
    def tcp(self) -> tuple[str, int]:
        return self.host, self._ports["tcp"]

    @property
    def http(self) -> tuple[str, int]:
        return self.host, self._ports["http"]

    @property
    def admin(self) -> tuple[str, int]:
        return self.host, self._ports["admin"]

    def get(self, path: str, *, port: str = "http", method: str = "GET") -> tuple[int, bytes]:
        """Status and body of what the HTTP port, or the port named, answers."""
        connection = http.client.HTTPConnection(self.host, self._ports[port], timeout=READY_SECONDS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """`/status` of the admin port."""
        found: dict[str, Any] = json.loads(self.get("/status", port="admin")[1])
        return found

    @property
    def worker_pids(self) -> list[int]:
        return [worker["pid"] for worker in self.run["workers"]]

    # -- its life

    def start(self) -> None:
        """Returns once clients can connect."""
        command = [sys.executable, "-m", "imserver.cli", "serve", "--data", str(self.data), *self._options]
        for name, port in self._ports.items():
            command += [f"--{name}", f"{self.host}:{port}"]
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=self._environment)
        self._wait_ready()
        for name in self._ports:
            self._ports[name] = self.run[name][1]

    def _wait_ready(self) -> None:
        """The greeting on standard output is written when all workers are ready."""
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], READY_SECONDS)[0] or not self.process.stdout.readline():
            raise AssertionError(f"the server did not start:\n{self.log}")

    @property
    def log(self) -> str:
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def stop(self) -> int:
        """As an operator stops it; returns the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self._reap()

    def start_again(self) -> None:
        """After somebody else has told it to stop."""
        self._reap()
        self.start()

    def kill(self) -> None:
        """SIGKILL to the supervisor; returns when everything it started has gone, which it MUST by itself."""
        assert self.process is not None
        others = [*self.worker_pids, *filter(None, [self.run["redis_pid"]])]
        self.process.kill()
        self._reap()
        for pid in others:
            wait_gone(pid)

    def _reap(self) -> int:
        assert self.process is not None
        status = self.process.wait(READY_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def kill_workers(self, count: int | None = None) -> None:
        """SIGKILL to all workers, or to the first `count`; returns when as many new ones serve."""
        killed = self.worker_pids[:count]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        self._wait_until(lambda: not set(killed) & set(self.worker_pids), "new workers")

    def kill_store(self) -> None:
        """SIGKILL to the embedded store; returns when a new one runs."""
        killed = self.run["redis_pid"]
        os.kill(killed, signal.SIGKILL)
        self._wait_until(lambda: self.run["redis_pid"] not in (killed, None), "a new store")

    def replace_workers(self) -> None:
        """As an operator does it, by SIGHUP; returns when new ones serve and the old ones have ended."""
        assert self.process is not None
        old = self.worker_pids
        self.process.send_signal(signal.SIGHUP)
        self._wait_until(lambda: not set(old) & set(self.worker_pids), "new workers")
        for pid in old:
            wait_gone(pid)

    @contextmanager
    def stopped_store(self) -> Iterator[None]:
        """The embedded store does nothing (SIGSTOP) inside this context."""
        pid = self.run["redis_pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _wait_until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} within {READY_SECONDS:g} s:\n{self.log}")
            time.sleep(0.02)

    def cli(self, *arguments: str, stdin: str = "") -> str:
        """An operator's command on this server's data; returns what it prints, raises CalledProcessError."""
        command = [sys.executable, "-m", "imserver.cli", *arguments, "--data", str(self.data)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=True, timeout=60, env=self._environment
        )
        return done.stdout

    def __enter__(self) -> "Server":
        self.data.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.stop()
            else:
                self._reap()


def wait_gone(pid: int, seconds: float = READY_SECONDS) -> None:
    """Returns when the process, which need not be a child, has ended; raises AssertionError when it has not in time."""
    deadline = time.monotonic() + seconds
    while _exists(pid):
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} is still there after {seconds:g} s")
        time.sleep(0.02)


def _exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):  # the last one: it ended while it was read
        return False
    return state != "Z"
