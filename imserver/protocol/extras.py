"""What a message may have beside its body. Each is optional; what is given is checked, and passed on as it is.

A message is referred to by sender, device and id: that is what the logs of both sides have in common, unlike positions.
"""

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from imserver.errors import BadRequest
from imserver.model import parse_device, parse_message_id, parse_user
from imserver.protocol.text import check_text

_URL, _MEDIA_TYPE, _SHA256 = "https?://[!-~]+", "[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+", "[0-9a-f]{64}"
_USER = "[a-z0-9][a-z0-9._-]{0,63}"


def _like(pattern: str) -> dict[str, object]:
    """What is shown to those who write clients; what is checked is below, and in `model`."""
    return {"pattern": f"^{pattern}$"}


MESSAGE_ID = _like("[ -~]{1,64}")


class Reference(msgspec.Struct, frozen=True, gc=False):
    """A message, as both sides know it."""

    sender: Annotated[str, Meta(extra_json_schema=_like(_USER))] = msgspec.field(name="from")
    device: Annotated[str, Meta(extra_json_schema=_like("[A-Za-z0-9._-]{1,64}"))]
    id: Annotated[str, Meta(extra_json_schema=MESSAGE_ID)]


class Attachment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Where a file is to be had, not the file: under `url`, or under an `id` that means something to the clients."""

    url: Annotated[str, Meta(max_length=2048, extra_json_schema=_like(_URL))] | None = None
    id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    type: Annotated[str, Meta(max_length=127, extra_json_schema=_like(_MEDIA_TYPE))]
    size: Annotated[int, Meta(ge=0, le=2**53)]  # bytes
    sha256: Annotated[str, Meta(extra_json_schema=_like(_SHA256))] | None = None


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


# Members of the group that are addressed. More, and it is for everybody anyway.
Mentions = Annotated[list[Annotated[str, Meta(extra_json_schema=_like(_USER))]], Meta(max_length=20)]

EXTRAS = ("reply", "forwarded", "attachment", "location", "encrypted", "mentions")


def check_extras(extras: dict[str, object]) -> None:
    """What their types can't say. Raises BadRequest that names the field."""
    for field, value in extras.items():
        check_text(msgspec.to_builtins(value), field)
        if isinstance(value, Reference):
            check_reference(value, field)
        elif isinstance(value, Attachment):
            _check_attachment(value, field)
        elif field == "mentions":
            assert isinstance(value, list)
            for name in value:
                _check_user(name, field)


def check_reference(reference: Reference, field: str) -> None:
    """Raises BadRequest that names the field."""
    _check_user(reference.sender, f"{field}.from")
    parse_device(reference.device, f"{field}.device")
    parse_message_id(reference.id, f"{field}.id")


def _check_user(name: str, field: str) -> None:
    """What is passed on as it is must be as it is known to others."""
    if parse_user(name, field) != name:
        raise BadRequest(f"{field}: {name} is written in small letters")


def _check_attachment(attachment: Attachment, field: str) -> None:
    if (attachment.url is None) == (attachment.id is None):
        raise BadRequest(f"{field}: one of `url` and `id` is needed, and no more")
    if attachment.url is not None and not re.fullmatch(_URL, attachment.url):
        raise BadRequest(f"{field}.url: not a URL of http or https, without spaces")
    if not re.fullmatch(_MEDIA_TYPE, attachment.type):
        raise BadRequest(f"{field}.type: not a media type such as image/png")
    if attachment.sha256 is not None and not re.fullmatch(_SHA256, attachment.sha256):
        raise BadRequest(f"{field}.sha256: 64 of 0-9 a-f are needed")
