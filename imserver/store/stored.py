"""Messages as a log keeps them: the native push without `at` and `prev`, which belong to the place in a log."""

import msgspec

from imserver.model import Message

_encode = msgspec.json.encode


def encode_message(message: Message) -> bytes:
    """`body` stands last: the store's functions read only what is before it."""
    return b'{"ev":"msg","from":"%b","device":"%b","to":"%b","id":%b,"body":%b}' % (
        message.sender.encode(),
        message.device.encode(),
        message.to.encode(),
        _encode(message.id),
        bytes(message.body),
    )


def dedupe_field(message: Message) -> bytes:
    """What makes two sends the same: sender, device and client message id."""
    return f"{message.sender}/{message.device}/{message.id}".encode()


class _Head(msgspec.Struct):
    ev: str
    sender: str | None = msgspec.field(name="from", default=None)
    device: str | None = None
    to: str | None = None
    id: str | None = None


_heads = msgspec.json.Decoder(_Head)


def head_of(content: bytes) -> _Head:
    """Who said it to whom, without the body."""
    return _heads.decode(content)
