"""Clients that share no code with the product: a bare socket over TCP, PyPI's `websockets` over WebSocket.

They block, and give up after `patience_seconds`. `receive` gives every frame of the server as it is; `ask` and `hear`
put the frames aside that are not what was waited for.
"""

import itertools
import json
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import websockets
from websockets.sync.client import connect as connect_websocket
from websockets.typing import Subprotocol

PATIENCE_SECONDS = 30.0
_CHUNK = 65536
Frame = dict[str, Any]
Address = tuple[str, int]


class Ended(ConnectionError):
    """The server has closed the connection, or it broke."""


class Refused(Exception):
    """The `err` of a reply."""

    def __init__(self, error: Frame) -> None:
        super().__init__(error)
        self.code: str = error["code"]
        self.text: str = error["text"]


class Client:
    """What both transports have in common; `send_text`, `_receive_text` and `close` are theirs."""

    def __init__(self) -> None:
        self._refs = itertools.count(1)
        self._aside: deque[Frame] = deque()
        self.patience_seconds = PATIENCE_SECONDS

    def send_text(self, text: str | bytes) -> None:
        raise NotImplementedError

    def _receive_text(self) -> str | bytes:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- frames

    def say(self, op: str, **fields: Any) -> None:
        self.send_text(json.dumps({"op": op, **fields}))

    def receive(self) -> Frame:
        """The next frame, whatever it is. Raises Ended."""
        if self._aside:
            return self._aside.popleft()
        frame: Frame = json.loads(self._receive_text())
        return frame

    def wait_for(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The next frame that is wanted; the others are put aside."""
        passed: deque[Frame] = deque()
        try:
            while not wanted(frame := self.receive()):
                passed.append(frame)
        finally:
            self._aside = passed + self._aside
        return frame

    def ask(self, op: str, **fields: Any) -> Frame:
        """The `ok` of the reply. Raises Refused."""
        ref = next(self._refs)
        self.say(op, ref=ref, **fields)
        reply = self.wait_for(lambda frame: frame.get("re") == ref)
        if "err" in reply:
            raise Refused(reply["err"])
        ok: Frame = reply["ok"]
        return ok

    def hear(self, event: str) -> Frame:
        """The next push of this kind."""
        return self.wait_for(lambda frame: frame.get("ev") == event)

    def hear_rest(self) -> list[Frame]:
        """Everything until the server closes."""
        frames = []
        try:
            while True:
                frames.append(self.receive())
        except Ended:
            return frames

    # -- what nearly every test says

    def register(self, user: str) -> None:
        self.ask("register", user=user, password=f"{user}'s password")

    def log_in(self, user: str, device: str, **fields: Any) -> Frame:
        """By password, where `fields` have no token."""
        if "token" not in fields:
            fields |= {"user": user, "password": f"{user}'s password"}
        return self.ask("login", device=device, **fields)

    def enter(self, user: str, device: str, **fields: Any) -> list[Frame]:
        """Logs in; the backlog."""
        self.log_in(user, device, **fields)
        return self.backlog()

    def backlog(self) -> list[Frame]:
        """What comes until `synced`."""
        frames = []
        while (frame := self.receive()).get("ev") != "synced":
            frames.append(frame)
        return frames

    def tell(self, to: str, message_id: str, body: Any = "hello") -> Frame:
        return self.ask("send", id=message_id, to=to, body=body)


class TcpClient(Client):
    def __init__(
        self, address: Address, *, receive_buffer: int = 0, source: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        """`source`: the address to connect from."""
        super().__init__()
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_SECONDS)
        try:
            if source:
                self.socket.bind((source, 0))
            self.socket.connect(address)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname=address[0])
        except BaseException:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send_text(self, text: str | bytes) -> None:
        self.send_bytes((text.encode() if isinstance(text, str) else text) + b"\n")

    def send_bytes(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise
        except OSError as error:
            raise Ended(str(error)) from error

    def _receive_text(self) -> bytes:
        while b"\n" not in self._buffer:
            try:
                self.socket.settimeout(self.patience_seconds)
                data = self.socket.recv(_CHUNK)
            except TimeoutError:
                raise
            except OSError as error:
                raise Ended(str(error)) from error
            if not data:
                raise Ended("the end")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self) -> None:
        self.socket.close()


class WebSocketClient(Client):
    def __init__(
        self, address: Address, *, query: str = "", source: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        host, port = address
        self._stack = ExitStack()
        self.websocket = self._stack.enter_context(
            connect_websocket(
                f"{'wss' if tls else 'ws'}://{host}:{port}/ws{query}",
                ssl=tls,
                source_address=(source, 0) if source else None,
                subprotocols=[Subprotocol("im.v1")],
                compression=None,
                open_timeout=PATIENCE_SECONDS,
                close_timeout=1,
            )
        )

    def send_text(self, text: str | bytes) -> None:
        try:
            self.websocket.send(text if isinstance(text, str) else text.decode())
        except websockets.ConnectionClosed as error:
            raise Ended(str(error)) from error

    def _receive_text(self) -> str | bytes:
        try:
            return self.websocket.recv(timeout=self.patience_seconds)
        except websockets.ConnectionClosed as error:
            raise Ended(str(error)) from error

    def close(self) -> None:
        self._stack.close()
