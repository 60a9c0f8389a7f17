"""Where the server is and who comes: `tcp://alice@chat.example.org:7400`.

alice@host            tcp, port 7400
tcp://  tls://        lines; port 7400
ws://   wss://        WebSocket; port 7480 (ws) or 443 (wss), path /ws
"""

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from imserver.errors import BadRequest
from imserver.model import UserId, parse_user


class Scheme(NamedTuple):
    default_port: int
    is_encrypted: bool
    is_websocket: bool


SCHEMES = {
    "tcp": Scheme(7400, is_encrypted=False, is_websocket=False),
    "tls": Scheme(7400, is_encrypted=True, is_websocket=False),
    "ws": Scheme(7480, is_encrypted=False, is_websocket=True),
    "wss": Scheme(443, is_encrypted=True, is_websocket=True),
}


class Address(NamedTuple):
    scheme: str
    user: UserId
    host: str
    port: int
    path: str  # of the WebSocket; empty for lines

    def __str__(self) -> str:
        return f"{self.scheme}://{self.user}@{self.place}{self.path}"

    @property
    def place(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def kind(self) -> Scheme:
        return SCHEMES[self.scheme]


def parse_url(url: str) -> Address:
    """Raises BadRequest that names what is wrong with `url`."""
    parts = _split(url if "://" in url else f"tcp://{url}")
    kind = SCHEMES.get(parts.scheme)
    if kind is None:
        raise BadRequest(f"url: {parts.scheme!r} is not a scheme; allowed are {', '.join(SCHEMES)}")
    if parts.password is not None:
        raise BadRequest("url: a password does not belong there, since others can see it; leave it out")
    if not parts.username:
        raise BadRequest(f"url: it must say who you are: {parts.scheme}://USER@HOST")
    if not parts.hostname:
        raise BadRequest(f"url: it must name a host: {parts.scheme}://{parts.username}@HOST")
    path = _path_of(parts.path, kind)
    return Address(parts.scheme, parse_user(parts.username), parts.hostname, _port_of(parts, kind), path)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise BadRequest(f"url: {url!r} is not a URL: {error}") from None


def _path_of(path: str, kind: Scheme) -> str:
    if kind.is_websocket:
        return path if path not in ("", "/") else "/ws"
    if path not in ("", "/"):
        raise BadRequest(f"url: {path!r} is a path, and only ws and wss have one")
    return ""


def _port_of(parts: SplitResult, kind: Scheme) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise BadRequest(f"url: the port in {parts.netloc!r} is not a number from 1 to 65535")
    return port or kind.default_port
