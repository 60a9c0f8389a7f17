"""What a message may have beside its body: what is taken, and errors that name the field."""

from typing import Any

import msgspec
import pytest

from imserver.errors import BadRequest
from imserver.model import DeviceId, UserId
from imserver.protocol import codec
from imserver.protocol.commands import Send
from imserver.protocol.pushes import MessagePush
from imserver.store.stored import Sender, expires_of, head_of, with_expires, with_extras

REFERENCE = {"from": "ann", "device": "laptop", "id": "c 1"}
FILE = {"name": "a.txt", "type": "text/plain", "size": 0}
GOOD: list[tuple[str, Any]] = [
    ("reply", REFERENCE),
    ("forwarded", REFERENCE),
    ("attachment", {"url": "https://files.example/a?b=1", **FILE, "sha256": "0123456789abcdef" * 4}),
    ("attachment", {"id": "blob 17", **FILE}),
    ("location", {"lat": -90.0, "lon": 180.0}),
    ("location", {"lat": 1.5, "lon": 2.5, "accuracy": 3.0, "label": "here"}),
    ("encrypted", {"keys": ["k"], "payload": "x"}),
    ("mentions", ["ann", "ben"]),
]
BAD: list[tuple[str, Any, str]] = [
    ("reply", {**REFERENCE, "from": "Ann"}, r"reply\.from: Ann is written"),
    ("reply", {**REFERENCE, "from": "#room"}, r"reply\.from: "),
    ("reply", {**REFERENCE, "device": "a b"}, r"reply\.device: "),
    ("forwarded", {**REFERENCE, "id": "x" * 65}, r"forwarded\.id: "),
    ("forwarded", {"from": "ann", "device": "d"}, r"`id` - at `\$\.forwarded`"),
    ("attachment", {**FILE}, "attachment: one of"),
    ("attachment", {**FILE, "url": "https://a/b", "id": "b"}, "attachment: one of"),
    ("attachment", {**FILE, "url": "javascript:alert(1)"}, r"attachment\.url: "),
    ("attachment", {**FILE, "url": "https://a/" + "b" * 2048}, r"\$\.attachment\.url"),
    ("attachment", {**FILE, "id": "b", "name": ""}, r"\$\.attachment\.name"),
    ("attachment", {**FILE, "id": "b", "name": "x" * 256}, r"\$\.attachment\.name"),
    ("attachment", {**FILE, "id": "b", "name": "\u0001"}, "attachment: the character"),
    ("attachment", {**FILE, "id": "b\ufffe"}, "attachment: the character"),
    ("attachment", {**FILE, "id": "b", "type": "text"}, r"attachment\.type: "),
    ("attachment", {**FILE, "id": "b", "size": -1}, r"\$\.attachment\.size"),
    ("attachment", {**FILE, "id": "b", "sha256": "A" * 64}, r"attachment\.sha256: "),
    ("location", {"lat": 0, "lon": -181}, r"\$\.location\.lon"),
    ("location", {"lat": "north", "lon": 0}, r"\$\.location\.lat"),
    ("location", {"lat": 0, "lon": 0, "accuracy": -1}, r"\$\.location\.accuracy"),
    ("location", {"lat": 0, "lon": 0, "label": "x" * 257}, r"\$\.location\.label"),
    ("encrypted", {"keys": [], "payload": "x"}, r"\$\.encrypted\.keys"),
    ("encrypted", {"keys": ["k"] * 65, "payload": "x"}, r"\$\.encrypted\.keys"),
    ("encrypted", {"keys": ["k"], "payload": ""}, r"\$\.encrypted\.payload"),
    ("mentions", ["ann", "Ben"], "mentions: Ben is written"),
    ("mentions", ["#room"], "mentions: "),
    ("mentions", ["ann"] * 21, r"\$\.mentions"),
    ("mentions", "ann", r"\$\.mentions"),
]


def sent(field: str, value: Any) -> Send:
    frame = {"op": "send", "id": "c", "to": "ben", "body": "", field: value}
    command = codec.decode_command(msgspec.json.encode(frame))
    assert isinstance(command, Send)
    return command


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_what_is_given_comes_out_as_it_was(field: str, value: Any) -> None:
    command = sent(field, value)
    assert command.has_extras
    plain = b'{"ev":"msg","at":"2-0","prev":"1-0","from":"a","device":"d","to":"b","id":"c","body":"x"}'
    content = with_extras(plain, command.checked_extras())
    push = codec.decode_server_frame(content)
    assert isinstance(push, MessagePush)
    assert push.body == "x"
    assert msgspec.json.decode(content)[field] == value
    assert getattr(push, field) == getattr(command, field)
    assert head_of(content).id == "c"


@pytest.mark.parametrize(("field", "value", "named"), BAD)
def test_an_error_names_the_field(field: str, value: Any, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        sent(field, value).checked_extras()


def test_a_plain_message_has_none() -> None:
    command = codec.decode_command(b'{"op":"send","id":"c","to":"ben","body":"x"}')
    assert isinstance(command, Send)
    assert not command.has_extras


@pytest.mark.parametrize("ttl", [5, 90 * 86_400])
def test_a_message_may_vanish_between_5_seconds_and_90_days(ttl: int) -> None:
    command = sent("ttl", ttl)
    assert command.has_extras
    assert command.ttl == ttl


@pytest.mark.parametrize("ttl", [4, 90 * 86_400 + 1, 0, -5, 5.5, "60", True])
def test_and_no_other_time(ttl: Any) -> None:
    with pytest.raises(BadRequest, match=r"\$\.ttl"):
        sent("ttl", ttl)


def content(body: Any, **extras: Any) -> bytes:
    said = Sender(UserId("ann"), DeviceId("d")).content("ben", "c1", msgspec.Raw(msgspec.json.encode(body)))
    return with_extras(said, extras) if extras else said


def test_what_vanishes_says_when_and_nothing_else_can_look_so() -> None:
    assert expires_of(content("x", expires=1_800_000_000)) == 1_800_000_000
    assert expires_of(content("x", mentions=["ann"], expires=7)) == 7
    assert expires_of(with_expires(content("x", expires=7), 12_345)) == 12_345
    for fake in ("", '","expires":7', ',"expires":7}', {"expires": 7}, {"a": {"b": 1, "expires": 7}}, {"n": 7}):
        assert expires_of(content(fake)) is None
        assert expires_of(content(fake, location={"lat": 1, "expires": 7})) is None
        assert expires_of(content(fake, expires=8)) == 8
