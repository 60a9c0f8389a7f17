"""What becomes of the answer to a call."""

from typing import Any

import outcome

from imserver.errors import ImError
from imserver.observe.log import get_logger
from imserver.store.held import Call

log = get_logger("store")


def fail(call: Call, error: ImError) -> None:
    """Tells who made the call. A bug in handling that costs the one call, not those behind it."""
    try:
        call.then(error)
    except Exception:
        log.exception("a failure could not be handled")


def outcome_of(reply: Any) -> outcome.Outcome[Any]:
    """For the task that waits for it."""
    return outcome.Error(reply) if isinstance(reply, ImError) else outcome.Value(reply)


def ignore(reply: object) -> None:
    """The answer of a call that nobody waits for."""
