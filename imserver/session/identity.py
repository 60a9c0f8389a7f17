"""Who has logged in."""

from sys import intern

from imserver.model import DeviceId, Place, UserId
from imserver.store.stored import Sender


class Identity:
    """Who has logged in, and where the directory says that it is."""

    __slots__ = ("device", "generations", "place", "sender", "user")

    def __init__(self, user: UserId, device: DeviceId, place: Place, generations: str, *, is_bot: bool = False) -> None:
        """`generations`: of the account's tokens when it logged in; others mean that the login was revoked."""
        self.user = user
        self.device = device
        self.place = place
        self.generations = intern(generations)  # the same for nearly all
        self.sender = Sender(user, device, is_bot=is_bot)
