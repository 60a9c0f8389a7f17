"""The functions of the library as commands, and their replies as types.

Pure: the same calls serve a worker's link, the synchronous client of the admin commands, and tests.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
from hiredis import pack_command

from imserver.errors import BadCredentials, Blocked, ExpiredToken, ImError, NotAllowed, NotFound, Unavailable
from imserver.model import START, Entry, GroupId, Place, Position
from imserver.store.partitions import Hosting, LeaseKeys, UserKeys

Packed = bytes

_LIBRARY = (
    "head",
    "log",
    "directory",
    "later",
    "accounts",
    "names",
    "leases",
    "tries",
    "moderation",
    "epochs",
    "contacts",
    "presence",
    "groups",
    "conversations",
    "amendments",
)

# hiredis's own stub knows tuples of one element only.
_pack: Callable[[tuple[bytes | str | int, ...]], Packed] = pack_command  # type: ignore[assignment]


def pack(*parts: bytes | str | int) -> Packed:
    """A command as Redis reads it."""
    return _pack(parts)


def call(function: bytes, keys: tuple[bytes, ...], *arguments: bytes | str | int) -> Packed:
    return pack(b"FCALL", function, len(keys), *keys, *arguments)


def library() -> str:
    """The source of the function library: its parts, in one text."""
    folder = files("imserver.store").joinpath("functions")
    return "\n".join(folder.joinpath(f"{part}.lua").read_text() for part in _LIBRARY)


class Appended(msgspec.Struct, gc=False):
    """Where an entry stands. `prev` is None for a repeat: the entry was there already, and says when it `expires`."""

    at: Position
    prev: Position | None
    expires: int | None = None  # unix seconds


class Listed(NamedTuple):
    """A group in a user's list. `since`: where the membership began (None: perhaps there is none)."""

    group: GroupId
    since: Position | None
    cursor: Position


class Right(NamedTuple):
    """By what a session comes in: the generations of its token, or the hash of its password, checked a while ago."""

    generations: str | None = None
    password_hash: str | None = None


class Attached(NamedTuple):
    """A session is in the directory. `last`: the log's end; `cursor`: what the device has kept (None: it is new)."""

    last: Position
    cursor: Position | None
    generations: str
    groups: tuple[Listed, ...] = ()
    is_bot: bool = False


class Replaced(NotAllowed):
    """Another session of the same device has taken this one's place."""


class Late(Unavailable):
    """Another login of the device was done since this one was asked for."""


class Dead(Unavailable):
    """This node was taken for dead, and what it had in the directory is cleared."""


# With every message: packed by hand, since the names and keys are packed already.
_APPEND = b"*8\r\n$5\r\nFCALL\r\n$11\r\nim_append_2\r\n$1\r\n2\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_APPEND_BOTH = (
    b"*10\r\n$5\r\nFCALL\r\n$16\r\nim_append_both_2\r\n$1\r\n4\r\n%b%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
)


def append(keys: UserKeys, dedupe: bytes, content: bytes, origin: bytes, again: int = 0) -> Packed:
    """`again`: how many bytes of `content` to look for in the log; 0: none."""
    if again:
        return call(b"im_append_2", (keys.state, keys.log), dedupe, content, origin, again)
    return _APPEND % (keys.packed, len(dedupe), dedupe, len(content), content, len(origin), origin)


def append_both(to: UserKeys, own: UserKeys, dedupe: bytes, content: bytes, origin: bytes, again: int = 0) -> Packed:
    """`to`: the recipient's, `own`: the sender's."""
    if again:
        keys = (to.state, to.log, own.state, own.log)
        return call(b"im_append_both_2", keys, dedupe, content, origin, again)
    return _APPEND_BOTH % (to.packed, own.packed, len(dedupe), dedupe, len(content), content, len(origin), origin)


def appended(reply: list[Any]) -> Appended | ImError:
    """The errors are NotFound (also of a deleted message), Blocked and NotAllowed (takes messages of contacts only)."""
    if len(reply) == 2:
        return Appended(reply[0], reply[1])
    match reply[0]:
        case b"not-found":
            return NotFound("to: there is no such user")
        case b"deleted":
            return deleted()
        case b"blocked":
            return Blocked("to: takes no messages from you")
        case b"shut":
            return NotAllowed("to: takes messages from contacts only")
        case at:
            return Appended(at, None, *reply[2:])


def deleted() -> NotFound:
    """What it would change is there no more."""
    return NotFound("of: there is no such message, or not any more")


def read(keys: UserKeys, after: Position, count: int) -> Packed:
    return pack(b"XRANGE", keys.log, b"(" + after, b"+", b"COUNT", count)


def read_back(keys: UserKeys, before: Position | None, count: int) -> Packed:
    end = b"+" if before is None else b"(" + before if before != START else START  # nothing is before the start
    return pack(b"XREVRANGE", keys.log, end, b"-", b"COUNT", count)


def entries(reply: list[Any]) -> list[Entry]:
    """What has expired and is still there included: see `trimming`."""
    return [Entry(at, fields[1], fields[3]) for at, fields in reply]


def cut(keys: UserKeys) -> Packed:
    """The reply: entries before there have left the log because of its bounds; None: none have."""
    return pack(b"HGET", keys.state, b"cut")


