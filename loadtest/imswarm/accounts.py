"""Accounts and tokens in bulk, made beside the server, in its store."""

from __future__ import annotations

import json

from imserver.admin import open_admin
from imserver.config import Settings
from imserver.errors import ImError
from imswarm.population import Account

DEVICE = "swarm"
_TOKEN_SECONDS = 86_400


class AccountsError(Exception):
    """The accounts or their tokens could not be made; the text says why."""


def make_accounts(redis_url: str, prefix: str, count: int) -> list[Account]:
    """`count` accounts `PREFIX0`, `PREFIX1`, ... without a password, and a token for each.

    Accounts that exist are used as they are. Raises AccountsError.
    """
    users = [f"{prefix}{number}" for number in range(count)]
    try:
        with open_admin(Settings(redis=redis_url)) as admin:
            admin.user_import(json.dumps({"user": user}) for user in users)
            return [Account(user, DEVICE, admin.token_mint(user, DEVICE, _TOKEN_SECONDS)) for user in users]
    except ImError as error:
        raise AccountsError(f"accounts cannot be made: {error}") from error
