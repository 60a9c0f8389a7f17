"""Getting in, staying, leaving."""

import msgspec

from imserver.protocol.pushes.base import Push


class Welcome(msgspec.Struct, gc=False):
    """The `ok` of `login`. `token` logs this device in again on any node until `expires` (unix seconds)."""

    user: str
    device: str
    token: str
    expires: int
    at: str
    ping: float
    max_frame: int


class Synced(Push, tag="synced"):
    """The backlog ends at `at`; what follows is live."""

    at: str


class Truncated(Push, tag="truncated"):
    """Entries before `at` are no longer kept; the session goes on from there.

    `at`: the oldest entry that is kept; where none is, the end of the log. `log`: the group, where it is a group's log;
    then it may also be that the user was no member before `at`, or, with `count`, that so many entries (at least) are
    not sent unasked: `history` has them, behind `after`. `mentioned`: the newest of these that mentions the user.
    """

    at: str
    log: str | None = None
    count: int = 0
    after: str | None = None
    mentioned: str | None = None


class Regressed(Push, tag="regressed"):
    """The log has lost what was behind `at`, and goes on from there.

    What was lost may come again, at new positions. The `prev` of the next entry is `at`. `log`: of a group.
    """

    at: str
    log: str | None = None


class ResendPush(Push, tag="resend"):
    """What was confirmed in the last so many seconds may be lost: the client MUST say `resend`, and send it again."""

    seconds: int


class PingPush(Push, tag="ping"):
    """The server asks whether the client is there; any frame answers it."""


class Bye(Push, tag="bye"):
    """The server closes the connection. Where `reconnect`, come back after `after` seconds and resume."""

    code: str
    text: str
    reconnect: bool
    after: float = 0.0
