"""What Redis's refusals mean. Its words stop here."""

from imserver.errors import ImError, Overloaded, Unavailable
from imserver.observe.log import get_logger

log = get_logger("store")

# Somebody may make room at any moment; a client that is refused again and again waits longer each time by itself.
FULL_RETRY_SECONDS = 1.0

# Redis can't do it now but will soon, or not before its functions are loaded again, or another primary can: the link is
# made anew, to whoever holds the slots then, and what has no answer is repeated. MOVED, ASK and TRYAGAIN could be
# followed call by call; but then a call could overtake another one of the same user that was refused just before.
_PASSING = (
    "MOVED",
    "ASK",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "READONLY",
    "BUSY",
    "TRYAGAIN",
    "NOREPLICAS",
    "ERR Function not found",
)


def is_passing(text: str) -> bool:
    return text.startswith(_PASSING)


def is_unwritten(text: str) -> bool:
    """Redis could not write to its file, and refuses what would have to be written."""
    return text.startswith("MISCONF")


def error_of(text: str) -> ImError:
    """What the caller of a refused call gets."""
    if text.startswith("OOM"):
        return Overloaded("the store is full; reading still works", FULL_RETRY_SECONDS)
    log.error("the store refused a call", error=text)
    return Unavailable("the store could not do this")
