"""The keeper: the parent of the embedded store, which lets it neither die too early nor live too long.

    python keeper.py LIFE_FD LOCK_FD APPENDONLY_DIRECTORY PROGRAM ARGUMENT...

- The write end of the pipe LIFE_FD is held by the supervisor and by every worker. When the last of them is gone,
  however it died, the pipe reports its end and the keeper stops the store: SIGTERM, after STOP_SECONDS SIGKILL.
- LOCK_FD (`children.lock`) stays open until the store has ended: so nobody else starts one on the same files.
- When the store ends by itself the keeper ends, too, and the supervisor starts both again.
- When the keeper dies the kernel kills the store (Linux; elsewhere the next start finds the store and stops it).
- Once a second what the store has appended is synchronized to the disk. The store itself never does that
  (`appendfsync no`), for the reason in docs/decisions/0002-embedded-durability.md.

It runs beside every embedded store for as long as that, so it imports a few modules of the standard library and nothing
else, and is started by its path (`python -I -S`), without site-packages.
"""

import ctypes
import fcntl
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

STOP_SECONDS = 10.0
SYNC_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """The exit status: 0 if the store was stopped, 1 if it was lost."""
    life, lock = int(arguments[0]), int(arguments[1])
    for descriptor in (life, lock):
        os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal is the supervisor's business
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake = _wake_on_signals()
    store = _start(arguments[3:])
    return Keeper(life, wake, store, arguments[2]).run()


class Keeper:
    """Waits for the end of the store or of those who use it; synchronizes meanwhile."""

    def __init__(self, life: int, wake: int, store: int, directory: str) -> None:
        self._life, self._wake, self._store = life, wake, store
        self._files = SyncedFiles(directory)
        self._stopping = False
        self._kill_at = float("inf")
        self._failed = False

    def run(self) -> int:
        next_sync = time.monotonic() + SYNC_SECONDS
        while (status := self._reap()) is None:
            self._wait(min(next_sync, self._kill_at))
            if time.monotonic() >= self._kill_at:
                os.kill(self._store, signal.SIGKILL)
                self._kill_at = float("inf")
            if time.monotonic() >= next_sync:
                self._sync()
                next_sync = time.monotonic() + SYNC_SECONDS
        self._sync()  # also after a SIGKILL: what the store wrote is in the page cache
        if not self._stopping:
            _say(f"the store ended by itself, {described(status)}")
        return 0 if self._stopping and not self._failed else 1

    def _reap(self) -> int | None:
        pid, status = os.waitpid(self._store, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def _wait(self, until: float) -> None:
        """Until a signal came, the pipe ended, or the time has come."""
        watched = [self._wake] if self._stopping else [self._wake, self._life]
        ready, _, _ = select.select(watched, [], [], max(0.0, until - time.monotonic()))
        signals = os.read(self._wake, 64) if self._wake in ready else b""
        if self._life in ready or signal.SIGTERM in signals:
            self._stop()

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._kill_at = time.monotonic() + STOP_SECONDS
            os.kill(self._store, signal.SIGTERM)

    def _sync(self) -> None:
        """After a failure the kernel forgets which pages it has not written: the store MUST NOT go on as if it had."""
        if self._failed:
            return
        try:
            self._files.sync()
        except OSError as error:
            self._failed = True
            _say(f"the store can't be synchronized to the disk, so it is stopped: {error}")
            self._stop()


class SyncedFiles:
    """The store's files of appended commands, and how much of each is on the disk.

    Base files and the manifest are synchronized by the store itself, as is a file that it has finished.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._synced: dict[str, int] = {}  # path -> size

    def sync(self) -> None:
        """Raises OSError if the disk does."""
        sizes = self._sizes()
        for path, size in sizes.items():
            if self._synced.get(path) != size:
                _synchronize(path)
        self._synced = sizes

    def _sizes(self) -> dict[str, int]:
        try:
            with os.scandir(self._directory) as entries:
                return {entry.path: entry.stat().st_size for entry in entries if entry.name.endswith(".incr.aof")}
        except FileNotFoundError:  # nothing appended yet, or a file just replaced: the next second sees what is there
            return {}


def _synchronize(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        if sys.platform == "darwin":
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # its fsync leaves the data in the drive's cache
        else:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _wake_on_signals() -> int:
    """A descriptor on which the numbers of SIGCHLD and SIGTERM arrive."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, _ignore)
    return read


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler of its own, since a signal that is ignored or left to its default wakes nobody."""


def _start(command: list[str]) -> int:
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(command, keeper)
    return pid


def _become(command: list[str], keeper: int) -> NoReturn:
    try:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:  # it died before the kernel was told
                os._exit(1)
        os.execv(command[0], command)
    except BaseException as error:
        _say(f"{command[0]} can't be started: {error}")
    finally:
        os._exit(127)


def described(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _say(text: str) -> None:
    try:
        print(f"imserver: {text}", file=sys.stderr, flush=True)
    except OSError:
        pass  # the terminal has gone; the store is still to be looked after


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
