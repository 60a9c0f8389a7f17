"""What can go wrong for a client: the errors of the server under the same names, and two of the client's own.

imserver.errors.ImError           str() of each is a sentence for a person; see there for the whole tree
|-- RequestError, ServiceError    what the server answered; `code` is its word for it, `retry` its hint in seconds
|   `-- ConnectionLost            there is no connection, and the request is not one that is repeated by itself
`-- SessionEnded                  the server ended the session for good
"""

from imserver.errors import CODES, ImError, Overloaded, RateLimited, RequestError, ServiceError
from imserver.protocol.pushes import Failure


class ConnectionLost(ServiceError):
    """No connection, or it broke before the answer: the outcome of the request is unknown."""

    code = "connection-lost"


class SessionEnded(ImError):
    """The server closed the session and wants no return; `code` is that of its `bye`, such as `replaced`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text or f"the server ended the session: {code}")
        self.code = code


def error_of(failure: Failure) -> ImError:
    """The error that the server's `err` stands for; a code that this version doesn't know gives a RequestError."""
    for kind in (RateLimited, Overloaded):
        if failure.code == kind.code:
            return kind(failure.text, failure.retry or 1.0)
    error = CODES.get(failure.code, RequestError)(failure.text or failure.code)
    error.code = failure.code
    if failure.retry is not None:
        error.retry = failure.retry
    return error
