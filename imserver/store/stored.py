"""Messages as a log keeps them: the native push without `at` and `prev`, which belong to the place in a log."""

import msgspec

from imserver.model import DeviceId, UserId

_encode = msgspec.json.encode


class Sender:
    """What all messages of one device have in common, encoded once for all of them."""

    __slots__ = ("_dedupe", "_head")

    def __init__(self, user: UserId, device: DeviceId) -> None:
        self._head = f'{{"ev":"msg","from":"{user}","device":"{device}","to":"'.encode()
        self._dedupe = f"{user}/{device}/".encode()

    def content(self, to: str, message_id: str, body: msgspec.Raw) -> bytes:
        """A message as the log keeps it. `body` stands last: the store's functions read only what is before it."""
        return b'%b%b","id":%b,"body":%b}' % (self._head, to.encode(), _encode(message_id), body)

    def dedupe(self, message_id: str) -> bytes:
        """What makes two sends the same: sender, device and client message id."""
        return self._dedupe + message_id.encode()


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
