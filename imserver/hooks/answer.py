"""What an endpoint's answer means. Pure."""

from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec

MOST_RETRY_AFTER_SECONDS = 3600.0


class Done(NamedTuple):
    """The entry is the endpoint's now. `reply`: to be said in the conversation; `complaint`: what is wrong with it."""

    reply: str | dict[str, Any] | None = None
    complaint: str = ""


class Failed(NamedTuple):
    """To be posted again. `reason`: a word for the metrics; `retry_after`: seconds, where the endpoint said so."""

    reason: str
    why: str
    retry_after: float | None = None


class _Content(msgspec.Struct):
    reply: str | dict[str, Any] | None = None


def meaning_of(status: int, retry_after: str | None, content: bytes, now: float) -> Done | Failed:
    """`now`: unix seconds. Whatever is not 2xx is a failure: no answer of an endpoint makes an entry be skipped."""
    if not 200 <= status < 300:
        return Failed("status", f"it answered {status}", _seconds(retry_after, now))
    try:
        return Done(msgspec.json.decode(content, type=_Content).reply or None)
    except msgspec.DecodeError as error:
        return Done(None, f"the answer: {error}" if "$.reply" in str(error) else "")  # else it has nothing to say


def _seconds(retry_after: str | None, now: float) -> float | None:
    """A number of seconds, or a date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        seconds = float(retry_after[:9])
    else:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - now
        except ValueError:
            return None
    return min(max(seconds, 0.0), MOST_RETRY_AFTER_SECONDS)
