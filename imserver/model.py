"""The words of the domain as types. Imported by everybody, imports nobody.

A *position* names an entry of one log: `<milliseconds>-<counter>`, the id that the store gave it. Positions of one log
are ordered; positions of different logs have nothing to do with each other.
"""

import re
from functools import lru_cache
from typing import NewType

import msgspec

from imserver.errors import BadRequest

UserId = NewType("UserId", str)
GroupId = NewType("GroupId", str)
DeviceId = NewType("DeviceId", str)
Address = UserId | GroupId

Position = NewType("Position", bytes)
START = Position(b"0-0")  # before the first entry of every log

Place = NewType("Place", bytes)  # where the directory says that a session is: <device>=<node>.<number>

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DEVICE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MESSAGE_ID = re.compile(r"[ -~]{1,64}").fullmatch
_POSITION = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")
MAX_NAME = 64


class Entry(msgspec.Struct, gc=False):
    """One entry of a log: where it stands, what stands before it, and its content as the store keeps it.

    `encoded`, `line` and `message` belong to codec and framings: a fan-out encodes an entry once, frames it once for
    each transport, and shares the bytes.
    """

    at: Position
    prev: Position
    content: bytes
    encoded: bytes | None = None
    line: bytes | None = None
    message: bytes | None = None


def before(position: Position) -> Position:
    """The last position that can come before this one."""
    milliseconds, counter = position_order(position)
    return Position(b"%d-%d" % ((milliseconds, counter - 1) if counter else (milliseconds - 1, 2**64 - 1)))


def position_order(position: bytes) -> tuple[int, int]:
    """The sort key of a position."""
    milliseconds, _, counter = position.partition(b"-")
    return int(milliseconds), int(counter)


def parse_user(text: str, field: str = "user") -> UserId:
    """The user that `text` names, lower-cased; raises BadRequest that names `field`."""
    name = text.lower()
    if _NAME.fullmatch(name) is None:
        raise BadRequest(
            f"{field}: {_shown(text)} is not a user name: 1 to 64 of a-z 0-9 . _ -, a letter or digit first"
        )
    return UserId(name)


@lru_cache(maxsize=65536)  # asked for with every message
def parse_address(text: str, field: str = "to") -> Address:
    """The user or `#group` that `text` names; raises BadRequest that names `field`."""
    if not text.startswith("#"):
        return parse_user(text, field)
    name = text[1:].lower()
    if _NAME.fullmatch(name) is None:
        raise BadRequest(f"{field}: {_shown(text)} is not a group: # and 1 to 64 of a-z 0-9 . _ -")
    return GroupId("#" + name)


def parse_group(text: str, field: str = "group") -> GroupId:
    """The `#group` that `text` names, lower-cased; raises BadRequest that names `field`."""
    name = parse_address(text, field) if text.startswith("#") else None
    if name is None:
        raise BadRequest(f"{field}: {_shown(text)} is not a group: # and 1 to 64 of a-z 0-9 . _ -")
    return GroupId(name)


def is_group(address: str) -> bool:
    """Whether an address, or the owner of a log, is a group."""
    return address[0] == "#"


def parse_device(text: str, field: str = "device") -> DeviceId:
    """The device that `text` names; raises BadRequest that names `field`."""
    if _DEVICE.fullmatch(text) is None:
        raise BadRequest(f"{field}: {_shown(text)} is not a device name: 1 to 64 of A-Z a-z 0-9 . _ -")
    return DeviceId(text)


def parse_position(text: str, field: str) -> Position:
    """The position that `text` names; raises BadRequest that names `field`."""
    if _POSITION.fullmatch(text) is None:
        raise BadRequest(f"{field}: {_shown(text)} is not a position; give one that the server sent")
    return Position(text.encode())


def parse_message_id(text: str, field: str = "id") -> str:
    """A client's message id, unchanged; raises BadRequest that names `field`."""
    if _MESSAGE_ID(text) is None:
        raise BadRequest(f"{field}: {_shown(text)} is not a message id: 1 to 64 printable ASCII characters")
    return text


def _shown(text: str) -> str:
    return ascii(text if len(text) <= MAX_NAME else text[:MAX_NAME] + "...")
