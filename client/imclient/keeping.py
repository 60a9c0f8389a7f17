"""Between the replica and the application, where there is a file: what the application hears has been written before.

What comes while a batch is written (in a thread, so that nothing else waits) is the next batch: one commit for as much
as came meanwhile. A batch has the cursors as they were when it was taken, and the entries that they cover; only then
are these cursors acknowledged, and only then do messages that the batch has queued leave. So whatever a killed program
had acknowledged or sent is in the file.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import anyio
import anyio.to_thread

from imclient.core import Replica
from imclient.events import Disconnected, Event, Page
from imclient.file import File, LocalConversation, Saved
from imclient.journal import Change, Journal
from imclient.outbox import Outbox
from imclient.reader import Reader
from imserver.errors import BadRequest, SetupError
from imserver.model import parse_address, parse_position

MOST_UNLOOKED_SECONDS = 60.0  # the clock may be set, or the machine sleep, until something vanishes
MOST_PAGE = 200  # messages: as many as the server gives

Tell = Callable[[Sequence[Event | Disconnected]], None]


class Keeper:
    """`start` MUST be called before anything is told."""

    def __init__(self, file: File, saved: Saved) -> None:
        self.saved = saved  # as the last run left it
        self.journal = Journal(self.wake)
        self.local = Local(file)
        self._file = file
        self._replica: Replica
        self._tell: Tell
        self._told: list[Event | Disconnected] = []
        self._cursors, self._facts = saved.cursors, dict[str, str]()  # as they are in the file
        self._awake = anyio.Event()
        self._written = anyio.Event()  # what is there now is in the file
        self._failure: SetupError | None = None
        self._is_over = False
        self._next_expiry: float | None = 0.0  # anyio's time: the file is to be looked at; at first at once

    def restore(self, reader: Reader, outbox: Outbox) -> None:
        """They go on where the last run ended."""
        outbox.restore(self.saved.outbox, self.saved.runs)
        for key, at in self.saved.done:
            reader.gave(key, at)
        reader.lost(self.saved.lost)

    def start(self, replica: Replica, tell: Tell) -> None:
        """`tell` is called after each batch, perhaps with nothing: more may be acknowledged now."""
        self._replica, self._tell = replica, tell

    # -- writing

    def wake(self) -> None:
        """There is something to write, or may be."""
        self._awake.set()

    def tell(self, events: Sequence[Event | Disconnected]) -> None:
        """The application hears of it, in order, once all that came before is in the file."""
        self._told += events
        self.wake()

    async def run(self) -> None:
        """Writes, and nobody else does: this task is not cancelled by what an application gives up.

        Raises SetupError where the file can't be written.
        """
        try:
            while True:
                with anyio.CancelScope(deadline=inf if self._next_expiry is None else self._next_expiry):
                    await self._awake.wait()
                self._awake = anyio.Event()
                written, self._written = self._written, anyio.Event()
                try:
                    await self._write()
                finally:
                    written.set()
        finally:
            self._is_over = True
            self._written.set()

    async def flush(self) -> None:
        """Returns once all that there is by now is in the file. Raises SetupError."""
        written = self._written
        self.wake()
        if not self._is_over:
            await written.wait()
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    async def _write(self) -> None:
        changes, (told, self._told) = self.journal.take(), (self._told, [])
        mark, facts = self._replica.mark(), self._facts_now()
        if changes or mark.cursors != self._cursors or facts != self._facts or self._expires():
            await self._commit(changes, mark.cursors, facts)
            self._cursors, self._facts = mark.cursors, facts
            self._replica.saved(mark, anyio.current_time())
        self._tell(told)

    def _expires(self) -> bool:
        return self._next_expiry is not None and self._next_expiry <= anyio.current_time()

    async def _commit(self, changes: list[Change], cursors: dict[str, str], facts: dict[str, str]) -> None:
        if self._failure is not None:
            raise self._failure  # later changes without these would be a file with holes
        # Shielded: a thread can't be called back, and what it does must be known. It takes as long as the disk.
        with anyio.CancelScope(shield=True):
            try:
                seconds = await anyio.to_thread.run_sync(self._file.write, changes, cursors, facts)
            except SetupError as error:
                self._failure = error
                raise
        self._next_expiry = None if seconds is None else anyio.current_time() + min(seconds, MOST_UNLOOKED_SECONDS)

    def _facts_now(self) -> dict[str, str]:
        who = self._replica.identity
        return {"device": who.device} if who.token is None else {"device": who.device, "token": who.token}

    async def aclose(self) -> None:
        """Writes what `run` has left, if it ever ran, and gives the file back. Raises SetupError."""
        with anyio.CancelScope(shield=True):
            try:
                if self._is_over and self._failure is None:
                    await self._write()
            finally:
                await anyio.to_thread.run_sync(self._file.close)


class Local:
    """`Client.local`: what the file has, whether the server is there or not. All raise SetupError."""

    def __init__(self, file: File) -> None:
        self._file = file

    async def conversations(self) -> list[LocalConversation]:
        """All of which there is a message, the last one to be talked in first."""
        return await anyio.to_thread.run_sync(self._file.conversations)

    async def history(self, partner: str, *, before: str | None = None, limit: int = 50) -> Page:
        """As `Client.history`. What was said before there was a file, or could not be had any more, is missing."""
        if not 1 <= limit <= MOST_PAGE:
            raise BadRequest(f"limit: {limit} is not a number from 1 to {MOST_PAGE}")
        if before is not None:
            parse_position(before, "before")
        return await anyio.to_thread.run_sync(
            partial(self._file.history, parse_address(partner, "partner"), before, limit)
        )
