"""`imserver hooks` as a process: started, stopped, killed, started again."""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.hooks.endpoint import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent.parent


def toml_of(value: object) -> str:
    return json.dumps(value)  # numbers, texts, booleans and lists of them are written alike


class HooksProcess:
    def __init__(self, directory: Path, server: str, *hooks: dict[str, Any]) -> None:
        self._directory = directory
        self._file = directory / "hooks.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self._admin = ("", 0)
        lines = [f"server = {toml_of(server)}", 'admin = "127.0.0.1:0"']
        for hook in hooks:
            lines += ["[[hook]]", *(f"{name} = {toml_of(value)}" for name, value in hook.items())]
        text = "\n".join(lines)
        tomllib.loads(text)
        self._file.write_text(text)

    def start(self) -> None:
        """Returns when it is ready; that is before its hooks have sessions."""
        command = [sys.executable, "-m", "imserver.cli", "hooks", "--config", str(self._file)]
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with (self._directory / "hooks.log").open("a") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=ROOT)
        greeting = self._greeting(self._process)
        assert "is ready" in greeting[0], self.log
        host, _, port = greeting[2].split("http://")[1].partition("/")[0].rpartition(":")
        self._admin = host, int(port)

    @staticmethod
    def _greeting(process: "subprocess.Popen[bytes]") -> list[str]:
        """Its three lines; fewer where it ends before."""
        assert process.stdout is not None
        said = b""
        while said.count(b"\n") < 3 and select.select([process.stdout], [], [], PATIENCE_SECONDS)[0]:
            if not (more := os.read(process.stdout.fileno(), 4096)):
                break
            said += more
        return [*said.decode().splitlines(), "", "", ""]

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM; `wait` for the end."""
        assert self._process is not None
        self._process.terminate()

    def wait(self) -> int:
        """The exit status."""
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()
        self._process = None
        return code

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self.wait()

    @property
    def log(self) -> str:
        return (self._directory / "hooks.log").read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection(*self._admin, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """0 where there is none."""
        for family in text_string_to_metric_families(self.get("/metrics")):
            for sample in family.samples:
                if sample.name == f"imserver_hook_{name}" and sample.labels == labels:
                    return sample.value
        return 0.0


@contextmanager
def running(process: HooksProcess) -> Iterator[HooksProcess]:
    try:
        process.start()
        yield process
    finally:
        process.kill()
