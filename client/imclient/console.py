"""Where `imclient chat` reads and writes: a terminal, or a pipe."""

import os
from typing import Protocol, Self

import click
import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import StdoutProxy

from imserver.errors import SetupError

READ_BYTES = 65536
BUNDLE_SECONDS = 0.05  # lines that come together are painted together


class Console(Protocol):
    """Use as a context manager."""

    is_interactive: bool

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    async def read_line(self) -> str | None:
        """What the person has typed; None: nothing more will come."""

    async def show(self, text: str) -> None:
        """Shows lines."""

    async def note(self, text: str) -> None:
        """Shows what is not a message: beside a pipe, not in it."""

    def refresh(self, prompt: str, status: str) -> None:
        """Prompt and status are these now."""


class Terminal:
    """Line editing at the bottom; what is shown appears above it.

    prompt_toolkit runs on asyncio, in a thread of its own; it is told what to do in the ways that it declares safe.
    """

    is_interactive = True

    def __init__(self) -> None:
        self._prompt = self._status = ""
        self._session: PromptSession[str] = PromptSession(
            lambda: self._prompt, bottom_toolbar=lambda: self._status, erase_when_done=True
        )
        self._out = StdoutProxy(sleep_between_writes=BUNDLE_SECONDS, raw=True)
        self._is_reading = False
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._out.close()

    async def read_line(self) -> str | None:
        """A cancelled one ends the editing first, so that the terminal is left as it was found."""
        self._is_reading = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_if_cancelled)
            line = await trio.to_thread.run_sync(self._read)
            self._is_reading = False
            nursery.cancel_scope.cancel()
        return line

    def _read(self) -> str | None:
        try:
            return self._session.prompt(pre_run=self._exit_if_over, handle_sigint=False)
        except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
            return None

    async def _end_if_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._is_reading:
                self._end()

    def _end(self) -> None:
        """Reaches an editor that runs through its loop, and one that is about to run through `pre_run`."""
        self._is_over = True
        loop = self._session.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._exit_if_over)

    def _exit_if_over(self) -> None:
        app = self._session.app
        if self._is_over and not app.is_done:
            app.exit(exception=EOFError)

    async def show(self, text: str) -> None:
        self._out.write(text + "\n")

    async def note(self, text: str) -> None:
        await self.show(text)

    def refresh(self, prompt: str, status: str) -> None:
        self._prompt, self._status = prompt, status
        self._session.app.invalidate()


class Pipe:
    """Lines in, lines out."""

    is_interactive = False

    def __init__(self) -> None:
        self._rest = b""
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    async def read_line(self) -> str | None:
        while b"\n" not in self._rest and not self._is_over:
            # Not sys.stdin: a thread that is left behind in there holds a lock that the interpreter needs at its end.
            data = await trio.to_thread.run_sync(os.read, 0, READ_BYTES, abandon_on_cancel=True)
            self._rest += data
            self._is_over = not data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace") if line or not self._is_over else None

    async def show(self, text: str) -> None:
        await write_line(text)

    async def note(self, text: str) -> None:
        click.echo(text, err=True)

    def refresh(self, prompt: str, status: str) -> None:
        pass


async def write_line(text: str) -> None:
    """To standard output, at once. A reader that is slow stops this task alone: the connection is kept alive.

    Raises BrokenPipeError where nobody reads any more, SetupError where it can't be written.
    """
    data = text.encode(errors="replace") + b"\n"
    try:
        # Not sys.stdout, for the reason given for sys.stdin.
        await trio.to_thread.run_sync(_write, data, abandon_on_cancel=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SetupError(f"standard output can't be written: {error.strerror}") from None


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
