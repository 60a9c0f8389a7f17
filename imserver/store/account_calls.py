"""The functions about accounts as commands, and their replies as types. Pure, as `calls` is."""

from typing import Any

from imserver.errors import Exists, ImError, NotFound
from imserver.store.calls import Packed, call, pack
from imserver.store.partitions import UserKeys

NO_OWNER = "-"


def register(keys: UserKeys, password_hash: str, now: float, bot: str | None = None) -> Packed:
    """`bot`: its owner, or NO_OWNER; None where it is no bot."""
    of_bot = () if bot is None else (bot,)
    return call(b"im_register_2", (keys.state, keys.account), password_hash, int(now), *of_bot)


def registered(reply: list[Any]) -> ImError | None:
    """The error is Exists."""
    return None if reply[0] == b"ok" else Exists("user: this name is taken")


def password_hash(keys: UserKeys) -> Packed:
    return pack(b"HGET", keys.account, b"password")


def revoke(keys: UserKeys, device: str | None) -> Packed:
    return call(b"im_revoke_2", (keys.state, keys.account), device or b"")


def erase(keys: UserKeys) -> Packed:
    of_user = (keys.state, keys.account, keys.log, keys.roster, keys.versions, keys.groups)
    return call(b"im_erase_2", (*of_user, keys.conversations, keys.changes))


def found(reply: list[Any]) -> ImError | None:
    """The error is NotFound."""
    return None if reply[0] == b"ok" else NotFound("there is no such user")


def signing_keys(key: bytes, key_id: str, secret: str, *, rotate: bool) -> Packed:
    return call(b"im_signing_keys_2", (key,), key_id, secret, b"rotate" if rotate else b"first")


def signing_keys_known(reply: list[Any]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in zip(reply[::2], reply[1::2], strict=True)}
