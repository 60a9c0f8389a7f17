"""Where dialogues are played: in memory, byte by byte but without a socket, and over real connections."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol
from wsproto import ConnectionType

from imserver.protocol.framing import Framing, LineFraming, WebSocketFraming
from imserver.store.calls import Bounds
from imserver.store.partitions import user_keys
from tests.dialogue.play import Line
from tests.model_store import World
from tests.server import Server
from tests.session.memory import Wire
from tests.session.node import ServerNode, token_for

PATIENCE_SECONDS = 20.0
_MOST = 1 << 24
FAR_FUTURE = 9_000_000_000  # unix seconds, after every position
EVERYTHING, NOTHING = 1, FAR_FUTURE - 1  # ages in seconds: what is older than that, seen from the far future
_NOTHING_REF = "is there anything?"


# -- in memory


class MemoryStage:
    """Two workers on the model store; connections go to them in turn."""

    def __init__(self, *, websocket: bool) -> None:
        self._websocket = websocket
        self._world = World()
        self._nodes = [ServerNode(self._world, name, search="contacts") for name in ("n1", "n2")]

    def open(self) -> "MemoryLine":
        self._nodes.reverse()
        framing = WebSocketFraming(_MOST, ConnectionType.CLIENT) if self._websocket else LineFraming(_MOST)
        return MemoryLine(self._nodes[0].open(websocket=self._websocket), framing, self._settle)

    def now(self) -> int:
        return self._world.database.milliseconds // 1000

    def _settle(self) -> None:
        """Everything that can move does, until nothing can; and so again after what is done once a second."""
        self._move()
        for node in self._nodes:
            node.later.tick()
            self._move()

    def _move(self) -> None:
        while any(node.move() for node in self._nodes):
            pass

    def add_bot(self, name: str, device: str) -> str:
        self._world.database.register(name, "", bot=True)
        return token_for(name, device)

    def cut_log(self, user: str, entries: int) -> None:
        self._settle()
        self._world.database.trim(user, FAR_FUTURE * 1000, Bounds(entries, NOTHING, NOTHING))

    def pass_time(self, seconds: int) -> None:
        self._settle()
        self._world.database.milliseconds += seconds * 1000


class MemoryLine:
    def __init__(self, wire: Wire, framing: Framing, settle: Callable[[], None]) -> None:
        self._wire, self._framing, self._settle = wire, framing, settle
        self._frames: list[bytes] = []

    def send(self, text: str) -> None:
        self._wire.write(self._framing.encode(text.encode()))

    def receive(self) -> Any:
        self._read()
        if self._frames:
            return json.loads(self._frames.pop(0))
        assert self._wire.at_end, "there is nothing to receive"
        return None

    def receive_nothing(self) -> None:
        self._read()
        assert self._frames == []
        assert not self._wire.at_end

    def _read(self) -> None:
        self._settle()
        self._frames += self._framing.receive(self._wire.read())
        self._wire.write(self._framing.take_replies())

    def close(self) -> None:
        self._wire.hang_up()
        self._settle()


# -- real


class ServerStage:
    """A running imserver; every connection goes to whichever worker takes it."""

    def __init__(self, server: Server, line: Callable[[Server], Line]) -> None:
        self._server, self._line = server, line

    def open(self) -> Line:
        return self._line(self._server)

    def now(self) -> int:
        return int(time.time())

    def add_bot(self, name: str, device: str) -> str:
        self._server.cli("bot", "add", name)
        return self._server.cli("token", "mint", name, "--device", device).split()[2]

    def cut_log(self, user: str, entries: int) -> None:
        keys = user_keys(user)
        with redis.Redis.from_url(self._server.run["redis"]) as store:
            arguments = (FAR_FUTURE * 1000, entries, NOTHING * 1000, NOTHING * 1000, 256)
            store.fcall("im_trim_2", 3, keys.state, keys.log, keys.expiring, *map(str, arguments))

    def pass_time(self, seconds: int) -> None:
        pytest.skip("no test waits for a clock")


class TcpLine:
    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(server.tcp, PATIENCE_SECONDS)
        self._file = self._socket.makefile("rb")

    def send(self, text: str) -> None:
        self._socket.sendall(text.encode() + b"\n")

    def receive(self) -> Any:
        line = self._file.readline()
        return json.loads(line) if line else None

    def receive_nothing(self) -> None:
        receive_only_an_answer(self)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class WebSocketLine:
    """By a client that nobody here wrote."""

    def __init__(self, server: Server) -> None:
        host, port = server.http
        self._open = ExitStack()
        self._client: ClientConnection = self._open.enter_context(
            connect(
                f"ws://{host}:{port}/ws",
                subprotocols=[Subprotocol("im.v1")],
                open_timeout=PATIENCE_SECONDS,
                proxy=None,
            )
        )

    def send(self, text: str) -> None:
        self._client.send(text)

    def receive(self) -> Any:
        try:
            return json.loads(self._client.recv(PATIENCE_SECONDS))
        except ConnectionClosed:
            return None

    def receive_nothing(self) -> None:
        receive_only_an_answer(self)

    def close(self) -> None:
        self._open.close()


def receive_only_an_answer(line: Line) -> None:
    """Whatever the server had said before would come before this."""
    line.send(json.dumps({"op": "ping", "ref": _NOTHING_REF}))
    assert line.receive() == {"re": _NOTHING_REF, "ok": {}}
