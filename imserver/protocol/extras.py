"""What a message may have beside its body. Each is optional; what is given is checked, and passed on as it is.

A message is referred to by sender, device and id: that is what the logs of both sides have in common, unlike positions.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from imserver.errors import BadRequest
from imserver.protocol.text import check_text

_User = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
_Device = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]
_MessageId = Annotated[str, Meta(pattern=r"^[ -~]{1,64}\Z")]


class Reference(msgspec.Struct, frozen=True, gc=False):
    """A message, as both sides know it."""

    sender: _User = msgspec.field(name="from")
    device: _Device
    id: _MessageId


class Attachment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Where a file is to be had, not the file: under `url`, or under an `id` that means something to the clients."""

    url: Annotated[str, Meta(max_length=2048, pattern=r"^https?://[!-~]+\Z")] | None = None
    id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    type: Annotated[str, Meta(max_length=127, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+\Z")]
    size: Annotated[int, Meta(ge=0, le=2**53)]  # bytes
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None


class Location(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A place on earth, in degrees (WGS 84). `accuracy`: metres."""

    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    accuracy: Annotated[float, Meta(ge=0, le=100_000_000)] | None = None
    label: Annotated[str, Meta(max_length=256)] = ""


class Encrypted(msgspec.Struct, frozen=True, gc=False):
    """What only the clients can read, with the ids of the keys that open it; `body` may be empty then."""

    keys: Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(min_length=1, max_length=64)]
    payload: Annotated[str, Meta(min_length=1)]


EXTRAS = ("reply", "forwarded", "attachment", "location", "encrypted")


def check_extras(extras: dict[str, object]) -> None:
    """What their types can't say. Raises BadRequest that names the field."""
    for field, value in extras.items():
        check_text(msgspec.to_builtins(value), field)
    attachment = extras.get("attachment")
    if isinstance(attachment, Attachment) and (attachment.url is None) == (attachment.id is None):
        raise BadRequest("attachment: one of `url` and `id` is needed, and no more")
