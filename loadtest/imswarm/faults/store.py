"""A store of the run's own, configured as `docs/delivery.md` asks of an external one; killed, it is started again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from imserver.errors import SetupError
from imserver.store.embedded import find_server
from imswarm.deployment import DeploymentError

_START_SECONDS = 20.0
_POLL_SECONDS = 0.02
_KEEP = ("--appendonly", "yes", "--appendfsync", "no", "--save", "", "--maxmemory-policy", "noeviction")


def server_program() -> str:
    """The path of that which the server would start itself. Raises DeploymentError."""
    try:
        return find_server().path
    except SetupError as error:
        raise DeploymentError(str(error)) from error


class ExternalStore:
    """A redis-server on a port of this machine; what it has answered it has when it is started again."""

    def __init__(self, directory: Path, port: int) -> None:
        directory.mkdir()
        self.port = port
        self.url = f"redis://127.0.0.1:{port}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Returns when it answers; one that was killed has left the port. Raises DeploymentError."""
        if self._process is not None:
            self._process.wait()
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_answer(self._process)

    def stop(self) -> None:
        """For good: nobody needs its data any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _command(self) -> list[str]:
        return [
            server_program(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            os.fspath(self._directory),
            *_KEEP,
        ]

    def _wait_answer(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_SECONDS
        with redis.Redis(port=self.port) as client:
            while True:
                with suppress(redis.RedisError):
                    client.ping()
                    return
                if process.poll() is not None or time.monotonic() > end:
                    raise DeploymentError(f"the store does not start; see {self._directory}/redis.log")
                time.sleep(_POLL_SECONDS)


@contextmanager
def external_store(directory: Path, port: int) -> Iterator[ExternalStore]:
    """Started, and in the end stopped. Raises DeploymentError."""
    store = ExternalStore(directory, port)
    try:
        store.start()
        yield store
    finally:
        store.stop()
