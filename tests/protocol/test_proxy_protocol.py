"""The header of the PROXY protocol: what is in it, wherever it is cut, whatever comes instead."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imserver.errors import FramingError
from imserver.protocol.proxy_protocol import MOST_HEADER_BYTES, ProxyHeader, parse_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PORTS = (56324).to_bytes(2, "big") + (7400).to_bytes(2, "big")
HERE = {4: IPv4Address("192.0.2.1").packed, 16: IPv6Address("2001:db8::1").packed}


def v2(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def relayed(source: IPv4Address | IPv6Address, more: bytes = b"") -> bytes:
    """As HAProxy's `send-proxy-v2` sends it; `more`: additional fields."""
    return v2(0x21, 0x11 if source.version == 4 else 0x21, source.packed + HERE[len(source.packed)] + PORTS + more)


def line(source: IPv4Address | IPv6Address) -> bytes:
    kind, here = ("TCP4", "192.0.2.1") if source.version == 4 else ("TCP6", "2001:db8::1")
    return f"PROXY {kind} {source} {here} 56324 7400\r\n".encode()


ADDRESSES = st.ip_addresses()
HEADERS = st.one_of(
    st.builds(relayed, ADDRESSES, st.binary(max_size=300)),
    st.builds(line, ADDRESSES),
    st.builds(v2, st.just(0x20), st.just(0), st.binary(max_size=300)),
    st.just(b"PROXY UNKNOWN\r\n"),
)


@given(ADDRESSES, st.binary(max_size=40))
def test_the_source_is_the_clients_address(source: IPv4Address | IPv6Address, behind: bytes) -> None:
    mapped = source.ipv4_mapped if isinstance(source, IPv6Address) else None
    for header in (relayed(source), relayed(source, b"\x04\x00\x01x"), line(source)):
        assert parse_proxy_header(header + behind) == ProxyHeader(len(header), True, str(mapped or source))


@given(HEADERS, st.binary(max_size=40))
def test_cut_anywhere_it_waits_for_the_rest(header: bytes, behind: bytes) -> None:
    found = parse_proxy_header(header + behind)
    assert found is not None
    assert found.size == len(header)
    assert found == parse_proxy_header(header)
    assert {parse_proxy_header(header[:size]) for size in range(len(header))} == {None}


def outcome(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse_proxy_header(data)
    except FramingError as error:
        return str(error)


@given(
    st.one_of(
        st.binary(max_size=400),
        st.binary(max_size=400).map(lambda rest: SIGNATURE + rest),
        st.binary(max_size=400).map(lambda rest: b"PROXY " + rest),
        st.text("PROXY TCP46UNKNOWN0123456789.: \r\n", max_size=120).map(lambda text: b"PROXY TCP4 " + text.encode()),
    )
)
@example(b"")
@example(b"PROXY " + b"x" * 200)
def test_any_bytes_give_a_header_or_an_error_or_a_wish_for_more(data: bytes) -> None:
    settled = [outcome(data[:size]) for size in range(len(data) + 1)]
    decided = [it for it in settled if it is not None]
    assert len(set(decided)) <= 1, "more bytes never change what is decided"
    assert settled[: len(settled) - len(decided)] == [None] * (len(settled) - len(decided))
    if len(data) >= MOST_HEADER_BYTES:
        assert decided


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (v2(0x20, 0x00, b""), ProxyHeader(16, False, "")),
        (v2(0x20, 0x11, b"x" * 12), ProxyHeader(28, False, "")),
        (v2(0x21, 0x00, b""), ProxyHeader(16, True, "")),
        (v2(0x21, 0x31, b"x" * 216), ProxyHeader(232, True, "")),
        (relayed(IPv6Address("::ffff:203.0.113.9")), ProxyHeader(52, True, "203.0.113.9")),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", ProxyHeader(59, True, "")),
    ],
)
def test_headers(header: bytes, expected: ProxyHeader) -> None:
    assert parse_proxy_header(header) == expected


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"op":"login"', "no PROXY protocol header"),
        (b"GET / HTTP/1.1\r\n\r\n", "no PROXY protocol header"),
        (b"\x16\x03\x01\x02\x00", "no PROXY protocol header"),
        (b"PROXIES", "no PROXY protocol header"),
        (v2(0x11, 0x11, b"x" * 12), "version and command are 0x11; allowed is 0x20, 0x21"),
        (v2(0x22, 0x11, b"x" * 12), "version and command are 0x22; allowed is 0x20, 0x21"),
        (v2(0x21, 0x41, b"x" * 12), "address family 4; allowed is 0 to 3"),
        (v2(0x21, 0x11, b"x" * 11), "too short for its addresses"),
        (v2(0x21, 0x21, b"x" * 35), "too short for its addresses"),
        (v2(0x21, 0x11, b"x" * 2033)[:16], "a header of 2049 bytes; allowed is 2048"),
        (b"PROXY TCP4 300.0.0.1 192.0.2.1 1 2\r\n", "the source is no address"),
        (b"PROXY TCP6 192.0.2.1 192.0.2.1 1 2\r\n", "the source is no address"),
        (b"PROXY TCP4 192.0.2.1\r\n", "the line is not"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.1 1 2\r\n", "the line is not"),
        (b"PROXY " + b"x" * 101, "a line without end; allowed are 107 bytes"),
    ],
)
def test_what_is_no_header(data: bytes, error: str) -> None:
    with pytest.raises(FramingError, match=error):
        parse_proxy_header(data)
