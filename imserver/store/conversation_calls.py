"""The functions about conversations as commands, what they return and publish as types. Pure, as `calls` is."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from imserver.errors import ImError, NotFound
from imserver.model import Place, Position, UserId
from imserver.store.calls import Packed, call, pack
from imserver.store.partitions import UserKeys

MOST_LOOKED_AT = 200  # entries in one call about what was kept: bounds how long it holds up the store (0.3 ms)

Kind = Literal["read", "delivered"]


class Mark(NamedTuple):
    """A message that was read, or kept: its device and id. `upto` orders them: its position in the marker's log."""

    upto: Position
    device: str
    id: str

    def __bytes__(self) -> bytes:
        return f"{self.device} {self.id}".encode()


class Arranged(NamedTuple):
    """`archived`: the position in the log up to which; None: it is not."""

    muted: bool = False
    pinned: bool = False
    archived: Position | None = None


class Record(NamedTuple):
    """What is remembered of one conversation. `stamp`: of what was arranged last (milliseconds)."""

    read: Position | None = None
    read_by: Mark | None = None
    delivered: Mark | None = None
    arranged: Arranged = Arranged()
    stamp: int = 0


_NOTHING = Record()


def record(text: bytes | None) -> Record:
    if not text:
        return _NOTHING
    read, read_by, delivered, *switches = text.split(b"\n")
    values = [switch.partition(b" ") for switch in switches]
    stamp = max(int(stamp or 0) for _, _, stamp in values)
    return Record(
        Position(read) if read else None,
        _mark(read_by),
        _mark(delivered),
        arranged([value for value, _, _ in values]),
        stamp,
    )


def _mark(text: bytes) -> Mark | None:
    if not text:
        return None
    upto, device, message_id = text.split(b" ", 2)
    return Mark(Position(upto), device.decode(), message_id.decode())


def arranged(values: Sequence[bytes]) -> Arranged:
    """Of three values as the store has them."""
    muted, pinned, archived = values
    return Arranged(muted == b"1", pinned == b"1", None if archived in (b"", b"0") else Position(archived))


# -- reading


class HasRead(NamedTuple):
    """The mark as it is now; `mark`: what the partner is to be told."""

    upto: Position
    mark: Mark | None


def read(keys: UserKeys, partner: str, upto: Position, origin: Place) -> Packed:
    called_with = (keys.state, keys.log, keys.conversations, keys.changes)
    return call(b"im_read_2", called_with, partner, upto, origin)


def has_read(reply: list[Any]) -> HasRead | ImError:
    """The error is NotFound."""
    if reply[0] != b"ok":
        return NotFound("there is no such user")
    return HasRead(reply[1], _mark(reply[1] + b" " + reply[2]) if len(reply) == 3 else None)


def mark(keys: UserKeys, kind: Kind, partner: str, what: Mark) -> Packed:
    """`keys`: of who has sent the message; `partner`: of who has read or kept it."""
    called_with = (keys.state, keys.conversations, keys.changes)
    return call(b"im_mark_2", called_with, kind, partner, what.upto, bytes(what))


# -- keeping


class Unheard(NamedTuple):
    """By sender, the newest message that was kept, of which it is to be told. `reached`: None where there is none."""

    reached: Position | None
    marks: list[tuple[UserId, Mark]]


class Forwarded(NamedTuple):
    """Of each sender the newest message, among all that a session was given behind `since`, up to `upto`, and has kept.

    Its own are not among them; those of the user's other devices may be.
    """

    since: Position
    upto: Position
    marks: list[tuple[str, Mark]]


def keep(keys: UserKeys, device: str, upto: Position, forwarded: Forwarded | None = None) -> Packed:
    """As `calls.ack`; the reply tells also who is to hear of it. `forwarded`: saves the store looking into the log."""
    named: list[bytes | str] = []
    if forwarded is not None:
        named += forwarded.since, forwarded.upto
        for sender, what in forwarded.marks:
            named += sender, what.upto, bytes(what)
    return call(b"im_keep_2", (keys.state, keys.log), device, upto, MOST_LOOKED_AT, *named)


def heard(keys: UserKeys, reached: Position, upto: Position) -> Packed:
    """Everybody has been told of what was kept up to `reached`."""
    return call(b"im_heard_2", (keys.state, keys.log), reached, upto, MOST_LOOKED_AT)


def unheard(reply: list[Any]) -> Unheard:
    if not reply:
        return Unheard(None, [])
    senders = zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
    marks = ((sender, _mark(at + b" " + message)) for sender, at, message in senders)
    return Unheard(reply[0], [(UserId(sender.decode()), mark) for sender, mark in marks if mark is not None])


# -- arranging, listing


def standing(keys: UserKeys, partners: Sequence[str]) -> Packed:
    return pack(b"HMGET", keys.conversations, *partners)


def records(reply: list[Any]) -> list[Record]:
    return [record(text) for text in reply]


def arrange(keys: UserKeys, partner: str, wanted: Sequence[bytes], stamp: int, origin: Place) -> Packed:
    """`wanted`: muted, pinned, archived; `-`: left as it is."""
    called_with = (keys.state, keys.conversations, keys.changes)
    return call(b"im_arrange_2", called_with, partner, *wanted, stamp, origin)


def arrangement(reply: list[Any]) -> Arranged | ImError:
    """The error is NotFound."""
    return arranged(reply[1:]) if reply[0] == b"ok" else NotFound("there is no such user")


class ConversationPage(NamedTuple):
    """Records in the order of their versions; `reached`: that of the last one."""

    version: int
    is_all: bool  # all that there is, not what has changed
    reached: int
    records: list[tuple[str, Record]]


def listed(keys: UserKeys, since: int, behind: int, most: int) -> Packed:
    """Versions are kept as those of a roster are."""
    return call(b"im_roster_2", (keys.conversations, keys.changes), since, behind, most)


def page(reply: list[Any]) -> ConversationPage:
    records = [(partner.decode(), record(text)) for partner, text in zip(reply[3::2], reply[4::2], strict=True)]
    return ConversationPage(int(reply[0]), bool(reply[1]), int(reply[2]), records)


# -- what is published


class Marked(NamedTuple):
    """`by` has read or got what `partner` said, up to there: for the devices of `user`, but the one at `origin`."""

    user: UserId
    origin: Place
    kind: Kind
    by: str
    partner: str
    upto: Position
    mark: Mark | None


class Rearranged(NamedTuple):
    """The same of what the user has arranged."""

    user: UserId
    origin: Place
    partner: str
    arranged: Arranged


def published(message: bytes) -> Marked | Rearranged:
    user, origin, kind, rest = message.split(b" ", 3)
    to, place = UserId(user.decode()), Place(origin)
    if kind == b"arranged":
        partner, *values = rest.split(b" ")
        return Rearranged(to, place, partner.decode(), arranged(values))
    by, partner, what = rest.split(b" ", 2)
    upto = what.partition(b" ")[0]
    mark = _mark(what) if upto != what else None
    known_kind: Kind = "read" if kind == b"read" else "delivered"
    return Marked(to, place, known_kind, by.decode(), partner.decode(), Position(upto), mark)
