"""How a link begins: connect, HELLO 3, functions loaded, the epoch asked for, channels subscribed and confirmed."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import hiredis
import trio
from redis.connection import SSLConnection, parse_url

from imserver.store import calls, epochs, tls
from imserver.store.calls import pack
from imserver.store.epochs import UNKNOWN, Epoch, Lineage

HANDSHAKE_SECONDS = 5.0
_CHUNK = 262144
MORE = object()  # hiredis: nothing complete to give


class Connected(NamedTuple):
    """A non-blocking socket with its reader, and which life of which process is at the other end."""

    sock: socket.socket
    reader: hiredis.Reader
    run_id: bytes
    epoch: Epoch


class HandshakeFailed(Exception):
    """No link for now; the message says why."""


async def shake_hands(
    url: str, *, client_name: str, channels: Sequence[bytes], clustered: bool = False, epoch_key: bytes | None = None
) -> Connected:
    """RESP3 is spoken with a primary, the functions are loaded, `channels` are subscribed.

    `epoch_key`: where the shard keeps its epoch; None: it is not asked for.
    The reader may hold pushes that came already: whoever takes it over starts by reading it. Raises HandshakeFailed:
    also where it is a replica; where it is `clustered` and out of touch with the others; where the slot of a channel is
    not its own.
    """
    async with conversation_with(url, client_name) as conversation:
        lineage = await _lineage(conversation)
        if clustered:
            await _check_cluster(conversation)
        await _load_functions(conversation)
        epoch = UNKNOWN if epoch_key is None else await _epoch(conversation, epoch_key, lineage)
        await conversation.subscribe(channels)
        return Connected(conversation.keep(), conversation.reader, lineage.run_id, epoch)


@asynccontextmanager
async def conversation_with(
    url: str, client_name: str, seconds: float = HANDSHAKE_SECONDS
) -> AsyncIterator["Conversation"]:
    """Connected, and RESP3 is spoken; closed afterwards, unless kept. Whatever fails inside is a HandshakeFailed."""
    try:
        with trio.fail_after(seconds):
            options = parse_url(url)  # type: ignore[no-untyped-call]
            conversation = Conversation(await _connect(options))
            try:
                await _greet(conversation, options, client_name)
                yield conversation
            finally:
                conversation.close()
    except OSError as error:
        raise HandshakeFailed(error.strerror or str(error)) from error
    except trio.TooSlowError:
        raise HandshakeFailed(f"no answer in {seconds:g} s") from None
    except hiredis.HiredisError as error:
        raise HandshakeFailed(str(error)) from error


async def _greet(conversation: "Conversation", options: dict[str, Any], client_name: str) -> None:
    hello = ["HELLO", "3"]
    if options.get("password"):
        hello += ["AUTH", options.get("username") or "default", options["password"]]
    await conversation.ask(*hello, "SETNAME", client_name)
    if options.get("db"):
        await conversation.ask("SELECT", str(options["db"]))


async def _connect(options: dict[str, Any]) -> socket.socket:
    address: Any
    if "path" in options:
        sock = socket.socket(socket.AF_UNIX)
        address = options["path"]
    else:
        host, port = options.get("host", "127.0.0.1"), options.get("port", 6379)
        family, kind, protocol, _, address = (await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.setblocking(False)
        await trio.socket.from_stdlib_socket(sock).connect(address)
    except BaseException:
        sock.close()
        raise
    is_encrypted = options.get("connection_class") is SSLConnection
    return await tls.wrap(sock, options.get("host", "localhost"), options) if is_encrypted else sock


async def _lineage(conversation: "Conversation") -> Lineage:
    """A replica is refused: it may be promoted while the link stands, and a link is one epoch's."""
    lineage = epochs.lineage_of(await conversation.read("INFO", "server", "replication"))
    if lineage.role == b"slave":
        raise HandshakeFailed("a replica, which takes no writes")
    return lineage


async def _epoch(conversation: "Conversation", key: bytes, lineage: Lineage) -> Epoch:
    if not lineage.replid:
        return UNKNOWN
    try:
        return epochs.answered(await conversation.ask_packed(epochs.ask(key, lineage)))
    except HandshakeFailed as refused:
        # A disk that is full, a replica that is missing: reading goes on. Whatever is believed, nothing is written now.
        if not str(refused).startswith(("MISCONF", "NOREPLICAS")):
            raise
        return Epoch(lineage.replid, 0.0)


async def _check_cluster(conversation: "Conversation") -> None:
    """A primary that was cut off, or is just back, may not know yet that another one has taken its slots."""
    if b"cluster_state:ok" not in await conversation.read("CLUSTER", "INFO"):
        raise HandshakeFailed("the cluster is down, as far as this primary knows")


async def _load_functions(conversation: "Conversation") -> None:
    library = calls.library()
    name = library.partition("name=")[2].split()[0]
    known = await conversation.ask("FUNCTION", "LIST", "LIBRARYNAME", name, "WITHCODE")
    if not known or known[0][b"library_code"] != library.encode():
        await conversation.ask("FUNCTION", "LOAD", "REPLACE", library)


class Conversation:
    """Question and answer, before calls and pushes mix."""

    def __init__(self, sock: socket.socket) -> None:
        self.reader = hiredis.Reader(notEnoughData=MORE)
        self._owned: socket.socket | None = sock
        self._sock = sock

    def keep(self) -> socket.socket:
        """The socket, which is the caller's from now on."""
        assert self._owned is not None
        sock, self._owned = self._owned, None
        return sock

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()

    async def read(self, *command: str) -> bytes:
        """A text."""
        text: Any = await self.ask(*command)
        return text if isinstance(text, bytes) else str(text).encode()

    async def ask(self, *command: str) -> Any:
        return await self.ask_packed(pack(*command))

    async def ask_packed(self, command: bytes) -> Any:
        await self._send(command)
        return await self._next()

    async def subscribe(self, channels: Sequence[bytes]) -> None:
        """One command a channel: in a cluster, a command must stay within one slot."""
        await self._send(b"".join(pack(b"SSUBSCRIBE", channel) for channel in channels))
        missing = len(channels)
        while missing:
            missing -= (await self._next())[0] == b"ssubscribe"

    async def _send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)

    async def _next(self) -> Any:
        while (reply := self.reader.gets()) is MORE:
            self.reader.feed(await self._receive())
        if isinstance(reply, hiredis.ReplyError):
            raise HandshakeFailed(str(reply))
        return reply

    async def _receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                data = self._sock.recv(_CHUNK)
            except BlockingIOError:
                continue
            if not data:
                raise HandshakeFailed("closed by Redis")
            return data
