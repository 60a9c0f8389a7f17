"""The end of a connection, after the last word to the client.

A socket that is closed while bytes of the client are unread takes back what was just sent: the client sees a reset
where the reason should be. So only the sending half is closed, and what the client says is thrown away until its end.
"""

import socket

from imserver.session.keepalive import TimerWheel
from imserver.wire.reactor import Reactor

LINGER_SECONDS = 2.0  # for a client to see the end
MOST_DISCARDED_BYTES = 1 << 20
_CHUNK = 65536


class Lingering:
    """A socket whose last bytes are sent; takes over from its handler in the reactor, and closes it."""

    __slots__ = ("_discarded", "_reactor", "_sock")

    def __init__(self, sock: socket.socket, reactor: Reactor, wheel: TimerWheel) -> None:
        self._sock = sock
        self._reactor = reactor
        self._discarded = 0
        reactor.replace(sock.fileno(), self)
        reactor.want(sock.fileno(), read=True, write=False)
        wheel.add(self, reactor.now + LINGER_SECONDS)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop("reset by the client")

    def on_readable(self) -> None:
        try:
            size = len(self._sock.recv(_CHUNK))
        except BlockingIOError:
            return
        except OSError:
            size = 0  # reset by the client: as good an end as any
        self._discarded += size
        if not size or self._discarded >= MOST_DISCARDED_BYTES:
            self.drop("at its end")

    def on_writable(self) -> None:
        """Never asked for."""

    def on_timer(self, now: float) -> None:
        self.drop("lingered long enough")

    def drop(self, why: str) -> None:
        if self._sock.fileno() >= 0:
            self._reactor.remove(self._sock.fileno())
            self._sock.close()
