"""A real supervisor in a process of its own, for tests: its workers are `supervised_worker.py`.

python -m tests.supervised_server SETTINGS_AS_JSON
"""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from imserver.config import Settings
from imserver.store.datadir import DataDir, RunFile
from imserver.supervisor import serve

WORKER = (sys.executable, str(Path(__file__).with_name("supervised_worker.py")))
REPOSITORY = Path(__file__).parent.parent
PATIENCE_SECONDS = 30.0
T = TypeVar("T")


class Server:
    """The process, and what it tells."""

    def __init__(self, data: Path, *, terminal: int | None = None, **settings: Any) -> None:
        """`terminal`: a descriptor to use in place of the log, as a server started by hand does."""
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        chosen = {"data": str(data), "workers": 2, "drain_seconds": 5.0, **settings}
        anywhere = dict.fromkeys(("tcp", "http", "admin"), ("127.0.0.1", 0))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.supervised_server", json.dumps(anywhere | chosen)],
                cwd=REPOSITORY,
                stdin=terminal,
                stdout=terminal or log,
                stderr=terminal or log,
            )

    # -- what it tells

    def wait_ready(self) -> RunFile:
        return wait_for(self.ready)

    def ready(self) -> RunFile | None:
        assert self.process.poll() is None, self.said()
        run = DataDir(self.data).read_run_file()
        return run if run is not None and run.pid == self.process.pid else None

    def said(self) -> str:
        return self.log.read_text()

    def events(self) -> list[str]:
        lines = (json.loads(line) for line in self.said().splitlines() if line.startswith("{"))
        return [line["event"] for line in lines]

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection(*self.wait_ready().admin, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == http.client.OK, response.read()
            return response.read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.get("/status"))
        return status

    def metric(self, name: str) -> float:
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")

    def ask_worker(self) -> int:
        """Connects as a client; the process id of the worker that took it."""
        with socket.create_connection(self.wait_ready().tcp, timeout=PATIENCE_SECONDS) as client:
            return int(client.makefile().readline() or 0)

    # -- what is done to it

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()


@contextmanager
def running(data: Path, **settings: Any) -> Iterator[Server]:
    """A server that is ready. It is gone afterwards, whatever the test did to it."""
    server = Server(data, **settings)
    try:
        server.wait_ready()
        yield server
    finally:
        end(server)


def end(server: Server) -> None:
    if server.process.poll() is None:
        server.process.kill()
    server.process.wait()
    with DataDir(server.data).claim():  # possible only when nothing of it is left
        pass


def wait_for(look: Callable[[], T | None]) -> T:
    """What `look` gives, as soon as that is true. Fails after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"still nothing: {look}"
        time.sleep(0.01)
    return found


def is_running(pid: int) -> bool:
    """Whether the process lives; one that merely waits to be reaped does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return shown.strip() != "" and not shown.startswith("Z")


def parent_of(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(serve(msgspec.json.decode(sys.argv[1], type=Settings), WORKER))
