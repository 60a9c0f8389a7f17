"""What belongs to a user: devices, password, profile, the account itself."""

from typing import Annotated, Literal

from msgspec import Meta

from imserver.protocol.commands.base import INSIDE, Command, Device, PageLimit, PositionText, Row, Secret, User
from imserver.protocol.overload import Level
from imserver.protocol.pushes.account import DeviceList, LogPage, ProfileList, ProfileShown, ProfileVersion

DeviceName = Annotated[str, Meta(max_length=64)]
ShownName = Annotated[str, Meta(max_length=64)]
Avatar = Annotated[str, Meta(max_length=1024)]
About = Annotated[str, Meta(max_length=1000)]
Version = Annotated[int, Meta(ge=0, lt=1 << 53)]


class Devices(Command, tag="devices"):
    """The user's devices."""


class DeviceSet(Command, tag="device.set"):
    """What the user calls a device; empty: nothing."""

    device: Device
    name: DeviceName


class DeviceRevoke(Command, tag="device.revoke"):
    """Closes the device's session and makes its tokens void; or, with `others`, those of all but this device."""

    device: Device | None = None
    others: bool = False


class Password(Command, tag="password"):
    """Another one. `others`: whether the tokens of other devices stay good."""

    old: Secret
    new: Secret
    others: Literal["revoke", "keep"] = "revoke"


class AccountDelete(Command, tag="account.delete"):
    password: Secret


class ProfileSet(Command, tag="profile.set"):
    """What is not there stays as it is; empty: nothing."""

    name: ShownName | None = None
    avatar: Avatar | None = None
    about: About | None = None


class Profile(Command, tag="profile"):
    """`since`: the version that the client has."""

    user: User
    since: Version = 0


class Profiles(Command, tag="profiles"):
    """Of many users: each with the version that the client has, or 0."""

    users: Annotated[dict[User, Version], Meta(min_length=1, max_length=100)]


class Export(Command, tag="export"):
    """The user's own log from its beginning, a page at a time; `after` is the `next` of the page before."""

    after: PositionText | None = None
    limit: PageLimit = 100


ROWS = (
    #   schema         states  hot    cost  shed           ok
    Row(Devices,       INSIDE, False, 10,   Level.HISTORY, DeviceList),
    Row(DeviceSet,     INSIDE, False, 10,   Level.HISTORY),
    Row(DeviceRevoke,  INSIDE, False, 10,   Level.NEVER),
    Row(Password,      INSIDE, True,  50,   Level.LOGINS),  # plain functions put these two into the line of the logins
    Row(AccountDelete, INSIDE, True,  50,   Level.LOGINS),  # with a password; a task does them when their turn has come
    Row(ProfileSet,    INSIDE, False, 20,   Level.HISTORY, ProfileVersion),
    Row(Profile,       INSIDE, False, 2,    Level.HISTORY, ProfileShown),
    Row(Profiles,      INSIDE, False, 2,    Level.HISTORY, ProfileList),
    Row(Export,        INSIDE, False, 50,   Level.HISTORY, LogPage),
)  # fmt: skip
