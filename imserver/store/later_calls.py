"""The calls for messages that are to be said later; what is kept of them: functions/later.lua. Times: unix seconds."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from imserver.errors import Conflict, ImError, NotFound
from imserver.model import UserId
from imserver.store.calls import Packed, call, pack
from imserver.store.partitions import UserKeys, deployment_key, due_key, user_keys

MOST_MESSAGES = 100  # of one user
MOST_BYTES = 256 * 1024  # of them together: what is shown of them goes into one frame
EVERYWHERE = "all"  # on the agenda: every partition
LATE_SECONDS = 60  # a call that was made before another is done within that time, or never


class Saying(NamedTuple):
    """What it takes to say a message: as `Messages.append` wants it."""

    to: str
    again: int
    mentions: Sequence[str]
    content: bytes


class Due(NamedTuple):
    """One that is due: as it stands in the sorted set of its partition."""

    member: bytes

    @property
    def user(self) -> UserId:
        return UserId(self.member.split(b" ", 2)[1].decode())

    @property
    def field(self) -> bytes:
        """Device and id."""
        return self.member.split(b" ", 2)[2]

    @property
    def dedupe(self) -> bytes:
        """As `Sender.dedupe`."""
        return b"%b/%b" % (self.user.encode(), self.field)


class Begun(NamedTuple):
    saying: Saying
    is_disabled: bool  # the account


class Waiting(NamedTuple):
    """`failed`: code and text."""

    when: int
    number: int
    failed: tuple[str, str] | None
    content: bytes


def _what(saying: Saying) -> bytes:
    return msgspec.json.encode((saying.to, saying.again, saying.mentions))


def _saying(what: bytes, content: bytes) -> Saying:
    return Saying(*msgspec.json.decode(what, type=tuple[str, int, list[str]]), content)


def _field(device: str, message_id: str) -> str:
    return f"{device}/{message_id}"


# -- a user's


def schedule(keys: UserKeys, device: str, message_id: str, when: int, saying: Saying) -> Packed:
    called_with = (keys.state, keys.waiting, due_key(keys.partition))
    what = (_what(saying), saying.content, MOST_MESSAGES, MOST_BYTES)
    return call(b"im_schedule_2", called_with, _field(device, message_id), when, *what)


def scheduled(reply: list[Any]) -> int | ImError:
    """The errors are NotFound, Conflict (too many; cancelled)."""
    match reply[0]:
        case b"ok":
            return int(reply[1])
        case b"full":
            most = f"{MOST_MESSAGES} messages, or {MOST_BYTES // 1024} KB of them,"
            return Conflict(f"when: {most} wait already; `unschedule` some")
        case b"cancelled":
            return Conflict("id: this message has been cancelled; take another id")
        case _:
            return NotFound("there is no such user")


def unschedule(keys: UserKeys, user: str, device: str, message_id: str, until: int) -> Packed:
    called_with = (keys.waiting, due_key(keys.partition))
    return call(b"im_unschedule_2", called_with, user, _field(device, message_id), until)


def unscheduled(reply: list[Any]) -> ImError | None:
    """The errors are NotFound, Conflict."""
    match reply[0]:
        case b"ok":
            return None
        case b"begun":
            return Conflict("id: this message is being said")
        case _:
            return NotFound("id: no such message waits; it may have been said")


def waiting(keys: UserKeys) -> Packed:
    return pack(b"HVALS", keys.waiting)


def all_waiting(reply: list[Any]) -> list[Waiting]:
    """Those that wait, or were refused, in the order in which they are said."""
    records = (record.split(b"\n", 3) for record in reply if record[:1] in b"wsf")
    found = []
    for head, failed, _, content in records:
        _, when, number = head.split()
        code, _, text = failed.decode().partition(" ")
        found.append(Waiting(int(when), int(number), (code, text) if code else None, content))
    return sorted(found)


# -- what is due


def due(partition: int, now: int, skip: int, most: int) -> Packed:
    """The reply: members."""
    return pack(b"ZRANGEBYSCORE", due_key(partition), b"-inf", now, b"LIMIT", skip, most)


def first(partition: int) -> Packed:
    return pack(b"ZRANGE", due_key(partition), 0, 0, b"WITHSCORES")


def first_when(reply: list[Any]) -> int | None:
    """RESP3 gives pairs."""
    return None if not reply else int(float(reply[0][1] if isinstance(reply[0], list) else reply[1]))


def begin_saying(what: Due, now: int) -> Packed:
    keys = user_keys(what.user)
    called_with = (keys.waiting, due_key(keys.partition), keys.account)
    return call(b"im_begin_saying_2", called_with, what.member, what.field, now)


def begun(reply: list[Any]) -> Begun | None:
    """None: there is nothing to be said."""
    if not reply:
        return None
    what, _, content = reply[0].partition(b"\n")
    return Begun(_saying(what, content), reply[1] == b"1")


def end_saying(what: Due, failed: ImError | None) -> Packed:
    keys = user_keys(what.user)
    why = "" if failed is None else f"{failed.code} {failed}"
    return call(b"im_end_saying_2", (keys.waiting, due_key(keys.partition)), what.member, what.field, why)


# -- the agenda


def _agenda() -> tuple[bytes]:
    return (deployment_key("agenda"),)


def take_due(now: float, claim: float, most: int) -> Packed:
    return call(b"im_take_due_2", _agenda(), f"{now:.6f}", f"{claim:.6f}", most)


def look_at(partition: int, when: int) -> Packed:
    return call(b"im_look_at_2", _agenda(), partition, when)


def looked(name: str, claim: float, following: int | None) -> Packed:
    return call(b"im_looked_2", _agenda(), name, f"{claim:.6f}", "" if following is None else following)
