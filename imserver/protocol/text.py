"""Text: what XML 1.0 can't carry is refused wherever text is taken, since XML clients will read it."""

import re

from imserver.errors import BadRequest

MAX_DEPTH = 64
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_text(value: object, field: str, depth: int = MAX_DEPTH) -> None:
    """Raises BadRequest that names `field` where a string in `value` has a character that XML 1.0 can't carry."""
    if depth == 0:
        raise BadRequest(f"{field}: nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        found = _NOT_XML.search(value)
        if found is not None:
            raise BadRequest(f"{field}: the character U+{ord(found.group()):04X} is not allowed in text")
    elif isinstance(value, list):
        for item in value:
            check_text(item, field, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, field, depth - 1)
            check_text(item, field, depth - 1)
