"""A peer's processes: configured, started on a free port of loopback, stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imswarm.client_process import Dialect
from imswarm.connection import Address
from imswarm.deployment import START_SECONDS, STOP_SECONDS, Deployment, DeploymentError
from imswarm.population import Account
from imswarm.processes import descendants, starting_on

DEVICE = "swarm"
_POLL_SECONDS = 0.1
_LOG_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Launch:
    """How a configured server is started."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that is measured beside this one."""

    name: str
    program: str
    """What must be on PATH (or where else servers are put, see `find_program`)."""
    brought_by: str
    """How one gets it."""
    version: Callable[[], str]
    configure: Callable[[Path, int, bool], Launch]
    """Writes a configuration into a directory, for a port, with or without the archive."""
    is_ready: Callable[[Address], bool]
    """Whether it lets clients in: who only listens may still be loading its modules."""
    accounts: Callable[[Address, str, int], list[Account]]
    """Named by a prefix, so many; raises DeploymentError."""
    dialect: Dialect
    keeps: str
    """What becomes of a message, without the archive."""
    archives: str
    """The same with it."""

    @property
    def missing(self) -> str | None:
        """What to do to have it; None if it is there."""
        if find_program(self.program):
            return None
        return f"{self.name} is missing: no {self.program} on PATH ({self.brought_by})"


def of_debian(package: str) -> str:
    return f"Debian: apt-get install {package}"


def version_of_debian(package: str) -> str:
    """To ask a server itself may start it."""
    return output_of("dpkg-query", "-W", "-f", "${Version}", package)


def output_of(*command: str) -> str:
    """What it prints; "unknown" where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def find_program(name: str) -> str | None:
    """Its path; Debian and Go put programs where not every user looks."""
    places = (
        os.environ.get("PATH", os.defpath),
        "/usr/sbin",
        "/sbin",
        "/usr/local/go/bin",
        str(Path.home() / "go" / "bin"),
    )
    return shutil.which(name, path=os.pathsep.join(places))


@contextmanager
def launched(peer: Peer, archive: bool, cores: frozenset[int] | None) -> Iterator[Deployment]:
    """The peer with a data directory of its own; stopped, and the directory removed, on exit.

    Raises DeploymentError.
    """
    if peer.missing:
        raise DeploymentError(peer.missing)
    with tempfile.TemporaryDirectory(prefix=f"imswarm-{peer.name}-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        address = Address("127.0.0.1", _free_port())
        launch = peer.configure(directory, address.port, archive)
        with starting_on(cores), (directory / "output").open("wb") as output:
            process = subprocess.Popen(
                launch.command,
                cwd=directory,
                env={**os.environ, **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_ready(peer, process, address, directory)
            yield Deployment(tcp=address, http=None, redis_url="", workers=(process.pid, *descendants(process.pid)))
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_ready(peer: Peer, process: subprocess.Popen[bytes], address: Address, directory: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not peer.is_ready(address):
        if process.poll() is not None:
            raise DeploymentError(f"it ended with status {process.returncode}:\n{_output(directory)}")
        if time.monotonic() > end:
            raise DeploymentError(f"it is not ready after {START_SECONDS:.0f} s:\n{_output(directory)}")
        time.sleep(_POLL_SECONDS)


def _output(directory: Path) -> str:
    return (directory / "output").read_text(errors="replace")[-_LOG_CHARACTERS:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
