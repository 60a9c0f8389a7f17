"""What the machine can do: echoes per CPU second of a server that is nothing but epoll.

The speed of a machine drifts (others use it, clocks change), so a figure means something only
beside the floor of the same run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imswarm.processes import Cores, cpu_seconds, starting_on

FRAME_BYTES = 100
MAX_CONNECTIONS = 19_000
"""One process holds them all, and a process may often hold no more than 20,000 descriptors."""
_COMPILERS = ("cc", "gcc", "clang")
_MOST_STRETCHES = 20
_WARM_UP_SECONDS = 0.3


class FloorError(Exception):
    """The echo server or its client could not be built or run; the text says why."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program that serves and loads: in C where there is a compiler, else in Python."""

    language: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FloorResult:
    language: str
    connections: int
    active: int
    frame_bytes: int
    echoes_per_s: float
    echoes_per_cpu_s: float


@contextmanager
def floor_program() -> Iterator[Program]:
    """Compiled on entry. Raises FloorError if there is a compiler and it fails."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        yield Program("Python", (sys.executable, "-m", "imswarm.floor_echo"))
        return
    with tempfile.TemporaryDirectory(prefix="imswarm-") as directory:
        binary = str(Path(directory) / "floor")
        source = str(Path(__file__).with_name("floor.c"))
        done = subprocess.run([compiler, "-O2", "-o", binary, source], capture_output=True, text=True, check=False)
        if done.returncode:
            raise FloorError(f"{compiler} cannot compile {source}: {done.stderr.strip()}")
        yield Program("C", (binary,))


def measure_floor(program: Program, connections: int, active: int, seconds: float, cores: Cores) -> FloorResult:
    """Run server and client for so long. Raises FloorError."""
    connections = min(connections, MAX_CONNECTIONS)
    active = min(active, connections)
    with _running(program, cores.server, "serve") as server:
        load = ("load", _answer(server), str(connections), str(active), str(FRAME_BYTES))
        with _running(program, cores.load, *load) as client:
            _answer(client)
            echoes, cpu_s, elapsed_s = _watch(server, client, seconds)
    return FloorResult(
        language=program.language,
        connections=connections,
        active=active,
        frame_bytes=FRAME_BYTES,
        echoes_per_s=echoes / elapsed_s,
        echoes_per_cpu_s=echoes / cpu_s,
    )


_Process = subprocess.Popen[str]


def _watch(server: _Process, client: _Process, seconds: float) -> tuple[int, float, float]:
    """Echoes, the server's CPU seconds, and seconds passed. Raises FloorError.

    CPU time is counted in ticks: on a machine that is busy otherwise, the first may take longer than `seconds`.
    """
    time.sleep(_WARM_UP_SECONDS)
    echoes, cpu_s, begin = _echoes(client), cpu_seconds(server.pid), time.monotonic()
    for _ in range(_MOST_STRETCHES):
        time.sleep(seconds)
        used = cpu_seconds(server.pid) - cpu_s
        if used > 0:
            return _echoes(client) - echoes, used, time.monotonic() - begin
    raise FloorError(f"this machine gave the floor's server no CPU time in {_MOST_STRETCHES * seconds:g} s")


def _echoes(client: _Process) -> int:
    assert client.stdin is not None
    client.stdin.write("?")
    client.stdin.flush()
    return int(_answer(client))


def _answer(process: _Process) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise FloorError(f"the floor's process ended with status {process.wait()}")
    return line


@contextmanager
def _running(program: Program, cores: frozenset[int] | None, *arguments: str) -> Iterator[_Process]:
    """Leaving closes the program's standard input, which ends it."""
    with starting_on(cores):
        process = subprocess.Popen(
            [*program.command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        yield process
