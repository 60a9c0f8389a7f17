"""The functions about accounts as commands, and their replies as types. Pure, as `calls` is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from imserver.errors import Conflict, Exists, ExpiredToken, ImError, NotFound
from imserver.model import Place
from imserver.store.calls import Packed, call, pack
from imserver.store.partitions import UserKeys, due_key

NO_OWNER = "-"


class Login(NamedTuple):
    """A session that asks for something: where it is, and the generations of its token."""

    place: Place
    generations: str


def register(
    keys: UserKeys, password_hash: str, now: float, bot: str | None = None, invite: str | None = None
) -> Packed:
    """`bot`: its owner, or NO_OWNER; None where it is no bot. `invite`: the code by which the user comes."""
    by_invite = () if invite is None else (invite,)
    of_bot = () if bot is None and not by_invite else (bot or "",)
    return call(b"im_register_2", (keys.state, keys.account), password_hash, int(now), *of_bot, *by_invite)


def registered(reply: list[Any]) -> ImError | None:
    """The error is Exists."""
    return None if reply[0] == b"ok" else Exists("user: this name is taken")


def password_hash(keys: UserKeys) -> Packed:
    return pack(b"HGET", keys.account, b"password")


def invite_used_by(keys: UserKeys) -> Packed:
    """The code with which the user was registered, or None."""
    return pack(b"HGET", keys.account, b"invite")


def set_password(keys: UserKeys, old: str, new: str, revoking: Login | None) -> Packed:
    """Hashes. `revoking`: all tokens but those of this login stop working."""
    asking = ("", "") if revoking is None else revoking
    return call(b"im_set_password_2", (keys.state, keys.account), old, new, *asking)


def password_set(reply: list[Any]) -> ImError | None:
    """The errors are Conflict, NotFound and ExpiredToken."""
    if reply[0] == b"changed":
        return Conflict("old: the password was changed meanwhile")
    return revoked(reply)


def revoke(keys: UserKeys, device: str | None, asking: Login | None = None) -> Packed:
    """`asking`: this session is not told; with all devices, its token stays good."""
    place, generations = ("", "") if asking is None else asking
    return call(b"im_revoke_2", (keys.state, keys.account), device or b"", place, generations)


def revoked(reply: list[Any]) -> ImError | None:
    """The errors are NotFound (user or device) and ExpiredToken (the login of whoever asks is revoked itself)."""
    return ExpiredToken("this login was revoked") if reply[0] == b"revoked" else device_found(reply)


def erase(keys: UserKeys, asking: Place | None = None) -> Packed:
    """`asking`: this session is not told."""
    of_user = (keys.state, keys.account, keys.log, keys.roster, keys.versions, keys.groups)
    more = (keys.conversations, keys.changes, keys.expiring, keys.waiting, due_key(keys.partition))
    return call(b"im_erase_2", of_user + more, asking or b"")


def found(reply: list[Any]) -> ImError | None:
    """The error is NotFound."""
    return None if reply[0] == b"ok" else NotFound("there is no such user")


def device_found(reply: list[Any]) -> ImError | None:
    """The error is NotFound."""
    if reply[0] == b"no-device":
        return NotFound("device: no device of that name has ever logged in")
    return found(reply)


# -- devices


class Device(NamedTuple):
    """Times are unix seconds. `seen`: when its connection ended last; None: it is connected, or nobody knows."""

    device: str
    name: str
    created: int
    login: int
    seen: int | None
    connected: bool


_FIRST = b"first:"


def account_fields(keys: UserKeys) -> Packed:
    """The first of two calls for `devices`."""
    return pack(b"HGETALL", keys.account)


def device_fields(keys: UserKeys, account: Mapping[bytes, bytes]) -> Packed:
    """The second one: who is connected, and of each device its logins and when it left."""
    fields = (kind + device for device in _devices_of(account) for kind in (b"s:", b"l:"))
    return pack(b"HMGET", keys.state, b"on", *fields)


def devices(account: Mapping[bytes, bytes], reply: list[bytes | None]) -> list[Device]:
    """Those that may come in without a password, or are connected; who logged in last first."""
    on, *fields = reply
    connected = {place.partition(b"=")[0] for place in (on or b"").split(b" ")}
    known = []
    for device, logins, left in zip(_devices_of(account), fields[::2], fields[1::2], strict=True):
        if logins is None:
            continue  # the account was erased in between
        _, login, generations = logins.split(b" ")
        if device in connected or _is_good(device, generations, account):
            created, name = int(account[_FIRST + device]), account.get(b"d:" + device, b"").decode()
            seen = None if left is None or device in connected else int(left)
            known.append(Device(device.decode(), name, created, int(login), seen, device in connected))
    return sorted(known, key=lambda device: (-device.login, device.device))


def _devices_of(account: Mapping[bytes, bytes]) -> list[bytes]:
    return [field.removeprefix(_FIRST) for field in account if field.startswith(_FIRST)]


def _is_good(device: bytes, generations: bytes, account: Mapping[bytes, bytes]) -> bool:
    now = b"%b.%b" % (account.get(b"generation", b"0"), account.get(b"generation:" + device, b"0"))
    return generations == now or account.get(b"spared") == b"%b %b" % (device, generations)


def name_device(keys: UserKeys, device: str, name: str) -> Packed:
    return call(b"im_name_device_2", (keys.account,), device, name)


# -- profiles


class Profile(NamedTuple):
    """What a user shows to another one. `version`: grows with each change of what is shown; 0: nothing.

    `is_hidden`: blocks the one who looks.
    """

    version: int
    name: str
    avatar: str
    about: str
    is_hidden: bool = False
    is_bot: bool = False


HIDDEN = Profile(0, "", "", "", is_hidden=True)


def set_profile(keys: UserKeys, now_ms: int, fields: Mapping[str, str]) -> Packed:
    return call(b"im_set_profile_2", (keys.account,), now_ms, *(part for item in fields.items() for part in item))


def profile_set(reply: list[Any]) -> int | ImError:
    """The version, as the user sees it. The error is NotFound."""
    return _version(reply[1], True) if reply[0] == b"ok" else NotFound("there is no such user")


def profile(keys: UserKeys, viewer: str | None) -> Packed:
    """`viewer`: None is the user."""
    return call(b"im_profile_2", (keys.account, keys.roster), viewer or b"")


def profile_known(reply: list[Any]) -> Profile | ImError:
    """The error is NotFound."""
    if reply[0] == b"not-found":
        return NotFound("user: there is no such user")
    if reply[0] == b"hidden":
        return HIDDEN
    version, shows_all, is_bot, *texts = reply
    name, avatar, about = (text.decode() for text in texts)
    return Profile(_version(version, bool(shows_all)), name, avatar, about, is_bot=bool(is_bot))


def _version(version: int, shows_all: bool) -> int:
    """Who becomes a contact sees more, at another version."""
    return 2 * version + shows_all if version else 0


def signing_keys(key: bytes, key_id: str, secret: str, *, rotate: bool) -> Packed:
    return call(b"im_signing_keys_2", (key,), key_id, secret, b"rotate" if rotate else b"first")


def signing_keys_known(reply: list[Any]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in zip(reply[::2], reply[1::2], strict=True)}
