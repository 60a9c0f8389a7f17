"""Getting in, staying, leaving."""

from typing import Annotated

from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, OUTSIDE, Command, Device, PositionText, Row, Secret, User
from imserver.protocol.overload import Level
from imserver.protocol.pushes.entering import Welcome


class Register(Command, tag="register"):
    user: User
    password: Secret
    code: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class Login(Command, tag="login"):
    """By `user` and `password`, or by `token`. `since` overrules the device's stored cursor.

    `resend`: the client keeps what was confirmed, and sends it again when it is asked to.
    """

    device: Device
    user: User | None = None
    password: Secret | None = None
    token: Annotated[str, Meta(max_length=1024)] | None = None
    since: PositionText | dict[str, PositionText] | None = None
    resend: bool = False


class Ping(Command, tag="ping"):
    pass


class Logout(Command, tag="logout"):
    pass


ROWS = (
    #   schema    states            hot    cost  shed          ok
    Row(Register, OUTSIDE,          True,  10,   Level.LOGINS),  # plain functions put these two into a line;
    Row(Login,    OUTSIDE,          True,  10,   Level.LOGINS, Welcome),  # a task does them when their turn has come
    Row(Ping,     OUTSIDE + INSIDE, True,  0.5,  Level.NEVER),
    Row(Logout,   INSIDE,           True,  1,    Level.NEVER),
)  # fmt: skip
