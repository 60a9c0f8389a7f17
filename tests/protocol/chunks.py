"""Feeding a framing in chunks, and what came of it."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from hypothesis import strategies as st

from imserver.errors import FramingError
from imserver.protocol.framing import Framing


class Heard(NamedTuple):
    """What a framing made of a stream: independent of how the stream was cut, or the framing is wrong."""

    frames: list[bytes]
    violation: str  # empty: none
    replies: bytes = b""
    closed: bool = False


def chunked(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """`data` cut at `cuts`; the same cut twice gives an empty chunk."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


def heard(framing: Framing, chunks: Iterator[bytes]) -> Heard:
    """Feeds all chunks, or those up to the first violation."""
    frames: list[bytes] = []
    violation, replies = "", b""
    for chunk in chunks:
        try:
            frames += framing.receive(chunk)
        except FramingError as error:
            frames += error.frames
            violation = str(error)
        replies += framing.take_replies()
        if violation:
            break
    return Heard(frames, violation, replies, framing.closed)


def whole(framing: Framing, data: bytes) -> Heard:
    return heard(framing, iter([data]))


def byte_by_byte(framing: Framing, data: bytes) -> Heard:
    return heard(framing, (data[index : index + 1] for index in range(len(data))))


CUTS = st.lists(st.integers(0, 1 << 20), max_size=12)
