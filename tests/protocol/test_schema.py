"""The published description of the protocol is what the code says, and the code keeps to it."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]

from imserver import errors
from imserver.errors import CODES, BadRequest, ImError, RequestError, ServiceError
from imserver.model import parse_address, parse_device, parse_group, parse_message_id, parse_position, parse_user
from imserver.protocol.commands import base, messages
from imserver.protocol.schema import DIALECT, encoded
from tests.protocol.reference import DOCUMENT, HOW, PROTOCOL, SCHEMA, written
from tests.protocol.strict_schema import check_ok, check_push, check_reply, check_request

EXAMPLES = [
    json.loads(line)
    for block in re.findall(r"```json\n(.*?)```", PROTOCOL.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]


def test_it_is_a_schema_of_its_dialect() -> None:
    assert DOCUMENT["$schema"] == DIALECT == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(DOCUMENT)


def test_every_reference_leads_somewhere() -> None:
    places = set(re.findall(r'"\$ref": ?"#/\$defs/(\w+)"', encoded().decode()))
    assert places <= set(DOCUMENT["$defs"])


def test_the_files_in_docs_are_what_the_code_says() -> None:
    assert SCHEMA.read_bytes() == encoded(), f"run {HOW}"
    text = PROTOCOL.read_text(encoding="utf-8")
    assert written(text) == text, f"run {HOW}"


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="one place for the table of requests"):
        written("# The native protocol")


@pytest.mark.parametrize("frame", EXAMPLES, ids=json.dumps)
def test_every_example_is_valid(frame: dict[str, object]) -> None:
    Draft202012Validator(DOCUMENT).validate(frame)


def test_every_error_that_a_client_may_be_told_has_a_meaning() -> None:
    told = {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, RequestError | ServiceError)
    }
    assert told <= set(CODES)
    assert all(DOCUMENT["errors"].values())


def test_what_is_not_described_is_found() -> None:
    check_push({"ev": "synced", "at": "1-0"})
    with pytest.raises(ValidationError, match="'extra' was unexpected"):
        check_push({"ev": "synced", "at": "1-0", "extra": 1})
    with pytest.raises(AssertionError, match="no push is called later"):
        check_push({"ev": "later"})
    with pytest.raises(ValidationError, match="'id' is a required property"):
        check_ok("send", {"at": "1-0"})
    with pytest.raises(ValidationError):
        check_reply({"re": 1, "ok": {}, "err": {"code": "not-found", "text": ""}})
    with pytest.raises(AssertionError):
        check_reply({"re": 1, "err": {"code": "of-its-own", "text": ""}})
    with pytest.raises(ValidationError, match="'#tea' does not match"):
        check_request({"op": "block", "user": "#tea"})


LONG_NAME = r"#?[a-z0-9]{60,70}|[0-9]{1,16}-[0-9]{1,16}"
PARSERS: dict[str, tuple[Any, Callable[[str], object]]] = {
    "user": (base.User, parse_user),
    "group": (base.Group, parse_group),
    "to": (base.Address, parse_address),
    "device": (base.Device, parse_device),
    "position": (base.PositionText, lambda text: parse_position(text, "at")),
    "id": (messages.MessageId, parse_message_id),
}


@pytest.mark.parametrize("name", PARSERS)
@given(
    text=st.text("aZ09._-#! \n\u00e9", max_size=66)
    | st.from_regex(r"#?[a-z0-9]{60,70}|[0-9]{1,16}-[0-9]{1,16}", fullmatch=True)
)
def test_the_pattern_of_a_name_is_what_is_checked(name: str, text: str) -> None:
    kind, parse = PARSERS[name]
    pattern = next(meta.extra_json_schema["pattern"] for meta in kind.__metadata__ if meta.extra_json_schema)
    try:
        parse(text)
        allowed = True
    except ImError as error:
        assert isinstance(error, BadRequest)
        allowed = False
    # ECMA's `$`, which JSON Schema means, is the very end; Python's is also before a last line end.
    assert bool(re.fullmatch(pattern.strip("^$"), text)) == allowed
