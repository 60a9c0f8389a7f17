"""The PROXY protocol's header, versions 1 and 2: a load balancer says first whose connection it passes on. Pure.

What it says is specified in HAProxy's doc/proxy-protocol.txt; the sections named here are that document's.
"""

from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

from imserver.errors import FramingError

MOST_HEADER_BYTES: Final = 2048  # additional fields (of which nothing here is read) are dozens of bytes

_V1: Final = b"PROXY "
_V1_MOST_BYTES: Final = 107  # section 2.1: the longest line there is
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_BYTES: Final = 16
_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the command
_V2_FAMILIES: Final[dict[int, tuple[type[IPv4Address] | type[IPv6Address] | None, int]]] = {
    0: (None, 0),  # unspecified
    1: (IPv4Address, 4),
    2: (IPv6Address, 16),
    3: (None, 0),  # Unix sockets
}


class ProxyHeader(NamedTuple):
    size: int  # bytes: what follows is the client's
    is_relayed: bool  # False: the load balancer speaks for itself, to see whether anybody is here
    source: str  # the client's address; empty if the load balancer does not know it


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None while more is needed. Raises FramingError where there is none."""
    if _V2.startswith(data[: len(_V2)]):
        return _parse_v2(data)
    if _V1.startswith(data[: len(_V1)]):
        return _parse_v1(data)
    raise FramingError("no PROXY protocol header")


def _parse_v2(data: bytes) -> ProxyHeader | None:
    """Section 2.2."""
    if len(data) < _V2_FIXED_BYTES:
        return None
    command, family, size = data[12], data[13] >> 4, _V2_FIXED_BYTES + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise FramingError(f"PROXY protocol: version and command are {command:#04x}; allowed is 0x20, 0x21")
    if size > MOST_HEADER_BYTES:
        raise FramingError(f"PROXY protocol: a header of {size} bytes; allowed is {MOST_HEADER_BYTES}")
    if len(data) < size:
        return None
    if command == _LOCAL:
        return ProxyHeader(size, False, "")
    if family not in _V2_FAMILIES:
        raise FramingError(f"PROXY protocol: address family {family}; allowed is 0 to 3")
    kind, width = _V2_FAMILIES[family]
    if kind is None:
        return ProxyHeader(size, True, "")
    if size < _V2_FIXED_BYTES + 2 * (width + 2):
        raise FramingError("PROXY protocol: too short for its addresses")
    return ProxyHeader(size, True, _text(kind(data[_V2_FIXED_BYTES : _V2_FIXED_BYTES + width])))


def _parse_v1(data: bytes) -> ProxyHeader | None:
    """Section 2.1: `PROXY TCP4 198.51.100.7 203.0.113.1 56324 7400`, a line."""
    end = data.find(b"\r\n", 0, _V1_MOST_BYTES)
    if end < 0:
        if len(data) >= _V1_MOST_BYTES:
            raise FramingError(f"PROXY protocol: a line without end; allowed are {_V1_MOST_BYTES} bytes")
        return None
    match data[:end].decode("latin-1").split(" "):
        case ["PROXY", "TCP4", source, _, _, _]:
            return ProxyHeader(end + 2, True, _checked(IPv4Address, source))
        case ["PROXY", "TCP6", source, _, _, _]:
            return ProxyHeader(end + 2, True, _checked(IPv6Address, source))
        case ["PROXY", "UNKNOWN", *_]:
            return ProxyHeader(end + 2, True, "")
    raise FramingError("PROXY protocol: the line is not `PROXY TCP4|TCP6|UNKNOWN source destination port port`")


def _checked(kind: type[IPv4Address] | type[IPv6Address], text: str) -> str:
    try:
        return _text(kind(text))
    except AddressValueError as error:
        raise FramingError(f"PROXY protocol: the source is no address: {error}") from None


def _text(address: IPv4Address | IPv6Address) -> str:
    """A client that came over IPv4 has one address, whatever the load balancer listens on."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
