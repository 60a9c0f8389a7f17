"""The program `imclient` as a process, on pipes and on a terminal, in a home of its own."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.server import Server

ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 30.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


def tcp_url(server: Server, user: str) -> str:
    return f"tcp://{user}@{server.tcp[0]}:{server.tcp[1]}"


def ws_url(server: Server, user: str) -> str:
    return f"ws://{user}@{server.http[0]}:{server.http[1]}"


class Home:
    """One machine's state directory."""

    def __init__(self, path: Path, password: str | None = "secret") -> None:
        self.path = path
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IM")},
            "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
            "XDG_STATE_HOME": str(path),
            "TERM": "xterm-256color",
            "TZ": "UTC",
        }
        if password is not None:
            self.environment["IMCLIENT_PASSWORD"] = password

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "imclient", *arguments]

    def run(self, *arguments: str, given: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS * 2,
            check=False,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        return done

    @contextmanager
    def started(self, *arguments: str) -> Iterator["Running"]:
        """A program that goes on; killed at the end if it still runs."""
        with subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield Running(process)
            finally:
                process.kill()

    @contextmanager
    def terminal(self, *arguments: str) -> Iterator["Typing"]:
        """A program on a terminal of 80 by 24."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        before = termios.tcgetattr(slave)
        with subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        ) as process:
            try:
                typing = Typing(process, master)
                yield typing
                assert termios.tcgetattr(slave) == before, "the terminal is not as it was"
            finally:
                process.kill()
                os.close(slave)
                os.close(master)


class Running:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_SECONDS)
        assert ready, "nothing was printed"
        return self.process.stdout.readline().decode().rstrip("\n")

    def message(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.line())
        return fields

    def write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


class Typing:
    """What is typed into a terminal, and what is seen there."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def see(self, pattern: str) -> str:
        """Waits until something that matches has appeared behind what was seen before; returns it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := re.search(pattern, self.seen)) is None:
            self._read(end - time.monotonic(), pattern)
        self.seen = self.seen[found.end() :]
        return found.group()

    def _read(self, seconds: float, pattern: str) -> None:
        ready, _, _ = select.select([self._master], [], [], max(seconds, 0))
        assert ready, f"{pattern!r} did not appear in {self.seen!r}"
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's word for the end of a terminal
            data = b""
        assert data, f"it ended, and {pattern!r} was not in {self.seen!r}"
        self._take(data)

    def _take(self, data: bytes) -> None:
        """A terminal is asked where its cursor is, and answers: in the top line, with all of the screen below."""
        os.write(self._master, b"\x1b[1;1R" * data.count(b"\x1b[6n"))
        self.seen += _ESCAPES.sub("", data.decode(errors="replace"))

    def end(self) -> int:
        """Waits until the program is gone, and takes what it still writes."""
        while self.process.poll() is None:
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if ready:
                self._take(os.read(self._master, 65536))
        return self.process.returncode
