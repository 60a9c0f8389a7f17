"""The functions for contacts and presence as commands, and their replies as types. Pure, as `calls` is."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from imserver.errors import Blocked, ImError, NotAllowed, NotFound
from imserver.model import Place, UserId
from imserver.store.calls import Packed, pack
from imserver.store.partitions import Hosting, UserKeys

_encode = msgspec.json.encode
_GONE = (b"0", b"0", b"0")
_LARGEST = 10_000  # fields of a roster looked at in one call: 1 ms of the store


class Record(msgspec.Struct, frozen=True):
    """One end of a relation. `stamp`: of what was done to it last (milliseconds); `is_known`: was wanted before."""

    wants: bool = False
    wanted: bool = False
    blocks: bool = False
    blocked: bool = False
    stamp: int = 0
    is_known: bool = False
    note: str | None = None
    name: str | None = None
    groups: tuple[str, ...] = ()

    @property
    def shares_presence(self) -> bool:
        return self.wants and self.wanted and not (self.blocks or self.blocked)


class _Description(msgspec.Struct, omit_defaults=True):
    name: str | None = None
    groups: tuple[str, ...] = ()


_notes, _descriptions = msgspec.json.Decoder(str), msgspec.json.Decoder(_Description)


def record(text: bytes | None) -> Record:
    """What contacts.lua keeps."""
    if text is None:
        return Record()
    head, note, description = text.split(b"\n")
    switches, *stamps = head.split(b" ")
    wants, wanted, blocks, blocked, is_known = (switch == 49 for switch in switches)
    described = _descriptions.decode(b"{%b}" % description)
    return Record(
        wants,
        wanted,
        blocks,
        blocked,
        max(map(int, stamps)),
        is_known,
        _notes.decode(note) if note else None,
        described.name,
        described.groups,
    )


class Standing(NamedTuple):
    """How a user stands to another one.

    `asked`: requests in `hour` (hours since 1970); `listed`: contacts and blocked users.
    """

    record: Record
    hour: int
    asked: int
    listed: int


def standing(keys: UserKeys, other: str) -> Packed:
    return pack(b"HMGET", keys.roster, other, b"=asks", b"=count")


def standing_known(reply: list[Any]) -> Standing:
    hour, count = (reply[1] or b"0 0").split(b" ")
    return Standing(record(reply[0]), int(hour), int(count), int(reply[2] or 0))


def _call(function: bytes, keys: tuple[bytes, ...], *arguments: bytes | str | int) -> Packed:
    return pack(b"FCALL", function, len(keys), *keys, *arguments)


def _roster_keys(keys: UserKeys) -> tuple[bytes, ...]:
    return keys.state, keys.log, keys.roster, keys.versions


def relate(keys: UserKeys, other: str, switches: str, stamp: int, note: str = "", most: int = 0) -> Packed:
    """`switches`: four of `0`, `1`, `-`."""
    encoded = _encode(note) if note else b""
    return _call(b"im_relate_2", _roster_keys(keys), other, switches, stamp, encoded, most)


def related(reply: list[Any]) -> ImError | None:
    """The errors are NotFound, Blocked and NotAllowed (too many contacts)."""
    match reply[0]:
        case b"ok":
            return None
        case b"blocked":
            return Blocked("user: takes nothing from you")
        case b"full":
            return NotAllowed("user: has as many contacts as there may be")
        case _:
            return NotFound("user: there is no such user")


def describe(keys: UserKeys, other: str, name: str | None, groups: Sequence[str], now_ms: int) -> Packed:
    description = _encode(_Description(name, tuple(groups)))[1:-1]
    return _call(b"im_describe_2", _roster_keys(keys), other, description, now_ms)


def described(reply: list[Any]) -> ImError | None:
    """The error is NotFound."""
    return None if reply[0] == b"ok" else NotFound("user: is no contact")


class RosterPage(NamedTuple):
    """Records in the order of their versions; `reached`: that of the last one."""

    version: int
    is_all: bool  # all that there is, not what has changed
    reached: int
    records: list[tuple[UserId, Record]]


def roster(keys: UserKeys, since: int, behind: int, most: int) -> Packed:
    return _call(b"im_roster_2", (keys.roster, keys.versions), since, behind, most)


def roster_page(reply: list[Any]) -> RosterPage:
    records = [(UserId(other.decode()), record(text)) for other, text in zip(reply[3::2], reply[4::2], strict=True)]
    return RosterPage(int(reply[0]), bool(reply[1]), int(reply[2]), records)


def whole_roster(keys: UserKeys) -> Packed:
    return pack(b"HGETALL", keys.roster)


def roster_from(keys: UserKeys, beginning: str) -> Packed:
    """Of a roster, the records of those whose names begin so: at most a page, which holds the largest there can be."""
    return pack(b"HSCAN", keys.roster, 0, b"MATCH", beginning.encode() + b"*", b"COUNT", _LARGEST)


def audience_of_page(reply: list[Any]) -> list[UserId]:
    return audience(reply[1])


def audience(reply: list[bytes] | dict[bytes, bytes]) -> list[UserId]:
    """The contacts that share presence with the owner, of a whole roster."""
    return [UserId(other.decode()) for other, text in _records(reply) if text.startswith(b"11001 ")]


def blocked(reply: list[bytes] | dict[bytes, bytes]) -> list[str]:
    return sorted(other.decode() for other, text in _records(reply) if text[2:3] == b"1")


def related_users(reply: list[bytes] | dict[bytes, bytes]) -> list[UserId]:
    """All whose rosters may name the owner of this whole roster."""
    return [UserId(other.decode()) for other, _ in _records(reply)]


def _records(reply: list[bytes] | dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The other fields are named `=...`."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return [(other, text) for other, text in pairs if other[0] != 61]


class Privacy(NamedTuple):
    write: str
    seen: str


def privacy(keys: UserKeys, write: str | None, seen: str | None) -> Packed:
    return _call(b"im_privacy_2", (keys.state, keys.roster), write or b"-", seen or b"-")


def privacy_known(reply: list[bytes]) -> Privacy:
    return Privacy(reply[0].decode(), reply[1].decode())


# -- presence


class Told(NamedTuple):
    """What contacts were told. `since`: unix seconds; None: nobody may know, or nobody knows."""

    show: str = "offline"
    status: str = ""
    since: int | None = None


OFFLINE = Told()


def told(text: bytes | None) -> Told:
    """Of the field `told`."""
    if not text:
        return OFFLINE
    show, since, _, _, status = text.split(b" ", 4)
    return Told(show.decode(), status.decode(), None if since == b"-" else int(since))


class Shown(NamedTuple):
    """What one device shows from now on."""

    place: Place
    show: str
    status: str


def settle(keys: UserKeys, order: bytes, gone: bytes = b"", seconds: int = 0, shown: Shown | None = None) -> Packed:
    """`gone`: a place, a device or `=node` that is not waited for any more; `seconds`: how long it has been away."""
    parts = ("", "", "") if shown is None else shown
    return _call(b"im_settle_2", (keys.state, keys.roster), order, gone, seconds, *parts)


class Settled(NamedTuple):
    told: Told
    is_news: bool


def settled(reply: list[Any]) -> Settled | None:
    """None where there is nobody to be told."""
    return Settled(told(reply[0]), bool(reply[1])) if reply else None


class Whereabouts(NamedTuple):
    """Where a user's sessions are, and what contacts were told of it; as the store has it, read where it is needed."""

    on: bytes | None
    text: bytes | None = None

    @property
    def nodes(self) -> Sequence[bytes]:
        """Each once."""
        on = self.on
        if not on:
            return ()
        if b" " not in on:
            behind_device = on.index(b"=") + 1
            return (on[behind_device : on.index(b".", behind_device)],)
        return list(dict.fromkeys(place.partition(b"=")[2].partition(b".")[0] for place in on.split(b" ")))

    @property
    def told(self) -> Told:
        return told(self.text)


