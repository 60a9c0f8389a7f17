"""A connection to the HTTP port, until it becomes a WebSocket. h11 parses, `site` answers."""

import socket
from collections.abc import Callable

import h11

from imserver.session.keepalive import TimerWheel
from imserver.wire.linger import Lingering
from imserver.wire.reactor import Reactor
from imserver.wire.site import Response, Site

IDLE_SECONDS = 10.0
_MOST_REQUEST_BYTES = 16384
_CHUNK = 16384


class HttpConnection:
    """Requests one after the other; the connection is closed when idle for ten seconds."""

    __slots__ = (
        "_done",
        "_heard",
        "_http",
        "_on_upgrade",
        "_out",
        "_reactor",
        "_request",
        "_site",
        "_sock",
        "_starved",
        "_wheel",
    )

    def __init__(
        self,
        sock: socket.socket,
        site: Site,
        reactor: Reactor,
        wheel: TimerWheel,
        on_upgrade: Callable[[socket.socket, bytes], None],
    ) -> None:
        """`on_upgrade` takes over the socket, which is in the reactor under this handler, and bytes read too far."""
        self._sock = sock
        self._site = site
        self._reactor = reactor
        self._on_upgrade = on_upgrade
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_REQUEST_BYTES)
        self._request: h11.Request | None = None
        self._out = b""
        self._starved = False  # h11 needs more bytes
        self._done = False  # closed, or given to the WebSocket
        self._heard = reactor.now
        self._wheel = wheel
        wheel.add(self, reactor.now + IDLE_SECONDS)

    def on_readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.drop("broken")
            return
        self._advance(data)

    def on_writable(self) -> None:
        self._reactor.want(self._sock.fileno(), read=True, write=False)
        self._advance(None)

    def _advance(self, data: bytes | None) -> None:
        """Works off what has arrived, as far as the answers are taken."""
        try:
            if data is not None:
                self._http.receive_data(data)
            self._starved = False
            while self._sent_all() and self._next_cycle():
                self._take(self._http.next_event())
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _next_cycle(self) -> bool:
        """Whether another event may be taken; the request before is answered by now."""
        if self._done:
            return False
        if self._http.our_state is h11.MUST_CLOSE:
            self._linger()
            return False
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return not self._starved

    def _take(self, event: object) -> None:
        if event is h11.NEED_DATA or event is h11.PAUSED:
            self._starved = True
        elif isinstance(event, h11.Request):
            self._request = event
        elif isinstance(event, h11.EndOfMessage):
            self._answer()
        elif isinstance(event, h11.ConnectionClosed):
            self.drop("closed")

    def _answer(self) -> None:
        request = self._request
        assert request is not None
        self._heard = self._reactor.now
        response = self._site.respond(request.method, request.target, request.headers)
        if response.status == 101:
            self._upgrade(response)
        else:
            self._out = self._encode(response)

    def _encode(self, response: Response) -> bytes:
        headers = [*response.headers, (b"content-length", str(len(response.body)).encode())]
        event = h11.Response(status_code=response.status, headers=headers, reason=response.reason)
        is_head = self._request is not None and self._request.method == b"HEAD"
        parts = [
            self._http.send(event),
            self._http.send(h11.Data(data=b"" if is_head else response.body)),
            self._http.send(h11.EndOfMessage()),
        ]
        return b"".join(part for part in parts if part)

    def _upgrade(self, response: Response) -> None:
        event = h11.InformationalResponse(status_code=101, headers=response.headers, reason=response.reason)
        self._out = self._http.send(event) or b""
        if not self._sent_all():
            self.drop("did not take the handshake")
        elif not self._done:
            self._done = True
            self._on_upgrade(self._sock, self._http.trailing_data[0])

    def _sent_all(self) -> bool:
        """Sends what is to be sent; what is not taken waits until the socket is writable."""
        if not self._out:
            return True
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._out = b""
            self.drop("broken")
            return True
        self._out = self._out[sent:]
        if self._out:
            self._reactor.want(self._sock.fileno(), read=False, write=True)
        return not self._out

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Not HTTP: says so and closes."""
        text = b"not HTTP\n"
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [(b"content-length", str(len(text)).encode()), (b"connection", b"close")]
            response = h11.Response(status_code=error.error_status_hint, headers=headers, reason=b"Bad Request")
            self._out = (self._http.send(response) or b"") + text
        if self._sent_all():
            self._linger()
        else:
            self.drop("did not take the refusal")

    def _linger(self) -> None:
        """Closes, so that the client sees what it was told."""
        if not self._done:
            self._done = True
            Lingering(self._sock, self._reactor, self._wheel)

    def on_timer(self, now: float) -> float | None:
        if self._done:
            return None
        if now - self._heard < IDLE_SECONDS:
            return self._heard + IDLE_SECONDS
        self.drop("idle")
        return None

    def drop(self, why: str) -> None:
        """Closes; nobody needs to be told."""
        if not self._done:
            self._done = True
            self._reactor.remove(self._sock.fileno())
            self._sock.close()
