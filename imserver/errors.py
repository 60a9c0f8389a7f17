"""Every error of the server, and the word for it on the wire.

    ImError                       its str() can be shown to a person
    |-- RequestError              the client's request can't be done; `code` goes out, the session stays open
    |   |-- BadFrame  BadRequest  UnknownOp  TooLarge
    |   |-- NotLoggedIn  BadCredentials  ExpiredToken
    |   |-- Exists  NotFound  NotAllowed  Blocked  Conflict
    |   `-- RateLimited
    |-- ServiceError              not the client's fault; it may try again
    |   |-- Overloaded            not done; `retry` says when it may be
    |   `-- Unavailable           the store is out of reach: the outcome may be unknown
    |-- FramingError              the byte stream itself is broken: `bye`, then close
    `-- SetupError                the operator's: a setting, a data directory, a store that can't be used

Errors of Redis and of sockets stop at the border (`store`, `wire`) and never reach `routing` or `session`.
"""


class ImError(Exception):
    """Base of all; `str(error)` is a sentence for a person."""

    code = "unavailable"
    retry: float | None = None  # seconds after which trying again makes sense


class RequestError(ImError):
    """The request can't be done as it was made."""

    code = "bad-request"


class BadFrame(RequestError):
    code = "bad-frame"


class BadRequest(RequestError):
    code = "bad-request"


class UnknownOp(RequestError):
    code = "unknown-op"


class TooLarge(RequestError):
    code = "too-large"


class NotLoggedIn(RequestError):
    code = "not-logged-in"


class BadCredentials(RequestError):
    code = "bad-credentials"


class ExpiredToken(RequestError):
    code = "expired-token"


class Exists(RequestError):
    code = "exists"


class NotFound(RequestError):
    code = "not-found"


class NotAllowed(RequestError):
    code = "not-allowed"


class Blocked(RequestError):
    code = "blocked"


class Conflict(RequestError):
    code = "conflict"


class RateLimited(RequestError):
    code = "rate-limited"

    def __init__(self, text: str, retry: float) -> None:
        super().__init__(text)
        self.retry = retry


class ServiceError(ImError):
    """The server can't do it now; the same request, sent again, may succeed."""


class Overloaded(ServiceError):
    code = "overloaded"

    def __init__(self, text: str, retry: float) -> None:
        super().__init__(text)
        self.retry = retry


class Unavailable(ServiceError):
    code = "unavailable"
    retry = 2.0


class FramingError(ImError):
    """The peer's byte stream can't be cut into frames any more; the connection MUST be closed."""

    code = "bad-frame"

    def __init__(self, text: str, frames: list[bytes] | None = None) -> None:
        """`frames`: those that were complete before the break; they count."""
        super().__init__(text)
        self.frames = frames or []


class SetupError(ImError):
    """Something the operator must mend before the server can run."""
