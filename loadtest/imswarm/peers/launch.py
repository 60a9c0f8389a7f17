"""A peer's processes: configured, started on a free port of loopback, registered at, stopped."""

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

from imswarm.connection import Address
from imswarm.deployment import START_SECONDS, STOP_SECONDS, Deployment, DeploymentError
from imswarm.peers.xmpp import StanzaFraming, open_stream, register_request
from imswarm.population import Account
from imswarm.processes import descendants, starting_on

PASSWORD = "correct horse"
DEVICE = "swarm"
_POLL_SECONDS = 0.1
_REGISTER_SECONDS = 60.0
_BATCH = 32
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
    """What must be on PATH (or in /usr/sbin); `package` is the Debian package that brings it."""
    package: str
    configure: Callable[[Path, int, bool], Launch]
    """Writes a configuration into a directory, for a port, with or without the archive."""
    keeps: str
    """What becomes of a message, without the archive."""
    archives: str
    """The same with it."""

    @property
    def missing(self) -> str | None:
        """What to do to have it; None if it is there."""
        if find_program(self.program):
            return None
        return f"{self.name} is missing: no {self.program} on PATH (Debian: apt-get install {self.package})"

    @property
    def version(self) -> str:
        """The package's: to ask `prosody` for its version starts it."""
        command = ("dpkg-query", "-W", "-f", "${Version}", self.package)
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return "unknown"


def find_program(name: str) -> str | None:
    """Its path; Debian puts servers where not every user looks."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


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
            _wait_ready(process, address, directory)
            yield Deployment(tcp=address, http=None, redis_url="", workers=(process.pid, *descendants(process.pid)))
        finally:
            _stop(process)


def register(address: Address, prefix: str, count: int) -> list[Account]:
    """Accounts `PREFIX0`, `PREFIX1`, ..., all with one password. Raises DeploymentError."""
    accounts = [Account(f"{prefix}{number}", DEVICE, PASSWORD) for number in range(count)]
    try:
        with socket.create_connection((address.host, address.port), _REGISTER_SECONDS) as stream:
            stanzas = _stanzas(stream)
            stream.sendall(open_stream())
            next(stanzas)  # the features
            for first in range(0, count, _BATCH):
                batch = accounts[first : first + _BATCH]
                stream.sendall(b"".join(register_request(account.user, PASSWORD) for account in batch))
                for _ in batch:
                    _check_registered(next(stanzas))
    except OSError as error:
        raise DeploymentError(f"accounts cannot be registered: {error}") from error
    return accounts


def _stanzas(stream: socket.socket) -> Iterator[bytes]:
    framing = StanzaFraming()
    while data := stream.recv(65536):
        yield from framing.feed(data)
    raise DeploymentError("accounts cannot be registered: the server closed the connection")


def _check_registered(stanza: bytes) -> None:
    if b"'result'" not in stanza and b'"result"' not in stanza:
        raise DeploymentError(f"accounts cannot be registered: {stanza.decode(errors='replace')}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_ready(process: subprocess.Popen[bytes], address: Address, directory: Path) -> None:
    """It answers the opening of a stream: who only listens may still be loading its modules."""
    end = time.monotonic() + START_SECONDS
    while not _answers(address):
        if process.poll() is not None:
            raise DeploymentError(f"it ended with status {process.returncode}:\n{_output(directory)}")
        if time.monotonic() > end:
            raise DeploymentError(f"it is not ready after {START_SECONDS:.0f} s:\n{_output(directory)}")
        time.sleep(_POLL_SECONDS)


def _answers(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), 5.0) as stream:
            stream.sendall(open_stream())
            return b"PLAIN" in next(_stanzas(stream))
    except (OSError, DeploymentError):
        return False


def _output(directory: Path) -> str:
    return (directory / "output").read_text(errors="replace")[-_LOG_CHARACTERS:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
