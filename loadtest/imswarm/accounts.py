"""Accounts and tokens in bulk, made beside the server, in its store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from imserver.admin import open_admin
from imserver.config import Settings
from imserver.errors import ImError
from imserver.security.passwords import hash_now
from imswarm.population import Account

DEVICE = "swarm"
_TOKEN_SECONDS = 86_400


class AccountsError(Exception):
    """The accounts or their tokens could not be made; the text says why."""


def make_accounts(redis_url: str, prefix: str, count: int) -> list[Account]:
    """`count` accounts `PREFIX0`, `PREFIX1`, ... without a password, and a token for each.

    Accounts that exist are used as they are. Raises AccountsError.
    """
    return make_devices(redis_url, [(f"{prefix}{number}", DEVICE) for number in range(count)])


def make_devices(redis_url: str, devices: Sequence[tuple[str, str]]) -> list[Account]:
    """The accounts of these users and devices, without a password, and a token for each device.

    Accounts that exist are used as they are. Raises AccountsError.
    """
    try:
        with open_admin(Settings(redis=redis_url)) as admin:
            admin.user_import(json.dumps({"user": user}) for user in dict.fromkeys(user for user, _ in devices))
            tokens = admin.tokens_mint(devices, _TOKEN_SECONDS)
            return [Account(*device, token) for device, token in zip(devices, tokens, strict=True)]
    except ImError as error:
        raise AccountsError(f"accounts cannot be made: {error}") from error


def make_contacts(redis_url: str, pairs: Iterable[tuple[str, str]]) -> None:
    """The two of each pair are contacts of one another. Raises AccountsError."""
    try:
        with open_admin(Settings(redis=redis_url)) as admin:
            for one, other in pairs:
                admin.contact_add(one, other)
    except ImError as error:
        raise AccountsError(f"contacts cannot be made: {error}") from error


def log_ends(redis_url: str, users: Iterable[str]) -> dict[str, str]:
    """By user, the position that its log ends at. Raises AccountsError."""
    try:
        with open_admin(Settings(redis=redis_url)) as admin:
            return {user: admin.log_end(user) for user in users}
    except ImError as error:
        raise AccountsError(f"the logs cannot be read: {error}") from error


def make_and_delete(redis_url: str, user: str) -> None:
    """An account that was there and is not any more. Raises AccountsError."""
    try:
        with open_admin(Settings(redis=redis_url)) as admin:
            admin.user_import([json.dumps({"user": user})])
            admin.user_delete(user)
    except ImError as error:
        raise AccountsError(f"accounts cannot be made: {error}") from error


def make_password_accounts(redis_url: str, prefix: str, count: int, password: str) -> list[Account]:
    """The same with one password for all, hashed as the server would, instead of tokens. Raises AccountsError."""
    users = [f"{prefix}{number}" for number in range(count)]
    settings = Settings(redis=redis_url)
    known = hash_now(password, memory_kib=settings.password_memory_kib, rounds=settings.password_rounds)
    try:
        with open_admin(settings) as admin:
            admin.user_import(json.dumps({"user": user, "hash": known}) for user in users)
    except ImError as error:
        raise AccountsError(f"accounts cannot be made: {error}") from error
    return [Account(user, DEVICE, password) for user in users]
