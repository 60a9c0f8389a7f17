"""Where things are: addresses to listen on, the URL of the store, directories. Text in, checked values out.

Every parser here raises ValueError and nothing else; `imserver.config` says which setting it was and what is allowed.
"""

import os
import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta

_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^]]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_PASSWORD = re.compile(r"(//[^/@:]*:)\S*@|([?&]password=)[^&\s]*")


class HostPort(NamedTuple):
    """An address to listen on. Port 0 lets the system choose a free one."""

    host: str
    port: Annotated[int, Meta(ge=0, le=65_535)]

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(text: str) -> HostPort:
    """The address that `HOST:PORT` or `[IPv6]:PORT` names; raises ValueError."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError(f"not an address: {text!r}")
    host = str(IPv6Address(match["v6"])) if match["v6"] else _checked_host(match["host"])
    return HostPort(host, int(match["port"]))


def _checked_host(text: str) -> str:
    """A name or an IPv4 address. What looks like an address must be one: no name service knows `10.0.0.300`."""
    return str(IPv4Address(text)) if re.fullmatch(r"[0-9.]+", text) else text


def parse_network(text: str) -> str:
    """A network, or an address for itself alone, as it is usually written; raises ValueError."""
    return str(ip_network(text))


def parse_redis_url(text: str) -> str:
    """The URL of a store, those of several nodes of a cluster, or empty for the embedded one; raises ValueError."""
    if text and not all(map(_is_redis_url, text.split(","))):
        raise ValueError(f"not the URL of a store: {hide_password(text)!r}")
    return text


def _is_redis_url(text: str) -> bool:
    """Raises ValueError where a part of it is no number."""
    url = urlsplit(text)
    if url.scheme == "unix":
        return url.path.startswith("/") and not url.netloc
    good = url.scheme in {"redis", "rediss"} and bool(url.hostname) and url.port != 0
    return good and re.fullmatch(r"/?[0-9]*", url.path) is not None


def hide_password(text: str) -> str:
    """`text`, with the password of any URL in it replaced: fit for logs and messages."""
    return _PASSWORD.sub(lambda match: f"{match[1]}***@" if match[1] else f"{match[2]}***", text)


def parse_directory(text: str) -> str:
    """The absolute path of a directory, which need not exist; raises ValueError."""
    if not text or "\0" in text:
        raise ValueError(f"not a directory: {text!r}")
    return os.path.abspath(os.path.expanduser(text))
