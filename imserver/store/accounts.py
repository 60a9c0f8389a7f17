"""Accounts as a worker uses them."""

import time
from typing import TYPE_CHECKING

from imserver.model import UserId
from imserver.store import account_calls
from imserver.store.partitions import deployment_key, user_keys

if TYPE_CHECKING:
    from imserver.store.store import Store


class AccountStore:
    """Calls for tasks; any may raise ServiceError."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    async def register(self, user: UserId, password_hash: str) -> None:
        """Raises Exists."""
        keys = user_keys(user)
        link = self._store.link_of(user)
        await link.ask(account_calls.register(keys, password_hash, time.time()), account_calls.registered)

    async def password_hash(self, user: UserId) -> str | None:
        """None where there is no such user, empty where the user can't log in by password."""
        keys = user_keys(user)
        reply = await self._store.link_of(user).ask(account_calls.password_hash(keys))
        return None if reply is None else reply.decode()

    async def signing_keys(self, key_id: str, secret: str) -> dict[str, str]:
        """All keys that sign tokens; key_id and secret are taken where the deployment has none yet."""
        key = deployment_key("keys")
        return account_calls.signing_keys_known(
            await self._store.link_of_deployment().ask(account_calls.signing_keys(key, key_id, secret, rotate=False))
        )
