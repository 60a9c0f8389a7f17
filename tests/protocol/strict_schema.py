"""The protocol's schema without room for more: what the server says must be described, to the last field."""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.protocol.reference import DOCUMENT

_KINDS = {
    name: {**kind, "additionalProperties": False} if "properties" in kind else kind
    for name, kind in DOCUMENT["$defs"].items()
}


@cache
def _validator(place: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": place, "$defs": _KINDS})


@cache
def _request_validator(op: str) -> Draft202012Validator:
    return Draft202012Validator({**DOCUMENT["commands"][op]["request"], "$defs": DOCUMENT["$defs"]})


def check_request(frame: dict[str, Any]) -> None:
    """The server ignores fields that it does not know. Raises ValidationError."""
    _request_validator(frame["op"]).validate(frame)


def check_ok(op: str, ok: object) -> None:
    """What the reply to a request has. Raises ValidationError."""
    _validator(DOCUMENT["commands"][op]["ok"]["$ref"]).validate(ok)


def check_reply(frame: dict[str, Any]) -> None:
    """But for its `ok`. Raises ValidationError, and AssertionError for an error code that is not described."""
    _validator("#/$defs/Reply").validate(frame)
    if "err" in frame:
        assert frame["err"]["code"] in DOCUMENT["errors"]


def check_push(frame: dict[str, Any]) -> None:
    """Raises ValidationError, and AssertionError for one that is not described."""
    assert frame["ev"] in DOCUMENT["pushes"], f"no push is called {frame['ev']}"
    _validator(DOCUMENT["pushes"][frame["ev"]]["$ref"]).validate(frame)
