"""Accounts as a worker uses them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imserver.errors import Exists, ImError
from imserver.model import Place, UserId
from imserver.store import account_calls, moderation_calls, name_calls
from imserver.store.account_calls import Device, Login, Profile
from imserver.store.answers import answers_of, pairs
from imserver.store.erasing import erasing
from imserver.store.moderation import Moderation
from imserver.store.name_calls import names_key
from imserver.store.partitions import deployment_key, user_keys
from imserver.store.tries import Tries

if TYPE_CHECKING:
    from imserver.store.store import Store


class AccountStore:
    """Calls for tasks; any may raise ServiceError."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self.tries = Tries(store)
        self.moderation = Moderation(store)

    async def register(self, user: UserId, password_hash: str, invite: str | None = None) -> None:
        """Raises Exists; with `invite`, a code, NotAllowed where it is not good."""
        if invite is not None:
            await self._use_invite(invite, user)
        try:
            await self._make(user, password_hash, invite)
        except Exists:
            if invite is not None:
                await self._return_invite(invite, user)
            raise

    async def _use_invite(self, code: str, user: UserId) -> None:
        """One use is this user's before there is the account: whoever is cut off in between takes no second one."""
        if await self.password_hash(user) is not None:
            raise Exists("user: this name is taken")
        command = moderation_calls.use_invite(code, user)
        await self._store.link_of(code).ask(command, moderation_calls.invite_used)

    async def _return_invite(self, code: str, user: UserId) -> None:
        """Somebody else was quicker; but a repeat of what has made the account keeps the use."""
        made_by = await self._store.link_of(user).ask(account_calls.invite_used_by(user_keys(user)))
        if made_by != code.encode():
            await self._store.link_of(code).ask(moderation_calls.return_invite(code, user))

    async def _make(self, user: UserId, password_hash: str, invite: str | None) -> None:
        keys = user_keys(user)
        await self._store.link_of(names_key(user).owner).ask(name_calls.index_name(user))  # first: see names.lua
        making = account_calls.register(keys, password_hash, time.time(), invite=invite)
        await self._store.link_of(user).ask(making, account_calls.registered)

    async def password_hash(self, user: UserId) -> str | None:
        """None where there is no such user, empty where the user can't log in by password."""
        keys = user_keys(user)
        reply = await self._store.link_of(user).ask(account_calls.password_hash(keys))
        return None if reply is None else reply.decode()

    async def set_password(self, user: UserId, old: str, new: str, revoking: Login | None) -> None:
        """Hashes. `revoking`: all tokens but those of this login stop working.

        Raises Conflict, NotFound, ExpiredToken (that login is revoked itself).
        """
        command = account_calls.set_password(user_keys(user), old, new, revoking)
        await self._store.link_of(user).ask(command, account_calls.password_set)

    async def revoke(self, user: UserId, device: str | None, asking: Login) -> None:
        """Tokens of one device; None: of all but the one that asks.

        Raises NotFound, ExpiredToken (the login that asks is revoked itself).
        """
        command = account_calls.revoke(user_keys(user), device, asking)
        await self._store.link_of(user).ask(command, account_calls.revoked)

    async def erase(self, user: UserId, asking: Place) -> None:
        """All that is kept of it. Raises NotFound."""
        steps = erasing(user, int(time.time() * 1000), asking)
        reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as stop:
                if stop.value is not None:
                    raise stop.value from None
                return
            link = self._store.link_of(step.owner) if step.owner else self._store.link_of_deployment()
            reply = await link.ask(step.command)

    # -- devices

    async def devices(self, user: UserId) -> list[Device]:
        """Those that may come in without a password, or are connected; who logged in last first."""
        keys, link = user_keys(user), self._store.link_of(user)
        account = pairs(await link.ask(account_calls.account_fields(keys)))
        return account_calls.devices(account, await link.ask(account_calls.device_fields(keys, account)))

    async def name_device(self, user: UserId, device: str, name: str) -> None:
        """Raises NotFound."""
        command = account_calls.name_device(user_keys(user), device, name)
        await self._store.link_of(user).ask(command, account_calls.device_found)

    # -- profiles

    async def set_profile(self, user: UserId, fields: Mapping[str, str]) -> int:
        """The version after that. Raises NotFound."""
        command = account_calls.set_profile(user_keys(user), int(time.time() * 1000), fields)
        version: int = await self._store.link_of(user).ask(command, account_calls.profile_set)
        return version

    async def profile(self, user: UserId, viewer: UserId) -> Profile:
        """What `viewer` may see. Raises NotFound."""
        command = account_calls.profile(user_keys(user), None if viewer == user else viewer)
        profile: Profile = await self._store.link_of(user).ask(command, account_calls.profile_known)
        return profile

    async def profiles(self, users: Sequence[UserId], viewer: UserId) -> list[Profile | ImError]:
        """The same of each, all asked for at once. NotFound is one of the answers."""

        def asking(user: UserId) -> Callable[[Callable[[Any], None]], None]:
            command = account_calls.profile(user_keys(user), None if viewer == user else viewer)
            link = self._store.link_of(user)
            return lambda then: link.call(command, then, account_calls.profile_known)

        return await answers_of([asking(user) for user in users])

    async def names_from(self, beginning: str, most: int) -> list[UserId]:
        """Names of users that begin so, perhaps of some who are no more."""
        link = self._store.link_of(names_key(beginning).owner)
        return name_calls.names(await link.ask(name_calls.names_from(beginning, most)))

    # -- tokens

    async def signing_keys(self, key_id: str, secret: str) -> dict[str, str]:
        """All keys that sign tokens; key_id and secret are taken where the deployment has none yet."""
        key = deployment_key("keys")
        return account_calls.signing_keys_known(
            await self._store.link_of_deployment().ask(account_calls.signing_keys(key, key_id, secret, rotate=False))
        )
