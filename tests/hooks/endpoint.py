"""An HTTP endpoint of the tests, on plain sockets and threads: it shares nothing with the product.

It writes down each request and answers as it is told, well or badly.
"""

import queue
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Self

PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05

Answer = Callable[[socket.socket], None]


class Request(NamedTuple):
    headers: dict[str, str]
    body: bytes
    came: float  # time.monotonic()

    @property
    def key(self) -> str:
        return self.headers["webhook-id"]


def status(code: int, content: str = "", **headers: str) -> Answer:
    lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(content.encode())}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    whole = ("\r\n".join(lines) + "\r\n\r\n" + content).encode()
    return lambda connection: connection.sendall(whole)


def cut(connection: socket.socket) -> None:
    """Ends in the middle of the answer's content."""
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"reply": "ha')
    raise ConnectionError


class Hang:
    """Says nothing until `release`; then 200."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        assert self._released.wait(PATIENCE_SECONDS)
        status(200)(connection)

    def release(self) -> None:
        self._released.set()


class Endpoint:
    def __init__(self, certificate: str | None = None) -> None:
        """`certificate`: of a TLS endpoint; a file with its key."""
        self.answers: deque[Answer] = deque()  # of the next requests; afterwards `usual`
        self.usual: Answer = status(200)
        self.requests: queue.Queue[Request] = queue.Queue()
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self.port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/in" if self._tls else f"http://127.0.0.1:{self.port}/in"

    def open(self) -> None:
        """Listens; on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(_POLL_SECONDS)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def shut(self) -> None:
        """Connections are refused from now on."""
        assert self._listener is not None
        self._listener.close()
        self._listener = None

    def next(self) -> Request:
        """The next request, in the order in which they came."""
        return self.requests.get(timeout=PATIENCE_SECONDS)

    def take(self, count: int) -> list[Request]:
        return [self.next() for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._listener is not None:
            self.shut()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    # -- threads

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:  # shut
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.settimeout(_POLL_SECONDS)
                while (request := self._read(wrapped)) is not None:
                    answer = self.answers.popleft() if self.answers else self.usual
                    self.requests.put(request)
                    answer(wrapped)
        except OSError:
            pass  # it went away, does not trust us, or is to be cut off

    def _read(self, connection: socket.socket) -> Request | None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self._receive(connection)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        rows = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
        headers = {name.lower(): value for name, _, value in rows}
        while len(body) < int(headers["content-length"]):
            body += self._receive(connection)
        return Request(headers, body, time.monotonic())

    def _receive(self, connection: socket.socket) -> bytes:
        while not self._closing.is_set():
            try:
                return connection.recv(65536)
            except TimeoutError:
                continue
        return b""
