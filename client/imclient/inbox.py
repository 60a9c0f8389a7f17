"""What somebody waits for: an answer, or the next of what comes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio

from imclient.events import Entry, Notice
from imserver.errors import ImError

T = TypeVar("T")


class Answer:
    def __init__(self) -> None:
        self._came = anyio.Event()
        self._content: Any = None

    def give(self, content: object) -> None:
        self._content = content
        self._came.set()

    async def wait(self) -> Any:
        await self._came.wait()
        if isinstance(self._content, ImError):
            raise self._content.with_traceback(None)
        return self._content


class Inbox(AsyncIterator[T], Generic[T]):
    """An iterator over what comes to a client; see `Client.messages`."""

    def __init__(self, take: Callable[[], Awaitable[Notice]], ack: Callable[[Entry], None] | None, kind: Any) -> None:
        """`ack`: what the application is done with when it asks for the next; None: it says so itself."""
        self._take = take
        self._ack = ack
        self._kind = kind
        self._given: Entry | None = None

    async def __anext__(self) -> T:
        while True:
            if self._given is not None and self._ack is not None:
                self._ack(self._given)
            event = await self._take()
            self._given = event if isinstance(event, Entry) else None
            if isinstance(event, self._kind):
                return event  # type: ignore[no-any-return]
