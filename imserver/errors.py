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
    """Not a JSON object."""

    code = "bad-frame"


class BadRequest(RequestError):
    """A field is missing, of the wrong type, too long, or has characters that are not allowed; the text names it."""

    code = "bad-request"


class UnknownOp(RequestError):
    """There is no such request."""

    code = "unknown-op"


class TooLarge(RequestError):
    """It does not fit into a frame. Client libraries say so; the server says `bye`."""

    code = "too-large"


class NotLoggedIn(RequestError):
    """Log in first."""

    code = "not-logged-in"


class BadCredentials(RequestError):
    """Wrong user, password or token."""

    code = "bad-credentials"


class ExpiredToken(RequestError):
    """The token has expired or was revoked: log in by password."""

    code = "expired-token"


class Exists(RequestError):
    """The name is taken."""

    code = "exists"


class NotFound(RequestError):
    """There is no such user or group, or it is hidden from you."""

    code = "not-found"


class NotAllowed(RequestError):
    """Not for you: registration is closed, the account is disabled, you are logged in already, only contacts may write.

    Or a list is full, or others rule the group.
    """

    code = "not-allowed"


class Blocked(RequestError):
    """Who it is for takes nothing from you."""

    code = "blocked"


class Conflict(RequestError):
    """Something must be undone first, or a limit of groups is reached: the text says what."""

    code = "conflict"


class RateLimited(RequestError):
    """Too many requests; after too many of these, `bye` with `flood`."""

    code = "rate-limited"

    def __init__(self, text: str, retry: float) -> None:
        super().__init__(text)
        self.retry = retry


class ServiceError(ImError):
    """The server can't do it now; the same request, sent again, may succeed."""


class Overloaded(ServiceError):
    """Not done: there is too much to do, or the store is full. `retry` is always there, and another for each client."""

    code = "overloaded"

    def __init__(self, text: str, retry: float) -> None:
        super().__init__(text)
        self.retry = retry


class Unavailable(ServiceError):
    """The store is out of reach; the outcome may be unknown: send again with the same `id`."""

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


# What a client may be told, by the word for it; the docstrings are what the protocol's description says of each.
CODES: dict[str, type[ImError]] = {
    error.code: error
    for error in (
        BadFrame,
        UnknownOp,
        BadRequest,
        TooLarge,
        NotLoggedIn,
        BadCredentials,
        ExpiredToken,
        NotAllowed,
        Exists,
        NotFound,
        Blocked,
        Conflict,
        RateLimited,
        Overloaded,
        Unavailable,
    )
}
