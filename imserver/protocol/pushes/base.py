"""What all replies and pushes have."""

import msgspec
from msgspec import UNSET, UnsetType

Ref = int | str | None


class Empty(msgspec.Struct, gc=False):
    """The `ok` of a request that has nothing to tell."""


EMPTY = Empty()


class Failure(msgspec.Struct, omit_defaults=True, gc=False):
    """The `err` of a reply; `retry`: seconds after which the same request may succeed."""

    code: str
    text: str
    retry: float | None = None


class Reply(msgspec.Struct, omit_defaults=True):
    """Exactly one of `ok` and `err` is there."""

    re: Ref
    ok: msgspec.Raw | UnsetType = UNSET
    err: Failure | UnsetType = UNSET


class Push(msgspec.Struct, tag_field="ev", omit_defaults=True, gc=False):
    """Base of all that comes unasked."""


class ErrorPush(Push, tag="error"):
    """An error that answers no `ref`."""

    code: str
    text: str
    retry: float | None = None


class UnknownPush(msgspec.Struct):
    """An event of a newer server: to be ignored."""

    ev: str


class Shared(msgspec.Struct, gc=False):
    """A push for many sessions. `encoded` belongs to the codec: encoded once, the bytes are shared."""

    push: Push
    encoded: bytes | None = None
