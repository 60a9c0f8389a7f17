"""What a user does to its own account: devices, password, profile, the end of it. And the profiles of others.

A password is checked, and another one hashed, in the line of those who log in by password: it costs as much.
"""

from itertools import accumulate

from imserver.errors import BadCredentials, BadRequest, ImError, NotFound
from imserver.model import START, UserId, parse_device, parse_position, parse_user
from imserver.protocol import commands
from imserver.protocol.pushes import (
    EMPTY,
    Device,
    DeviceList,
    LogPage,
    ProfileList,
    ProfileShown,
    ProfileVersion,
)
from imserver.routing.trials import Trials
from imserver.security.passwords import Passwords
from imserver.session.context import Context, Handlers
from imserver.session.session import Session
from imserver.store.account_calls import Login, Profile
from imserver.store.accounts import AccountStore

DEVICES_SHOWN = 200
EXPORT_BYTES = 128 * 1024  # of entries in one page
PROFILE_COST = 1  # of each of several


class OwnAccount:
    """Handlers of `devices`, `device.*`, `password`, `export`, `account.delete` and `profile*`."""

    def __init__(self, context: Context, passwords: Passwords, trials: Trials) -> None:
        self._context = context
        self._passwords = passwords
        self._trials = trials

    @property
    def _store(self) -> AccountStore:
        return self._context.store.accounts

    # -- devices

    async def devices(self, session: Session, command: commands.Devices) -> None:
        found = (await self._store.devices(session.user))[:DEVICES_SHOWN]
        session.reply(command.ref, DeviceList([Device(**device._asdict()) for device in found]))

    async def set_device(self, session: Session, command: commands.DeviceSet) -> None:
        await self._store.name_device(session.user, parse_device(command.device), command.name)
        session.reply(command.ref, EMPTY)

    async def revoke(self, session: Session, command: commands.DeviceRevoke) -> None:
        if (command.device is None) != command.others:
            raise BadRequest("device.revoke needs `device`, or `others`: true")
        device = None if command.device is None else parse_device(command.device)
        await self._store.revoke(session.user, device, _login(session))
        session.reply(command.ref, EMPTY)
        if device == session.device:
            session.expelled("revoked")

    # -- the password

    def password(self, session: Session, command: commands.Password) -> None:
        """Into the line."""
        link = self._context.store.link_of(session.user)
        self._context.entrance.arrive(session, command, self._password, link, hashes=True)

    async def _password(self, session: Session, command: commands.Password) -> None:
        user = session.user
        spent = await self._trials.password(session, user)
        known = await self._store.password_hash(user)
        is_old = await self._passwords.is_right(known, command.old)
        if not is_old and not await self._passwords.is_right(known, command.new):
            raise BadCredentials("old: this is not the password")
        self._trials.give_back(spent)
        if not is_old:
            session.reply(command.ref, EMPTY)  # a repeat, whose answer was lost
            return
        assert known is not None
        revoking = _login(session) if command.others == "revoke" else None
        await self._store.set_password(user, known, await self._passwords.hash(command.new), revoking)
        session.reply(command.ref, EMPTY)

    # -- what is kept

    async def export(self, session: Session, command: commands.Export) -> None:
        """All entries of the own log; a page ends early where its entries are large."""
        after = START if command.after is None else parse_position(command.after, "after")
        found = await self._context.store.read_on(session.user, after, command.limit)
        sizes = accumulate(len(entry.content) for entry in found)
        page = [entry for entry, size in zip(found, sizes, strict=True) if size <= EXPORT_BYTES] or found[:1]
        more = len(found) == command.limit or len(page) < len(found)
        session.reply(command.ref, LogPage(page, page[-1].at.decode() if more else None))

    # -- the end

    def delete(self, session: Session, command: commands.AccountDelete) -> None:
        """Into the line."""
        link = self._context.store.link_of(session.user)
        self._context.entrance.arrive(session, command, self._delete, link, hashes=True)

    async def _delete(self, session: Session, command: commands.AccountDelete) -> None:
        spent = await self._trials.password(session, session.user)
        known = await self._store.password_hash(session.user)
        if not await self._passwords.is_right(known, command.password):
            raise BadCredentials("password: this is not the password")
        self._trials.give_back(spent)
        await self._store.erase(session.user, session.place)
        session.reply(command.ref, EMPTY)
        session.expel("revoked", "this account was deleted", reconnect=False)

    # -- profiles

    async def set_profile(self, session: Session, command: commands.ProfileSet) -> None:
        fields = {name: value for name in ("name", "avatar", "about") if (value := getattr(command, name)) is not None}
        if not fields:
            raise BadRequest("profile.set needs one of `name`, `avatar`, `about`")
        session.reply(command.ref, ProfileVersion(await self._store.set_profile(session.user, fields)))

    async def profile(self, session: Session, command: commands.Profile) -> None:
        user = parse_user(command.user)
        found = await self._store.profile(user, session.user)
        session.reply(command.ref, _shown(user, found, command.since))

    async def profiles(self, session: Session, command: commands.Profiles) -> None:
        users = {parse_user(name, "users"): since for name, since in command.users.items()}
        session.charge(PROFILE_COST * len(users))
        answers = await self._store.profiles(list(users), session.user)
        changed: list[ProfileShown] = []
        gone: list[str] = []
        for (user, since), found in zip(users.items(), answers, strict=True):
            if isinstance(found, NotFound):
                gone.append(user)
            elif isinstance(found, ImError):
                raise found
            elif found.version != since:
                changed.append(_shown(user, found))
        session.reply(command.ref, ProfileList(changed, gone))


def _login(session: Session) -> Login:
    assert session.identity is not None
    return Login(session.place, session.identity.generations)


def _shown(user: UserId, found: Profile, since: int = 0) -> ProfileShown:
    """Empty texts are left out."""
    if found.version == since:
        return ProfileShown(user, found.version)
    return ProfileShown(
        user, found.version, found.name or None, found.avatar or None, found.about or None, found.is_bot
    )


def own_account_handlers(own: OwnAccount) -> Handlers:
    """Which rule answers which of the commands about one's own account, and profiles."""
    return {
        commands.Devices: own.devices,
        commands.DeviceSet: own.set_device,
        commands.DeviceRevoke: own.revoke,
        commands.Export: own.export,
        commands.Password: own.password,
        commands.AccountDelete: own.delete,
        commands.ProfileSet: own.set_profile,
        commands.Profile: own.profile,
        commands.Profiles: own.profiles,
    }
