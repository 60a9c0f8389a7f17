"""The user's own account, and what others show of theirs: `client.account`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from imserver.errors import BadFrame
from imserver.model import parse_device, parse_user
from imserver.protocol import commands
from imserver.protocol.pushes import Device, DeviceList, LogPage, ProfileList, ProfileShown, ProfileVersion

PAGE_PROFILES = 100

T = TypeVar("T")


class Account:
    """Devices, password, profiles.

    Every method raises ConnectionLost where there is no connection or it breaks: what was asked for may have been done
    then, and can be asked for again. They raise BadRequest, NotFound, RateLimited, Overloaded, Unavailable,
    SessionEnded.
    """

    def __init__(self, ask: Callable[[commands.Command], Awaitable[msgspec.Raw]]) -> None:
        self._ask = ask

    # -- devices

    async def devices(self) -> list[Device]:
        """Those that are connected, or may come in without a password; who logged in last first. At most 200."""
        return (await self._get(commands.Devices(), DeviceList)).devices

    async def name_device(self, device: str, name: str) -> None:
        """What the user calls it; empty: nothing."""
        await self._ask(commands.DeviceSet(device=parse_device(device), name=name))

    async def revoke_device(self, device: str) -> None:
        """Closes its session, and it needs the password again. This one itself: the session ends."""
        await self._ask(commands.DeviceRevoke(device=parse_device(device)))

    async def revoke_others(self) -> None:
        """The same of all devices but this one."""
        await self._ask(commands.DeviceRevoke(others=True))

    # -- the account

    async def change_password(self, old: str, new: str, *, keep_others: bool = False) -> None:
        """Without `keep_others` all other devices need the new one. Raises BadCredentials, Conflict."""
        command = commands.Password(old=old, new=new, others="keep" if keep_others else "revoke")
        await self._ask(command)

    async def delete(self, password: str) -> None:
        """For ever, with everything that the server keeps of the user; the session ends. Raises BadCredentials."""
        await self._ask(commands.AccountDelete(password=password))

    async def export(self) -> AsyncIterator[dict[str, Any]]:
        """Every entry of the user's own log that the server keeps, as it is on the wire; oldest first."""
        after: str | None = None
        while True:
            page = await self._get(commands.Export(after=after), LogPage)
            for entry in page.entries:
                yield entry
            if page.next is None:
                return
            after = page.next

    # -- profiles

    async def set_profile(self, *, name: str | None = None, avatar: str | None = None, about: str | None = None) -> int:
        """What is None stays as it is, what is empty is removed. The profile's version after that."""
        command = commands.ProfileSet(name=name, avatar=avatar, about=about)
        return (await self._get(command, ProfileVersion)).version

    async def profile(self, user: str) -> ProfileShown:
        """What this user may see of it; strangers see no `about`."""
        return await self._get(commands.Profile(user=parse_user(user)), ProfileShown)

    async def profiles(self, known: Mapping[str, int]) -> ProfileList:
        """Of many users, each with the version that is known already (0: none): those that have another one now."""
        users = [(parse_user(user), version) for user, version in known.items()]
        found = ProfileList([], [])
        for first in range(0, len(users), PAGE_PROFILES):
            command = commands.Profiles(users=dict(users[first : first + PAGE_PROFILES]))
            page = await self._get(command, ProfileList)
            found.profiles += page.profiles
            found.gone += page.gone
        return found

    async def _get(self, command: commands.Command, kind: type[T]) -> T:
        content = await self._ask(command)
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise BadFrame(f"the server's answer is not what was asked for: {error}") from None
