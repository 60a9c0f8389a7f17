"""The data directory: which files it holds, and who may use it.

    lock            held by the one supervisor (or admin command) that uses the directory; tells its process id
    children.lock   inherited by every process it starts, so it is free only when the last of them has ended
    run.json        while serving: addresses and process ids (`RunFile`)
    redis.conf  redis.log  redis.sock  store/      the embedded store's

The kernel releases a lock with the last process that has the descriptor, however that process died. So nothing here
guesses from process ids, which are used again: a live server is told from a dead one by `lock`, and a dead server whose
store is still being stopped by `children.lock`.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from imserver.errors import SetupError
from imserver.observe.log import get_logger

log = get_logger("data")

# A store is given 10 s to stop (keeper.STOP_SECONDS), a worker without its supervisor stops at once.
PREDECESSOR_SECONDS = 15.0
_POLL_SECONDS = 0.02


class WorkerEntry(msgspec.Struct):
    number: int
    pid: int
    node: str


class RunFile(msgspec.Struct):
    """What is running here, as run.json and `/status` tell it. `redis` may hold a password."""

    pid: int
    tcp: tuple[str, int]
    http: tuple[str, int]
    admin: tuple[str, int]
    redis: str
    redis_pid: int | None
    workers: list[WorkerEntry]


class DataDir:
    """The data directory at `path`. It is made when it is claimed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()

    @contextmanager
    def claim(self, wait_seconds: float = PREDECESSOR_SECONDS) -> Iterator[int]:
        """Nobody else uses the directory inside this context.

        Gives the descriptor of `children.lock`, which every process started here MUST inherit. Waits up to
        `wait_seconds` for the processes of a server that died. Raises SetupError if a live one uses the directory, if
        those processes do not end, or if the directory can't be used.
        """
        with self._opened("lock") as lock:
            self._lock_or_refuse(lock)
            with self._opened("children.lock") as children:
                self._wait_for_children(children, wait_seconds)
                yield children

    def is_claimed(self) -> bool:
        """Whether somebody uses the directory now."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            return not _try_lock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    # -- run.json

    def write_run_file(self, run: RunFile) -> None:
        """A reader sees the old one or the new one, never half of one."""
        self.write_private("run.json", msgspec.json.format(msgspec.json.encode(run)) + b"\n")

    def read_run_file(self) -> RunFile | None:
        """None if there is none. It may be that of a server that died: see `is_claimed`."""
        try:
            return msgspec.json.decode((self.path / "run.json").read_bytes(), type=RunFile)
        except (OSError, msgspec.MsgspecError):
            return None

    def remove_run_file(self) -> None:
        with suppress(FileNotFoundError):
            (self.path / "run.json").unlink()

    def write_private(self, name: str, content: bytes) -> Path:
        """Replaces a file that only its owner may read."""
        path, new = self.path / name, self.path / f"{name}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
        new.replace(path)
        return path

    # -- locks

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SetupError(f"the data directory {self.path} can't be used: {error.strerror}; see --data") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _lock_or_refuse(self, lock: int) -> None:
        if not _try_lock(lock):
            owner = os.pread(lock, 20, 0).decode().strip() or "unknown"
            raise SetupError(
                f"the data directory {self.path} is in use by process {owner}; "
                "stop that server first, or give another directory with --data"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)

    def _wait_for_children(self, children: int, wait_seconds: float) -> None:
        if _try_lock(children):
            return
        log.info("waiting for the processes of a server that died here", seconds_at_most=wait_seconds)
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(children):
            if time.monotonic() >= deadline:
                raise SetupError(self._who_remains(wait_seconds))
            time.sleep(_POLL_SECONDS)

    def _who_remains(self, wait_seconds: float) -> str:
        run = self.read_run_file()
        pids = [] if run is None else [*(worker.pid for worker in run.workers), run.redis_pid]
        alive = [str(pid) for pid in pids if pid is not None and _is_alive(pid)]
        return (
            f"the data directory {self.path} is still in use by processes of a server that died, and they did not end "
            f"within {wait_seconds:g} s (of those known: {', '.join(alive) or 'none is alive'})"
        )


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
