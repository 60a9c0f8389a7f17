"""What the HTTP port answers. Pure: a request in, a response out.

`/` and its files are the web client; `/healthz` tells that the process lives, `/readyz` that it delivers;
`/protocol.json` describes what is said over `/ws`, the WebSocket.
"""

import mimetypes
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import msgspec
from wsproto.utilities import generate_accept_token

from imserver.protocol import schema

Headers = list[tuple[bytes, bytes]]

SUBPROTOCOL = b"im.v1"
_HEADERS: Headers = [
    (b"content-security-policy", b"default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_REASONS = {
    101: b"Switching Protocols",
    200: b"OK",
    304: b"Not Modified",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    426: b"Upgrade Required",
    503: b"Service Unavailable",
}


class Response(NamedTuple):
    """Status 101 hands the connection over to the WebSocket."""

    status: int
    headers: Headers
    body: bytes = b""

    @property
    def reason(self) -> bytes:
        return _REASONS[self.status]


class _File(NamedTuple):
    kind: bytes
    body: bytes
    etag: bytes


class Site:
    """`why_not_ready` returns an empty string while entries are proven to be delivered."""

    def __init__(self, folder: Path, why_not_ready: Callable[[], str]) -> None:
        self._files = {**_read_files(folder), b"/protocol.json": _in_memory(b"application/json", schema.encoded())}
        self._why_not_ready = why_not_ready

    def respond(self, method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Response:
        path = target.partition(b"?")[0]
        known = dict(headers)  # h11 gives names in lower case
        if path not in (b"/ws", b"/healthz", b"/readyz") and path not in self._files:
            return _text(404, b"there is nothing here")
        if method not in (b"GET", b"HEAD"):
            return _text(405, b"GET or HEAD", [(b"allow", b"GET, HEAD")])
        if path == b"/ws":
            return _upgrade(known)
        if path == b"/healthz":
            return _text(200, b"alive")
        if path == b"/readyz":
            return self._readiness()
        return _file(self._files[path], known.get(b"if-none-match"))

    def _readiness(self) -> Response:
        why = self._why_not_ready()
        body = msgspec.json.encode({"ready": not why, "why": why})
        return Response(
            503 if why else 200, [(b"content-type", b"application/json"), (b"cache-control", b"no-store")], body
        )


def _read_files(folder: Path) -> dict[bytes, _File]:
    """All in memory: a few small files, served without touching the disk."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            body = path.read_bytes()
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            kind = "text/javascript" if path.suffix in (".js", ".mjs") else kind
            text = "; charset=utf-8" if kind.startswith("text/") else ""
            found[b"/" + path.relative_to(folder).as_posix().encode()] = _in_memory((kind + text).encode(), body)
    if b"/index.html" in found:
        found[b"/"] = found[b"/index.html"]
    return found


def _in_memory(kind: bytes, body: bytes) -> _File:
    return _File(kind, body, b'"%b"' % sha256(body).hexdigest()[:16].encode())


def _file(file: _File, known_etag: bytes | None) -> Response:
    headers = [*_HEADERS, (b"etag", file.etag), (b"cache-control", b"no-cache")]
    if known_etag == file.etag:
        return Response(304, headers)
    return Response(200, [*headers, (b"content-type", file.kind)], file.body)


def _text(status: int, text: bytes, headers: Headers | None = None) -> Response:
    return Response(status, [*(headers or []), (b"content-type", b"text/plain; charset=utf-8")], text + b"\n")


def _upgrade(headers: dict[bytes, bytes]) -> Response:
    """RFC 6455, section 4.2."""
    if headers.get(b"upgrade", b"").lower() != b"websocket":
        return _text(426, b"a WebSocket is spoken here", [(b"upgrade", b"websocket"), (b"connection", b"upgrade")])
    if headers.get(b"sec-websocket-version") != b"13":
        return _text(426, b"WebSocket version 13", [(b"sec-websocket-version", b"13")])
    key = headers.get(b"sec-websocket-key")
    if not key or b"upgrade" not in headers.get(b"connection", b"").lower():
        return _text(400, b"Sec-WebSocket-Key or Connection: Upgrade is missing")
    answer = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", generate_accept_token(key)),
    ]
    offered = [name.strip() for name in headers.get(b"sec-websocket-protocol", b"").split(b",")]
    if SUBPROTOCOL in offered:
        answer.append((b"sec-websocket-protocol", SUBPROTOCOL))
    return Response(101, answer)


def web_folder() -> Path:
    """The web client: inside an installed package, or beside the package in a checkout."""
    installed = Path(str(files("imserver"))) / "web"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "client" / "web"
