"""What a running worker does: where its time goes, and how much it does at once, which is what keeps its costs down.

The flame graph is py-spy's, which reads the worker's memory from outside and hardly slows it.
"""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from imserver.errors import SetupError

PROGRAM = "py-spy"
_RATE = 200  # samples a second
_GRACE_SECONDS = 30.0  # to find its way into the process, and to draw
_ADMIN_SECONDS = 10.0
_BATCHES = {  # what: the counter of it, and of what it is done in
    "ready sockets a turn": ("batch_sockets", "batches"),
    "calls a write to the store": ("store_calls", "store_flushes"),
    "entries a write to a client": ("messages_out", "client_writes"),
}


def start(pid: int, seconds: int, out: Path) -> "subprocess.Popen[str]":
    """Begins to look at this process, for so long; `finish` MUST follow. Raises SetupError."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise SetupError(f"{PROGRAM} is not on PATH: pip install {PROGRAM}")
    what = ["--pid", str(pid), "--duration", str(seconds), "--rate", str(_RATE)]
    how = ["--format", "flamegraph", "--output", str(out), "--nonblocking"]
    command = [program, "record", *what, *how]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(profiler: "subprocess.Popen[str]", seconds: int, out: Path) -> None:
    """Waits until `out` is drawn. Raises SetupError, which has what py-spy said."""
    try:
        _, said = profiler.communicate(timeout=seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        profiler.kill()
        profiler.communicate()
        raise SetupError(f"{PROGRAM} did not end") from None
    if profiler.returncode or not out.exists():
        who = "root can, and its owner where ptrace is allowed"
        raise SetupError(f"{PROGRAM} can't look into the process ({who}): {said.strip()}")


def record(pid: int, seconds: int, out: Path) -> None:
    """Looks at this process for so long and draws what it saw into `out`, as SVG. Raises SetupError."""
    finish(start(pid, seconds, out), seconds, out)


def counters_of(admin: tuple[str, int], number: int) -> dict[str, int]:
    """What a worker has counted, from `/status`. Raises SetupError."""
    host = f"[{admin[0]}]" if ":" in admin[0] else admin[0]
    url = f"http://{host}:{admin[1]}/status"
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with directly.open(url, timeout=_ADMIN_SECONDS) as answer:
            workers = json.load(answer)["workers"]
    except OSError as error:
        raise SetupError(f"{url} does not answer: {error}") from None
    counters: dict[str, int] = next((each["counters"] for each in workers if each["number"] == number), {})
    if not counters:
        raise SetupError(f"{url} has no counters of worker {number}: it does not answer")
    return counters


def batches_between(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """How much was done at once between two looks, a line each."""
    lines = []
    for what, (count, batches) in _BATCHES.items():
        times = after[batches] - before[batches]
        lines.append(f"{(after[count] - before[count]) / times:8.1f} {what}" if times else f"       - {what}")
    return lines


class Batches:
    """How much a worker does at once from now on. One that does not answer has a flame graph all the same."""

    def __init__(self, admin: tuple[str, int], number: int) -> None:
        self._admin, self._number = admin, number
        self._before = self._look()

    def _look(self) -> dict[str, int] | str:
        try:
            return counters_of(self._admin, self._number)
        except SetupError as error:
            return str(error)

    def since_made(self) -> list[str]:
        """A line each, or why there are none."""
        before, after = self._before, self._look()
        for found in (before, after):
            if isinstance(found, str):
                return [found]
        assert isinstance(before, dict)
        assert isinstance(after, dict)
        return batches_between(before, after)
