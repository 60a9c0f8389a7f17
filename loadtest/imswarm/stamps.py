"""What the messages of a conversation carry, in digits of fixed width.

A message's id is its stamp: pair, direction, number and time of sending; its body begins with
the same stamp. So a prepared frame is completed by one format operation, and a delivery is
checked by looking at fixed places.
"""

from __future__ import annotations

from collections.abc import Callable

STAMP_BYTES = 36
PREFIX_BYTES = 7
NUMBER_AT, TIME_AT = PREFIX_BYTES, 17
FIRST_REF = 1_000_000_000
"""Message 0 is sent with this `ref`: ten digits, like all that follow."""


def flow_prefix(pair: int, direction: int) -> bytes:
    """The first digits of every stamp of one direction of one pair."""
    return b"%06d%d" % (pair, direction)


def send_template(prefix: bytes, to: str, body_bytes: int, frame: Callable[[bytes], bytes]) -> bytes:
    """A framed `send` request, to be completed with `% (ref, number, ns, number, ns)`.

    Every completion has the same length, so that the framing, which may state it, is prepared too.
    """
    stamp = prefix + b"%010d%019d"
    padding = b"." * (body_bytes - STAMP_BYTES)
    request = b'{"op":"send","ref":%%d,"id":"%b","to":"%b","body":"%b%b"}'
    return framed_template(request % (stamp, to.encode(), stamp, padding), frame)


def framed_template(template: bytes, frame: Callable[[bytes], bytes]) -> bytes:
    """The same of any request that is completed so."""
    sample = template % (FIRST_REF, 0, 0, 0, 0)
    head, tail = frame(sample).split(sample)
    return head.replace(b"%", b"%%") + template + tail
