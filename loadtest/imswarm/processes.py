"""CPU time, memory and cores of processes, as the operating system (Linux) accounts for them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CPU_FIELDS = slice(11, 15)
"""utime, stime, cutime, cstime, counted from the field after the command's name."""

Groups = Mapping[str, Collection[int]]
"""Processes by what they are for; a group without any is not known here, hence not measured."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server and its store run, and where the load does; None: anywhere."""

    server: frozenset[int] | None = None
    load: frozenset[int] | None = None


def split_cores() -> Cores:
    """The lower half of the cores for the server, the upper for the load; no split of one core."""
    usable = sorted(os.sched_getaffinity(0))
    middle = len(usable) // 2
    return Cores(frozenset(usable[:middle]), frozenset(usable[middle:])) if middle else Cores()


class CannotMeasure(Exception):
    """A process to be measured has ended, or is another user's."""

    def __init__(self, pid: int, why: str) -> None:
        super().__init__(f"process {pid} cannot be measured: {why}")


def cpu_seconds(pid: int) -> float:
    """User and system time so far, in steps of 10 ms. Raises CannotMeasure.

    The time of children that have ended counts: Redis rewrites its append-only file in one.
    """
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[_CPU_FIELDS])) / _TICKS_PER_SECOND


def memory_bytes(pid: int) -> int:
    """The proportional set size: shared pages count in part. Raises CannotMeasure."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise CannotMeasure(pid, "it has ended")


def available_memory_bytes() -> int:
    """Of the machine."""
    return _machine_memory("MemAvailable")


def used_memory_share() -> float:
    """Of the machine's memory."""
    return 1 - _machine_memory("MemAvailable") / _machine_memory("MemTotal")


def _machine_memory(name: str) -> int:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def kernel_memory_bytes() -> int:
    """What the kernel keeps in objects (sockets, files, their names) and in the buffers of TCP sockets.

    Of the whole machine: so only a difference means something, and only where nothing else goes on.
    """
    tcp = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    pages = int(tcp.split()[tcp.split().index("mem") + 1])
    return _machine_memory("Slab") + pages * os.sysconf("SC_PAGE_SIZE")


def total_memory_bytes(pids: Iterable[int]) -> int:
    return sum(map(memory_bytes, pids))


def descendants(pid: int) -> list[int]:
    """The processes that this one has started, and those they have. Raises CannotMeasure."""
    with _access(pid):
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return [one for child in children for one in (child, *descendants(child))]


class CpuMeter:
    """CPU seconds spent since it was made, by group. Raises CannotMeasure."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._begin = self._read()

    def spent(self) -> dict[str, float]:
        return {group: now - self._begin[group] for group, now in self._read().items()}

    def _read(self) -> dict[str, float]:
        return {group: sum(map(cpu_seconds, pids)) for group, pids in self._groups.items() if pids}


def run_on(pids: Iterable[int], cores: Collection[int]) -> None:
    """Bind every thread of these processes to these cores; what they start later inherits it.

    Raises CannotMeasure.
    """
    for pid in pids:
        with _access(pid):
            for thread in map(int, os.listdir(f"/proc/{pid}/task")):
                os.sched_setaffinity(thread, cores)


@contextmanager
def starting_on(cores: Collection[int] | None) -> Iterator[None]:
    """Processes started in this block run on these cores; None: anywhere."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _read(pid: int, name: str) -> str:
    with _access(pid):
        return Path(f"/proc/{pid}/{name}").read_text()


@contextmanager
def _access(pid: int) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        raise CannotMeasure(pid, "it has ended") from None
    except PermissionError:
        raise CannotMeasure(pid, "it is another user's") from None
