"""Login tokens: signed, so that any node can check one in microseconds without asking anybody.

A token is `<claims>.<signature>`, both base64url; the claims are JSON. The signing keys are the deployment's, kept in
the store, and can be rotated: new tokens carry the new key, old ones stay good until they expire. Revoking works by
generations: the claims carry the account's, and the store compares them in the same step in which it lets the session
in (store/functions/directory.lua, attach).
"""

import base64
import binascii
import hmac
import secrets

import msgspec

from imserver.errors import BadCredentials, ExpiredToken
from imserver.model import DeviceId, UserId

CURRENT = "current"


class Claims(msgspec.Struct, frozen=True):
    """What a token says. `generations`: "user.device", as the account had them."""

    user: UserId
    device: DeviceId
    expires: int  # unix seconds
    generations: str
    key: str


class UnknownKey(BadCredentials):
    """Signed with a key that is not known here: new, perhaps."""


_decoder = msgspec.json.Decoder(Claims)


def new_key() -> tuple[str, str]:
    """A key's id and its secret."""
    return secrets.token_hex(4), secrets.token_hex(32)


def sign(keys: dict[str, str], user: UserId, device: DeviceId, expires: int, generations: str) -> str:
    """A token under the current one of `keys` (id -> secret, `current` -> id)."""
    key = keys[CURRENT]
    claims = _base64(msgspec.json.encode(Claims(user, device, expires, generations, key)))
    return (claims + b"." + _signature(keys[key], claims)).decode()


def claimed_user(token: str) -> UserId:
    """Whose token it says it is: not checked. Raises BadCredentials where it can't be read."""
    return _read(token.encode().partition(b".")[0]).user


def check(keys: dict[str, str], token: str, now: float) -> Claims:
    """What a token claims. Raises UnknownKey, BadCredentials, ExpiredToken."""
    encoded, _, signature = token.encode().partition(b".")
    claims = _read(encoded)
    secret = keys.get(claims.key)
    if secret is None or claims.key == CURRENT:
        raise UnknownKey("token: signed with a key that is not known")
    if not hmac.compare_digest(_signature(secret, encoded), signature):
        raise BadCredentials("token: the signature is wrong")
    if claims.expires <= now:
        raise ExpiredToken("token: expired; log in by password")
    return claims


def _read(encoded: bytes) -> Claims:
    try:
        return _decoder.decode(base64.urlsafe_b64decode(encoded))
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError):
        raise BadCredentials("token: not one of ours") from None


def _signature(secret: str, claims: bytes) -> bytes:
    return _base64(hmac.digest(secret.encode(), claims, "sha256"))


def _base64(data: bytes) -> bytes:
    """With its padding: the decoder wants it."""
    return base64.urlsafe_b64encode(data)
