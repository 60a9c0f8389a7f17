"""A flame graph of a running process by py-spy, which reads its memory from outside and hardly slows it."""

import shutil
import subprocess
from pathlib import Path

from imserver.errors import SetupError

PROGRAM = "py-spy"
_RATE = 200  # samples a second
_GRACE_SECONDS = 30.0  # to find its way into the process, and to draw


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
