"""Lines: one frame a line, however the bytes arrive."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imserver.errors import FramingError
from imserver.protocol.framing import LineFraming
from tests.protocol.chunks import CUTS, Heard, byte_by_byte, chunked, heard, whole

LIMIT = 16
TOO_LARGE = f"a frame is larger than {LIMIT} bytes"


def plainly(data: bytes) -> Heard:
    """What a stream means, said as simply as possible."""
    *lines, rest = data.split(b"\n")
    frames: list[bytes] = []
    for line in lines:
        frame = line.removesuffix(b"\r")
        if len(frame) > LIMIT:
            return Heard(frames, TOO_LARGE)
        if frame:
            frames.append(frame)
    return Heard(frames, TOO_LARGE if len(rest) > LIMIT + 1 else "")


LINES = st.lists(
    st.one_of(
        st.binary(max_size=LIMIT + 3),
        st.sampled_from([b"", b"\r", b"\r\r", b"x" * LIMIT, b"x" * LIMIT + b"\r", b"x" * (LIMIT + 1)]),
    ),
    max_size=8,
)


@given(lines=LINES, ends=st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=8, max_size=8), cuts=CUTS)
def test_split_anywhere_same_frames_same_violation(lines: list[bytes], ends: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    for data in (stream, stream.removesuffix(b"\n")):
        assert heard(LineFraming(LIMIT), chunked(data, cuts)) == plainly(data)


@given(st.binary(max_size=64), CUTS)
def test_any_bytes_give_frames_or_a_framing_error(data: bytes, cuts: list[int]) -> None:
    assert heard(LineFraming(LIMIT), chunked(data, cuts)) == plainly(data)
    assert byte_by_byte(LineFraming(LIMIT), data) == plainly(data)


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b'{"op":"ping"}\n', [b'{"op":"ping"}']),
        (b"a\r\nb\n", [b"a", b"b"]),
        (b"\n\r\n\n", []),
        (b"", []),
        (b"not finished", []),
        (b"a\rb\n", [b"a\rb"]),
        (b"x" * LIMIT + b"\n", [b"x" * LIMIT]),
        (b"x" * LIMIT + b"\r\n", [b"x" * LIMIT]),
    ],
)
def test_lines(data: bytes, frames: list[bytes]) -> None:
    assert whole(LineFraming(LIMIT), data) == Heard(frames, "")


def test_what_was_complete_before_an_oversized_line_counts() -> None:
    with pytest.raises(FramingError, match=TOO_LARGE) as caught:
        LineFraming(LIMIT).receive(b"one\ntwo\n" + b"x" * 100)
    assert caught.value.frames == [b"one", b"two"]


def test_a_gigabyte_without_a_newline_is_refused_at_the_limit() -> None:
    framing, fed = LineFraming(1000), 0
    with pytest.raises(FramingError):
        while fed < 1 << 30:
            framing.receive(b"x" * 100)
            fed += 100
    assert fed == 1000


@settings(max_examples=20)
@given(
    st.binary(max_size=LIMIT).filter(lambda frame: b"\n" not in frame and not frame.endswith(b"\r") and frame != b"")
)
def test_a_client_hears_what_a_server_says_and_the_reverse(frame: bytes) -> None:
    one, other = LineFraming(LIMIT), LineFraming(LIMIT)
    assert other.receive(one.encode(frame) + one.encode(frame)) == [frame, frame]


def test_the_transport_itself_says_nothing() -> None:
    framing = LineFraming(LIMIT)
    assert (framing.encode_close(), framing.encode_keepalive(), framing.take_replies()) == (b"", None, b"")
    assert not framing.closed
    assert not framing.has_replies
