"""Invitations to register, and reports, as commands, and their replies as types. Pure, as `calls` is."""

from typing import Any, NamedTuple

import msgspec

from imserver.errors import ImError, NotAllowed, NotFound, Overloaded
from imserver.model import UserId
from imserver.store.calls import Packed, call, pack
from imserver.store.partitions import deployment_key, partition_of, tags

REPORTS = deployment_key("reports")
_FULL_RETRY_SECONDS = 3600.0  # until an administrator has closed some


class Invite(NamedTuple):
    """`until`: unix seconds."""

    code: str
    uses: int
    used: int
    until: int


def invite_key(code: str) -> bytes:
    return b"{%b}j:%b" % (tags()[partition_of(code)], code.encode())


def make_invite(code: str, uses: int, until: int) -> Packed:
    return call(b"im_make_invite_2", (invite_key(code),), uses, until)


def use_invite(code: str, user: str) -> Packed:
    return call(b"im_use_invite_2", (invite_key(code),), user)


def invite_used(reply: list[Any]) -> ImError | None:
    """The error is NotAllowed."""
    return None if reply[0] == b"ok" else NotAllowed("code: there is no such invitation, or it is used up")


def return_invite(code: str, user: str) -> Packed:
    return call(b"im_return_invite_2", (invite_key(code),), user)


def forget_invited(code: str, user: str) -> Packed:
    return call(b"im_forget_invited_2", (invite_key(code),), user)


def invite_of(code: str) -> Packed:
    return pack(b"HMGET", invite_key(code), b"uses", b"used", b"until")


def invite(code: str, reply: list[Any]) -> Invite | None:
    return None if reply[0] is None else Invite(code, *map(int, reply))


class MessageRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message in the log of who reports it, or of a group."""

    at: str
    log: str | None = None


class Report(msgspec.Struct, frozen=True):
    """`time`: unix seconds."""

    by: str
    user: str
    time: int
    reason: str
    messages: list[MessageRef] = []


def report(what: Report, most: int) -> Packed:
    return call(b"im_report_2", (REPORTS,), f"{what.by} {what.user}", msgspec.json.encode(what), most)


def reported(reply: list[Any]) -> ImError | None:
    """The error is Overloaded."""
    if reply[0] == b"ok":
        return None
    return Overloaded("too many reports wait for the administrators", _FULL_RETRY_SECONDS)


def close_report(by: str, user: str) -> Packed:
    return call(b"im_close_report_2", (REPORTS,), f"{by} {user}")


def closed(reply: list[Any]) -> ImError | None:
    """The error is NotFound."""
    return None if reply[0] == b"ok" else NotFound("there is no such report")


def reports_page(cursor: bytes, pattern: str = "*") -> Packed:
    return pack(b"HSCAN", REPORTS, cursor, b"MATCH", pattern, b"COUNT", 500)


def reports(reply: list[Any]) -> tuple[bytes, list[Report]]:
    """Where to go on (0: nowhere), and a page in no order."""
    return reply[0], [msgspec.json.decode(text, type=Report) for text in reply[1][1::2]]


def allowance_of_reports(user: UserId) -> str:
    """Whose tries are counted."""
    return f"{user}/reports"
