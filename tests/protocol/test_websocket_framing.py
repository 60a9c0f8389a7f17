"""WebSocket messages, in both roles; the other side is wsproto or `websockets`, never this project's own code."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from imserver.errors import FramingError
from imserver.protocol.framing import WebSocketFraming
from tests.protocol.chunks import CUTS, Heard, byte_by_byte, chunked, heard, whole

LIMIT = 70_000  # so that lengths of 7, 16 and 64 bits all occur
SIZES = [0, 1, 3, 4, 5, 125, 126, 127, 65535, 65536, LIMIT]
TEXT = st.text(max_size=40)
SERVER, CLIENT = ConnectionType.SERVER, ConnectionType.CLIENT
Write = Callable[[Opcode, bytes, bool], bytes]


def server(limit: int = LIMIT) -> WebSocketFraming:
    return WebSocketFraming(limit, SERVER)


def client(limit: int = LIMIT) -> WebSocketFraming:
    return WebSocketFraming(limit, CLIENT)


def to_server(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    """A frame as a client sends it, by `websockets`."""
    return Frame(opcode, data, fin).serialize(mask=True)


def to_client(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


ROLES = pytest.mark.parametrize(
    ("framing", "write"), [(server, to_server), (client, to_client)], ids=["server", "client"]
)


# -- streams: a stream is a list of (bytes, frames they complete)


def text(write: Write, payload: str) -> tuple[bytes, list[bytes]]:
    return write(Opcode.TEXT, payload.encode(), True), [payload.encode()]


def control(write: Write, opcode: Opcode, payload: bytes) -> tuple[bytes, list[bytes]]:
    return write(opcode, payload, True), []


def fragmented(write: Write, parts: list[bytes], between: list[bytes]) -> tuple[bytes, list[bytes]]:
    """One message in several fragments, cut at any byte, with pings between them."""
    sent = b""
    for index, part in enumerate(parts):
        sent += write(Opcode.CONT if index else Opcode.TEXT, part, index == len(parts) - 1)
        if index < len(between) and index < len(parts) - 1:
            sent += write(Opcode.PING, between[index], True)
    return sent, [b"".join(parts)]


PART_CUTS = st.lists(st.integers(0, 200), max_size=4)
SMALL = st.binary(max_size=5)


def streams(write: Write) -> st.SearchStrategy[list[tuple[bytes, list[bytes]]]]:
    pieces = st.one_of(
        st.builds(text, st.just(write), TEXT),
        st.builds(lambda size: text(write, "é" * (size // 2) + "x" * (size % 2)), st.sampled_from(SIZES)),
        st.builds(control, st.just(write), st.sampled_from([Opcode.PING, Opcode.PONG]), SMALL),
        st.builds(
            lambda payload, cuts, between: fragmented(write, list(chunked(payload.encode(), cuts)), between),
            TEXT,
            PART_CUTS,
            st.lists(SMALL, max_size=4),
        ),
    )
    return st.lists(pieces, max_size=5)


# What ends a stream: bytes, and how it must end.
BREAKS: dict[str, bytes] = {
    "nothing": b"",
    "close": to_server(Opcode.CLOSE, b"\x03\xe8bye") + to_server(Opcode.TEXT, b"after the close"),
    "binary": to_server(Opcode.BINARY, b"x"),
    "fragmented binary": to_server(Opcode.BINARY, b"x", False),
    "unmasked": to_client(Opcode.TEXT, b"x"),
    "unmasked of 16 bits": to_client(Opcode.TEXT, b"x" * 200),
    "unmasked of 64 bits": to_client(Opcode.TEXT, b"x" * 65536),
    "unmasked ping": to_client(Opcode.PING, b"x"),
    "too large": b"\x81\xff" + (LIMIT + 1).to_bytes(8, "big"),
    "far too large": b"\x81\xff" + (1 << 62).to_bytes(8, "big"),
    "too large in fragments": to_server(Opcode.TEXT, b"x" * LIMIT, False) + to_server(Opcode.CONT, b"x", False),
    "continues nothing": to_server(Opcode.CONT, b"x"),
    "message within a message": to_server(Opcode.TEXT, b"", False) + to_server(Opcode.TEXT, b"x"),
    "fragmented ping": b"\x09\x80abcd",
    "long ping": b"\x89\xfe\x00\x7eabcd" + b"x" * 126,
    "reserved bit": b"\xc1\x80abcd",
    "reserved opcode": b"\x83\x80abcd",
    "reserved control opcode": b"\x8b\x80abcd",
    "half UTF-8 in fragments": to_server(Opcode.TEXT, b"\xe2\x82", False) + to_server(Opcode.CONT, b"x"),
    "length not minimal": b"\x81\xfe\x00\x05abcd" + b"x" * 5,
    "close of one byte": to_server(Opcode.CLOSE, b"\x03"),
    "HTTP": b"GET / HTTP/1.1\r\nhost: example.org\r\naccept: */*\r\nuser-agent: lost/1.0 (on the wrong port)\r\n\r\n",
}
ENDS_WELL = ("nothing", "close")
# RFC 6455 has a sender use the shortest form of a length; one that does not harms nobody.
ACCEPTED_ANYWAY = ("length not minimal",)


@settings(max_examples=60)
@given(streams(to_server), st.sampled_from(sorted(BREAKS)), CUTS)
def test_split_anywhere_same_frames_same_violation(
    stream: list[tuple[bytes, list[bytes]]], name: str, cuts: list[int]
) -> None:
    data = b"".join(sent for sent, _ in stream) + BREAKS[name]
    expected = [frame for _, frames in stream for frame in frames]
    at_once = whole(server(), data)
    assert heard(server(), chunked(data, cuts)) == at_once
    if name not in ACCEPTED_ANYWAY:
        assert at_once.frames == expected
        assert bool(at_once.violation) == (name not in ENDS_WELL)


@settings(max_examples=40)
@given(streams(to_client), CUTS)
def test_a_client_cuts_the_same(stream: list[tuple[bytes, list[bytes]]], cuts: list[int]) -> None:
    data = b"".join(sent for sent, _ in stream)
    expected = [frame for _, frames in stream for frame in frames]
    outcome = heard(client(), chunked(data, cuts))
    assert (outcome.frames, outcome.violation) == (expected, "")


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_byte_by_byte_every_break_is_the_same(name: str) -> None:
    good = to_server(Opcode.TEXT, b"good")
    data = good + BREAKS[name]
    if len(data) < 1000:
        assert byte_by_byte(server(), data) == whole(server(), data)
    assert whole(server(), data).frames[0] == b"good"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("binary", "a binary message: frames are text messages"),
        ("fragmented binary", "a binary message: frames are text messages"),
        ("too large", f"a frame is larger than {LIMIT} bytes"),
        ("far too large", f"a frame is larger than {LIMIT} bytes"),
        ("too large in fragments", f"a frame is larger than {LIMIT} bytes"),
        ("unmasked", "not a WebSocket frame: "),
        ("HTTP", "not a WebSocket frame: "),
    ],
)
def test_says_what_is_wrong(name: str, why: str) -> None:
    assert whole(server(), BREAKS[name]).violation.startswith(why)


def test_an_oversized_message_is_refused_by_its_header_alone() -> None:
    with pytest.raises(FramingError) as caught:
        server(100).receive(to_server(Opcode.TEXT, b"before") + b"\x81\xfe\x00\x65")
    assert caught.value.frames == [b"before"]


def test_endless_fragments_are_refused_at_the_limit() -> None:
    framing = server(1000)
    framing.receive(to_server(Opcode.TEXT, b"x" * 500, False))
    framing.receive(to_server(Opcode.CONT, b"x" * 500, False))
    with pytest.raises(FramingError, match="larger than 1000 bytes"):
        framing.receive(to_server(Opcode.CONT, b"x", False))


def test_the_limit_counts_bytes_also_in_fragments() -> None:
    framing = server(1000)
    framing.receive(to_server(Opcode.TEXT, "é".encode() * 400, False))
    with pytest.raises(FramingError, match="larger than 1000 bytes"):
        framing.receive(to_server(Opcode.CONT, "é".encode() * 400))


def unmasked(it: Heard, kind: ConnectionType) -> Heard:
    """A client masks its replies at random: what matters is what a server hears."""
    if kind is SERVER:
        return it
    peer = Connection(SERVER)
    peer.receive_data(it.replies)
    return it._replace(replies=repr(list(peer.events())).encode())


@settings(max_examples=200)
@example(b"\x88\x00", [], CLIENT)  # a close, which a client answers
@example(b"\x00~\x00\x80", [], SERVER)  # not masked, and the length is not complete before the fourth byte
@given(st.binary(max_size=80), CUTS, st.sampled_from([SERVER, CLIENT]))
def test_any_bytes_give_frames_or_a_framing_error(data: bytes, cuts: list[int], kind: ConnectionType) -> None:
    at_once = unmasked(whole(WebSocketFraming(50, kind), data), kind)
    assert unmasked(heard(WebSocketFraming(50, kind), chunked(data, cuts)), kind) == at_once
    assert unmasked(byte_by_byte(WebSocketFraming(50, kind), data), kind) == at_once


@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.sampled_from(range(16)), min_size=6, max_size=6), CUTS)
def test_any_frames_give_frames_or_a_framing_error(payloads: list[bytes], opcodes: list[int], cuts: list[int]) -> None:
    """Well-formed headers get past the first checks more often than random bytes do."""
    data = b"".join(
        bytes((0x80 * (index % 3 > 0) | opcode, 0x80 | len(payload))) + b"\0\0\0\0" + payload
        for index, (payload, opcode) in enumerate(zip(payloads, opcodes, strict=False))
    )
    assert heard(server(50), chunked(data, cuts)) == whole(server(50), data)


# -- against wsproto


@given(st.lists(TEXT, max_size=5), CUTS)
def test_hears_wsproto_as_a_client(texts: list[str], cuts: list[int]) -> None:
    peer = Connection(CLIENT)
    data = b"".join(peer.send(TextMessage(said)) for said in texts)
    assert heard(server(), chunked(data, cuts)).frames == [said.encode() for said in texts]


def test_hears_wsproto_fragments_with_control_frames_between() -> None:
    peer = Connection(CLIENT)
    data = b"".join(
        (
            peer.send(TextMessage("one ", message_finished=False)),
            peer.send(Ping(b"p")),
            peer.send(TextMessage("mess", message_finished=False)),
            peer.send(Pong()),
            peer.send(TextMessage("age")),
        )
    )
    assert byte_by_byte(server(), data).frames == [b"one message"]


def events_of(peer: Connection, data: bytes) -> list[object]:
    peer.receive_data(data)
    return list(peer.events())


@pytest.mark.parametrize("size", SIZES)
def test_wsproto_hears_what_is_said(size: int) -> None:
    payload = "x" * size
    for framing, peer in ((server(), Connection(CLIENT)), (client(), Connection(SERVER))):
        said = framing.encode(payload.encode())
        heard_text = "".join(event.data for event in events_of(peer, said) if isinstance(event, TextMessage))
        assert heard_text == payload


@ROLES
def test_pings_are_answered(framing: Callable[[], WebSocketFraming], write: Write) -> None:
    ours = framing()
    peer = Connection(CLIENT if framing is server else SERVER)
    assert ours.receive(peer.send(Ping(b"one")) + peer.send(Ping(b"two"))) == []
    assert ours.has_replies
    assert events_of(peer, ours.take_replies()) == [Pong(b"one"), Pong(b"two")]
    assert not ours.has_replies


@ROLES
def test_the_keepalive_is_a_ping(framing: Callable[[], WebSocketFraming], write: Write) -> None:
    peer = Connection(CLIENT if framing is server else SERVER)
    keepalive = framing().encode_keepalive()
    assert keepalive is not None
    assert events_of(peer, keepalive) == [Ping(b"")]


@ROLES
def test_a_close_is_answered_and_ends_it(framing: Callable[[], WebSocketFraming], write: Write) -> None:
    ours, peer = framing(), Connection(CLIENT if framing is server else SERVER)
    frames = ours.receive(write(Opcode.TEXT, b"last", True) + peer.send(CloseConnection(1000, "bye")))
    assert (frames, ours.closed) == ([b"last"], True)
    assert [type(event) for event in events_of(peer, ours.take_replies())] == [CloseConnection]
    assert ours.receive(write(Opcode.TEXT, b"too late", True)) == []
    assert ours.encode_close() == b""


@ROLES
def test_an_own_close_is_answered_by_the_peer(framing: Callable[[], WebSocketFraming], write: Write) -> None:
    ours, peer = framing(), Connection(CLIENT if framing is server else SERVER)
    (event,) = events_of(peer, ours.encode_close())
    assert isinstance(event, CloseConnection)
    assert ours.closed
    assert ours.receive(peer.send(event.response())) == []
    assert not ours.has_replies


def test_a_peer_that_says_binary_is_refused_by_a_client_too() -> None:
    with pytest.raises(FramingError, match="binary"):
        client().receive(Connection(SERVER).send(BytesMessage(b"x")))
