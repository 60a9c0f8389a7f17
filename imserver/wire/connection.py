"""One client: bytes to frames to commands, and back. TCP and WebSocket differ in their framing and in nothing else.

At rest a connection holds no buffer: what is half read is in its framing, what is unsent in `_out`.
"""

import socket

import msgspec

from imserver.errors import FramingError, ImError, RequestError
from imserver.model import Entry
from imserver.protocol import codec
from imserver.protocol.commands import Ref
from imserver.protocol.framing import Framing, WebSocketFraming
from imserver.protocol.pushes import PingPush, Push, Shared
from imserver.session.context import Context
from imserver.session.session import Session
from imserver.wire.linger import LINGER_SECONDS, Lingering
from imserver.wire.reactor import Reactor

_PING = codec.encode_push(PingPush())


class Connection:
    """The `Channel` of a session."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_framing",
        "_held",
        "_held_up",
        "_out",
        "_paused",
        "_reactor",
        "_session",
        "_sock",
        "_stuck_since",
        "host",
        "out_bytes",
    )

    def __init__(
        self, sock: socket.socket, framing: Framing, context: Context, reactor: Reactor, *, host: str | None
    ) -> None:
        """`sock`: connected, non-blocking, not in the reactor yet. `host`: see Channel."""
        self._sock = sock
        self._framing = framing
        self._reactor = reactor
        self.host = host
        self.out_bytes = 0
        self._out: list[bytes] | None = None
        self._held: list[bytes] | None = None  # frames that wait until the session takes commands again
        self._blocked = False  # the socket took less than was offered
        self._held_up = False  # the session is held until the client has taken what is kept for it
        self._paused = False
        self._closing = False
        self._stuck_since: float | None = None
        self._session = Session(self, context)

    # -- in

    def on_readable(self) -> None:
        session = self._session
        try:
            data = self._sock.recv(session.context.settings.read_chunk_bytes)
        except BlockingIOError:
            return
        except OSError as error:
            self.drop(error.strerror or "broken")
            return
        if not data:
            self.drop("closed by the client")
            return
        session.heard = self._reactor.now
        session.context.counters.bytes_in += len(data)
        self.feed(data)

    def feed(self, data: bytes) -> None:
        """What the client sent. Bytes behind a pause stay in order: they are read from the socket after it."""
        framing = self._framing
        try:
            frames = framing.receive(data)
        except FramingError as error:
            self._handle(error.frames)
            self._session.expel("bad-frame", str(error), reconnect=False)
            return
        self._session.context.counters.frames_in += len(frames)
        self._handle(frames)
        if framing.has_replies:
            self._queue(framing.take_replies())
            if framing.closed:
                self._session.leave("closed by the client")

    def _handle(self, frames: list[bytes]) -> None:
        session = self._session
        for index, frame in enumerate(frames):
            if self._paused or self._closing:
                self._held = [*(self._held or ()), *frames[index:]]
                return
            try:
                command = codec.decode_command(frame)
            except RequestError as error:
                session.refuse(codec.ref_of(frame), error)
            except FramingError as error:
                session.expel("bad-frame", str(error), reconnect=False)
            else:
                session.handle(command)

    def pause(self) -> None:
        self._paused = True
        self._update_interest()

    def resume(self) -> None:
        self._paused = False
        held, self._held = self._held, None
        if held:
            self._handle(held)
        if not self._paused:
            self._update_interest()

    def admitted(self) -> None:
        self.host = self.host and ""  # of no use any more
        self._reactor.admit(self._sock.fileno(), read=not self._paused, write=self._blocked)

    def _update_interest(self) -> None:
        if self._sock.fileno() >= 0:
            self._reactor.want(self._sock.fileno(), read=not self._paused, write=self._blocked)

    # -- out

    def reply(self, ref: Ref, content: msgspec.Struct) -> None:
        self._queue(self._framing.encode(codec.encode_reply(ref, content)))

    def fail(self, ref: Ref, error: ImError) -> None:
        self._queue(self._framing.encode(codec.encode_failure(ref, error)))

    def push(self, push: Push) -> None:
        self._queue(self._framing.encode(codec.encode_push(push)))

    def share(self, shared: Shared) -> None:
        self._queue(self._framing.encode(shared.encoded or codec.encode_shared(shared)))

    def forward(self, entry: Entry) -> None:
        self._queue(self._framing.encode_entry(entry))

    def keepalive(self) -> None:
        self._queue(self._framing.encode_keepalive() or self._framing.encode(_PING))

    def _queue(self, data: bytes) -> None:
        self.out_bytes += len(data)
        if self._blocked:
            self._hold_up_if_full()
        if self._out is not None:
            self._out.append(data)
        elif not self._closing:
            self._out = [data]
            self._reactor.touch(self)

    def _hold_up_if_full(self) -> None:
        """Who takes no answers may not ask: replies are bounded, too."""
        if not self._held_up and self.out_bytes > self._session.context.settings.out_buffer_bytes:
            self._held_up = True
            self._session.hold()

    def flush(self) -> None:
        """Sends what is queued: once per turn."""
        out = self._out
        if out is None or self._blocked:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.drop(error.strerror or "broken")
            return
        counters = self._session.context.counters
        counters.bytes_out += sent
        if sent == len(data):
            self._out, self.out_bytes = None, 0
            # A tail stops at the bound even where the socket then takes all of it at once: it has to hear of it, too.
            if self._stuck_since is not None or sent > self._session.context.settings.out_buffer_bytes:
                self._unstick()
            if self._closing and self._out is None:  # else the last words have only just been queued
                self._linger()
            return
        if sent or self._stuck_since is None:
            self._stuck_since = self._reactor.now
        self._out, self.out_bytes = [data[sent:]], len(data) - sent
        self._blocked = True
        self._reactor.want(self._sock.fileno(), read=not self._paused, write=True)
        self._hold_up_if_full()

    def _unstick(self) -> None:
        """The client has caught up with what was kept for it."""
        if self._stuck_since is not None:
            self._stuck_since = None
            self._reactor.want(self._sock.fileno(), read=not self._paused, write=False)
        if self._held_up:
            self._held_up = False
            self._session.release()
        self._session.on_drained()

    def on_writable(self) -> None:
        self._blocked = False
        self.flush()

    @property
    def is_blocked(self) -> bool:
        return self._blocked

    @property
    def is_websocket(self) -> bool:
        return isinstance(self._framing, WebSocketFraming)

    def stuck_seconds(self, now: float) -> float:
        """For how long the client has taken nothing of what is kept for it."""
        return 0.0 if self._stuck_since is None else now - self._stuck_since

    # -- the end

    def close(self) -> None:
        """What is queued is sent, then the end is; a client that does not take it in time is cut off."""
        if self._closing:
            return
        farewell = self._framing.encode_close()
        if farewell:
            self._queue(farewell)
        self._closing = True
        self._held = None
        if self._out is None:
            self._linger()
        else:
            self.pause()
            self._session.context.wheel.add(self, self._reactor.now + LINGER_SECONDS)

    def _linger(self) -> None:
        if self._sock.fileno() >= 0:  # else the client was gone when it was told
            Lingering(self._sock, self._reactor, self._session.context.wheel)

    def on_timer(self, now: float) -> None:
        """The client had time enough to take the last bytes."""
        if self._out is not None:
            self._close_socket()

    def drop(self, why: str) -> None:
        """The connection is gone, or must be, without another word."""
        self._close_socket()
        self._session.lost(why)

    def _close_socket(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._closing = True
        self._out, self._held = None, None
        self._reactor.remove(self._sock.fileno())
        self._sock.close()
