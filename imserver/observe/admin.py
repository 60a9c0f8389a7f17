"""The admin port: a few pages over HTTP, read by people, by Prometheus and by whoever restarts the server.

It has no login, so it listens on loopback unless the operator says otherwise, shows no secret and changes nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

import h11
import trio

from imserver.observe.log import get_logger

log = get_logger("admin")

CONNECTIONS_MAX = 64  # what scrapers and people need is a handful; the supervisor has better uses for descriptors
EXCHANGE_SECONDS = 15.0  # from waiting for a request to having sent the answer; a scraper may well reconnect
_CHUNK = 8192  # a request is a line and some headers
_HEADER_BYTES_MAX = 16384


class Page(NamedTuple):
    content_type: str
    content: bytes


PageMaker = Callable[[], Awaitable[Page]]


@dataclass(slots=True)
class AdminPort:
    """`pages`: path -> what makes the page. Give `handle` to `trio.serve_listeners`."""

    pages: Mapping[str, PageMaker]
    _open: int = field(default=0, init=False)

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serves one connection to its end. Raises nothing: a mistake here MUST NOT end every session of the server."""
        self._open += 1
        try:
            async with stream:
                peer = _Peer(stream)
                try:
                    await self._converse(peer)
                except trio.BrokenResourceError:
                    log.debug("peer went away")
                except Exception:
                    log.exception("admin page failed")
                    await self._refuse(peer, HTTPStatus.INTERNAL_SERVER_ERROR, "the log says why")
        finally:
            self._open -= 1

    async def _refuse(self, peer: "_Peer", status: HTTPStatus, why: str) -> None:
        with suppress(trio.BrokenResourceError), trio.move_on_after(EXCHANGE_SECONDS):
            await peer.answer_error(status, why)

    async def _converse(self, peer: "_Peer") -> None:
        if self._open > CONNECTIONS_MAX:
            await self._refuse(peer, HTTPStatus.SERVICE_UNAVAILABLE, f"more than {CONNECTIONS_MAX} connections")
            return
        more = True
        while more:
            more = False  # unless the exchange ends in time
            with trio.move_on_after(EXCHANGE_SECONDS):
                more = await self._exchange(peer)

    async def _exchange(self, peer: "_Peer") -> bool:
        """One request and its answer. False when the connection is used up."""
        try:
            request = await peer.request()
        except h11.RemoteProtocolError as error:
            await peer.answer_error(HTTPStatus(error.error_status_hint), str(error))
            return False
        if request is None:
            return False
        await self._answer(peer, request)
        return peer.next_exchange()

    async def _answer(self, peer: "_Peer", request: h11.Request) -> None:
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        make = self.pages.get(path)
        if make is None:
            await peer.answer_error(HTTPStatus.NOT_FOUND, f"there is {', '.join(sorted(self.pages))}")
        elif request.method not in (b"GET", b"HEAD"):
            await peer.answer_error(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", allow="GET, HEAD")
        else:
            await peer.answer(HTTPStatus.OK, await make())


class _Peer:
    """HTTP/1.1 on a stream; answers whole pages."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADER_BYTES_MAX)
        self._wants_content = True

    async def request(self) -> h11.Request | None:
        """The next request, read to its end; None if the peer has gone. Raises h11.RemoteProtocolError."""
        request = None
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(_CHUNK)))
            elif isinstance(event, h11.Request):
                request = event
                self._wants_content = event.method != b"HEAD"
            elif isinstance(event, h11.EndOfMessage):
                return request
            elif isinstance(event, h11.ConnectionClosed):
                return None
            else:
                raise h11.RemoteProtocolError("no page takes a body", error_status_hint=HTTPStatus.BAD_REQUEST)

    async def answer(self, status: HTTPStatus, page: Page, **headers: str) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers |= {"content-type": page.content_type, "content-length": str(len(page.content))}
        head = h11.Response(status_code=status, reason=status.phrase, headers=list(headers.items()))
        body = h11.Data(data=page.content if self._wants_content else b"")
        parts = [self._http.send(event) for event in (head, body, h11.EndOfMessage())]
        await self._stream.send_all(b"".join(part for part in parts if part))

    async def answer_error(self, status: HTTPStatus, why: str, **headers: str) -> None:
        text = f"{status.value} {status.phrase}: {why}\n"
        await self.answer(status, Page("text/plain; charset=utf-8", text.encode()), **headers)

    def next_exchange(self) -> bool:
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True
