"""The index of names as commands, and its replies as types. Pure, as `calls` is."""

from typing import Any, NamedTuple

from imserver.model import UserId
from imserver.store.calls import Packed, call, pack
from imserver.store.partitions import partition_of, tags

_HEAD = 2  # letters


class NamesKey(NamedTuple):
    """The names that begin alike. `owner`: whose shard they are on."""

    owner: str
    key: bytes


def names_key(beginning: str) -> NamesKey:
    """Where a name stands, or those that begin so."""
    owner = beginning[:_HEAD]
    return NamesKey(owner, b"{%b}i:%b" % (tags()[partition_of(owner)], owner.encode()))


def index_name(name: str) -> Packed:
    return call(b"im_index_name_2", (names_key(name).key,), name)


def unindex_name(name: str) -> Packed:
    return call(b"im_unindex_name_2", (names_key(name).key,), name)


def names_from(beginning: str, most: int) -> Packed:
    start = beginning.encode()
    return pack(b"ZRANGEBYLEX", names_key(beginning).key, b"[" + start, b"(" + start + b"\xff", b"LIMIT", 0, most)


def names(reply: list[Any]) -> list[UserId]:
    return [UserId(name.decode()) for name in reply]