NOWHERE = Whereabouts(None)  # most are, mostly


def whereabouts(several: Sequence[UserKeys], *, with_told: bool) -> Packed:
    """Of users whom one call can reach."""
    if len(several) == 1:
        return pack(b"HMGET", several[0].state, b"on", b"told")
    return _call(b"im_whereabouts_2", tuple(keys.state for keys in several), b"told" if with_told else b"")


def whereabouts_known(reply: list[Any]) -> dict[int, Whereabouts]:
    """By the place among the `several`. Who is not there is nowhere, and nothing was told of it."""
    if len(reply) == 2:
        return {0: Whereabouts(*reply)}
    return {
        index - 1: Whereabouts(on, text) for index, on, text in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    }


Extent = Literal["all", "some", "offline"]  # all contacts; some; some, who hear that the user is offline


def tell(keys: UserKeys, by_node: Mapping[bytes, Sequence[UserId]], extent: Extent) -> Packed:
    """`by_node`: whom to tell, by the nodes at which they are."""
    parts: list[bytes | str] = []
    for node, users in by_node.items():
        parts += [node, ",".join(users)]
    return _call(b"im_tell_2", (keys.state,), extent, *parts)


def release(keys: UserKeys, hosting: Hosting) -> Packed:
    return _call(b"im_release_2", (keys.state, hosting.key), hosting.node)


def typing(keys: UserKeys, sender: str, *, is_on: bool) -> Packed:
    """`keys`: of the one who is told."""
    return _call(b"im_typing_2", (keys.state, keys.roster), sender, b"1" if is_on else b"0")
