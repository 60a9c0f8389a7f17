"""How a conversation with the server stands, and who has it."""

from enum import Enum

import msgspec

from imserver.model import DeviceId, UserId


class State(Enum):
    OFFLINE = "offline"
    ENTERING = "logging in"
    CATCHING_UP = "catching up"
    LIVE = "live"
    ENDED = "ended"


INSIDE = frozenset({State.CATCHING_UP, State.LIVE})
CONNECTED = INSIDE | {State.ENTERING}


class Identity(msgspec.Struct, kw_only=True):
    """Who logs in, and by what: the token first, the password where there is none or it is not accepted any more."""

    user: UserId
    device: DeviceId
    password: str | None = None
    token: str | None = None