def logins(keys: UserKeys, device: str) -> Packed:
    """What is kept of a device's logins: for `attach`. None: there was none."""
    return pack(b"HGET", keys.state, b"s:" + device.encode())


def attach(
    keys: UserKeys,
    hosting: Hosting,
    place: Place,
    right: Right,
    logins: bytes | None,
    now: float,
) -> Packed:
    """A login. `logins`: what the call of that name gave; `now`: unix seconds."""
    called_with = (keys.state, keys.account, hosting.key, keys.groups)
    count = int((logins or b"0").split(b" ")[0])
    then = b"%d %d" % (count + 1, now)
    checked = () if right.password_hash is None else (right.password_hash,)
    return call(b"im_attach_2", called_with, place, right.generations or b"-", b"new", logins or b"0", then, *checked)


def attach_again(keys: UserKeys, hosting: Hosting, place: Place, generations: str) -> Packed:
    """Whether a session is still in the directory, and where its log ends."""
    called_with = (keys.state, keys.account, hosting.key, keys.groups)
    return call(b"im_attach_2", called_with, place, generations, b"again")


def attached(reply: list[Any]) -> Attached | ImError:
    """The errors are BadCredentials, NotAllowed (disabled), ExpiredToken (revoked), Late, Replaced, Dead."""
    match reply[0]:
        case b"ok":
            return Attached(reply[1], reply[2], reply[3].decode(), _listed(reply[4]), reply[5] is not None)
        case b"disabled":
            return NotAllowed("this account is disabled")
        case b"revoked":
            return ExpiredToken("this token was revoked; log in by password")
        case b"replaced":
            return Replaced("another session of this device has logged in")
        case b"late":
            return Late("this device has logged in elsewhere meanwhile; try again")
        case b"cleared":
            return Dead("this worker was taken for dead")
        case _:
            return BadCredentials("user or password is wrong")


def _listed(reply: list[Any]) -> tuple[Listed, ...]:
    if not reply:
        return ()
    rows = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    return tuple(
        Listed(GroupId(group.decode()), None if since == b"?" else since, cursor) for group, since, cursor in rows
    )


OWES = 2


def detach(keys: UserKeys, hosting: Hosting, place: Place, cursor: Position | None, now: float) -> Packed:
    """`now`: unix seconds. The reply: OWES where contacts may have to be told."""
    return call(b"im_detach_2", (keys.state, hosting.key, keys.roster), place, cursor or b"-", int(now))


def ack(keys: UserKeys, device: str, upto: Position) -> Packed:
    return call(b"im_ack_2", (keys.state,), device, upto)


class Bounds(NamedTuple):
    """What a log and its dedupe index may hold."""

    most_entries: int
    longest_age_seconds: int
    dedupe_seconds: int


TRIM_STEPS = 256  # entries looked at in one call: bounds how long it holds up the store


def trim(keys: UserKeys, now: float, bounds: Bounds) -> Packed:
    age, window = bounds.longest_age_seconds * 1000, bounds.dedupe_seconds * 1000
    return call(
        b"im_trim_2",
        (keys.state, keys.log, keys.expiring),
        int(now * 1000),
        bounds.most_entries,
        age,
        window,
        TRIM_STEPS,
    )


def renew(keys: LeaseKeys, node: bytes, seconds: float, info: bytes = b"") -> Packed:
    """`info`: with the first one."""
    return call(b"im_renew_2", tuple(keys), node, int(seconds * 1000), info)


def renewed(reply: list[Any]) -> ImError | None:
    """The error is Dead."""
    return None if reply[0] == b"ok" else Dead("this worker was taken for dead")


def leave(keys: LeaseKeys, node: bytes, owing_seconds: float = 0.0) -> Packed:
    """`owing_seconds`: contacts must hear of users who left this node, if they aren't back in so long; 0: of none."""
    return call(b"im_leave_2", tuple(keys), node, int(owing_seconds * 1000))


def leaseholders(keys: LeaseKeys) -> Packed:
    """The reply: nodes, and `dead <node>` for those that are being cleared."""
    return pack(b"ZRANGE", keys.nodes, 0, -1)


def expect(keys: LeaseKeys, seconds: float, members: list[bytes]) -> Packed:
    """`members`: the leaseholders of another shard."""
    return call(b"im_expect_2", tuple(keys), int(seconds * 1000), *members)


def take_dead(keys: LeaseKeys, claim_seconds: float, suspect_seconds: float) -> Packed:
    """The reply: nodes that the caller has so long to clear. They have been suspect for `suspect_seconds`."""
    return call(b"im_take_dead_2", tuple(keys), int(claim_seconds * 1000), int(suspect_seconds * 1000))


def bury(keys: LeaseKeys, node: bytes) -> Packed:
    return pack(b"ZREM", keys.nodes, b"dead " + node)


def hosted(hosting: Hosting) -> Packed:
    """The reply: users."""
    return pack(b"SMEMBERS", hosting.key)


def clear(keys: UserKeys, hosting: Hosting, now: float) -> Packed:
    """`now`: unix seconds. The reply: OWES where contacts may have to be told."""
    return call(b"im_clear_2", (keys.state, hosting.key, keys.roster), hosting.node, int(now))
