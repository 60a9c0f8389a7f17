"""The content of an answer, as the type that was asked for."""

from typing import TypeVar

import msgspec

from imserver.errors import BadFrame

T = TypeVar("T")


def decoded(content: msgspec.Raw, kind: type[T]) -> T:
    """Raises BadFrame."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise BadFrame(f"the server's answer is not what was asked for: {error}") from None
