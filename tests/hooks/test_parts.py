"""The parts of `imserver hooks` that need no endpoint."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import fields
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from imclient.amendments import Edited, Reacted
from imclient.events import Contact, GroupChanged, Message

from imserver.cli import main
from imserver.errors import SetupError
from imserver.hooks.answer import Done, Failed, meaning_of
from imserver.hooks.config import HookSettings, load
from imserver.hooks.metrics import GAUGES, HookCounters
from imserver.hooks.payload import body_of, is_wanted, key_of, reply_id
from imserver.hooks.signature import signed_headers
from imserver.protocol.extras import Reference
from tests.hooks.process import toml_of

SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
HOOK: dict[str, Any] = {"name": "t", "account": "helper", "token": "x", "url": "https://h/in", "secret": SECRET}
DOCUMENT = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
NOW = 1_800_000_000.0

# -- settings

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file with one hook; None takes a line out."""

    def to_file(top: str = "", **changed: object) -> Path:
        hook: dict[str, object] = {
            "name": "t",
            "account": "helper",
            "token": "x",
            "url": "https://h/in",
            "secret": SECRET,
        }
        lines = [f"{name} = {toml_of(value)}" for name, value in (hook | changed).items() if value is not None]
        path = tmp_path / "hooks.toml"
        path.write_text("\n".join([top, "[[hook]]", *lines]))
        return path

    return to_file


def test_what_is_not_said_has_a_default(write: Write) -> None:
    config = load(write())
    [hook] = config.hooks
    assert (config.server, str(config.admin)) == ("tcp://127.0.0.1:7400", "127.0.0.1:7491")
    assert (hook.events, hook.device, hook.give_up_seconds) == (("msg",), "hook-t", 0)
    assert str(config.address(hook)) == "tcp://helper@127.0.0.1:7400"
    assert config.secrets(hook) == [bytes(32)]


def test_secrets_and_tokens_come_from_files_beside_the_settings(write: Write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "secret").write_text(f"{SECRET}\n{SECRET}\n")
    config = load(write(token=None, token_file="token", secret=None, secret_file="secret"))
    assert config.token(config.hooks[0]) == "abc"
    assert config.secrets(config.hooks[0]) == [bytes(32)] * 2
    (tmp_path / "token").write_text("def")
    assert config.token(config.hooks[0]) == "def"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": "a b"}, "name: allowed are 1 to 59 of"),
        ({"account": "A b"}, "is not a user name"),
        ({"account": "Helper"}, "account: 'Helper' is not written as names are"),
        ({"url": "http://example.org/"}, "allowed is https://HOST/..., or http:// to this machine"),
        ({"url": "https://user:secret@h/"}, "allowed is https://HOST/"),
        ({"url": "https://h:port/"}, "is not a URL"),
        ({"secret": "whsec_AAAA"}, "secret: allowed is whsec_ and 24 to 64 bytes in base64"),
        ({"secret": []}, "secret: allowed is either secret or secret_file"),
        ({"token_file": "x"}, "token: allowed is either token or token_file"),
        ({"token": None, "token_file": "absent"}, "absent can't be read: No such file or directory"),
        ({"conversations": ["#Tea"]}, "conversations: '#Tea' is not written as names are"),
        ({"events": ["message"]}, "`$.hook[0].events[0]`"),
        ({"timeout_seconds": 0}, "`$.hook[0].timeout_seconds`"),
        ({"colour": "red"}, "`colour`"),
        ({"url": None}, "`url`"),
        ({"top": 'server = "127.0.0.1:7400"'}, "server: '127.0.0.1:7400'; allowed is SCHEME://HOST:PORT"),
        ({"top": 'server = "tcp://alice@h"'}, "allowed is SCHEME://HOST:PORT"),
        ({"top": "server = "}, "Invalid value"),
    ],
)
def test_what_is_wrong_is_named(write: Write, changed: dict[str, Any], told: str) -> None:
    path = write(**changed)
    with pytest.raises(SetupError) as wrong:
        load(path)
    assert str(wrong.value).startswith(f"{path}: ")
    assert told in str(wrong.value)


def test_two_hooks_of_one_name_and_none_at_all_are_refused(write: Write) -> None:
    path = write()
    text = path.read_text()
    path.write_text(text + text)
    with pytest.raises(SetupError, match="hook t: there are two of that name"):
        load(path)
    path.write_text("")
    with pytest.raises(SetupError, match="no hook"):
        load(path)


def test_the_command_tells_a_person(write: Write) -> None:
    done = CliRunner().invoke(main, ["hooks", "--config", str(write(url="ftp://h/"))])
    assert done.exit_code == 1
    assert "hook t: url: 'ftp://h/'; allowed is" in done.output


# -- what is posted


def message(**changed: Any) -> Message:
    fields = {"at": "7-1", "sender": "alice", "device": "pad", "to": "helper", "id": "m", "body": "hi"}
    return Message(**(fields | changed))


def hook(**changed: Any) -> HookSettings:
    return HookSettings(**(HOOK | changed))


ROLE = GroupChanged(at="8-0", log="#tea", group="#tea", change="role", user="bob", by="alice", role="admin")
OF = Reference("alice", "pad", "m")
EDIT = Edited(at="9-1", of=OF, sender="alice", device="pad", to="helper", id="e", stamp=5, body="ho")
LIKES = Reacted(at="9-2", of=OF, sender="bob", device="pad", to="#tea", id="r", stamp=6, log="#tea", emoji="+")
ASKS = Contact(user="alice", state="asking", note="hi", at="9-0")


@pytest.mark.parametrize(
    ("entry", "settings", "wanted"),
    [
        (message(), {}, True),
        (message(sender="bob", bot=True), {}, False),
        (message(sender="bob", bot=True), {"bots": True}, True),
        (message(sender="helper", to="alice"), {}, False),
        (message(sender="helper", to="alice"), {"own": True}, True),
        (message(sender="helper", to="alice", bot=True), {"own": True}, True),
        (message(sender="helper", to="alice", device="hook-other"), {"own": True, "bots": True}, False),
        (message(), {"conversations": ("alice",)}, True),
        (message(), {"conversations": ("bob", "helper")}, False),
        (message(to="#tea", log="#tea"), {"conversations": ("#tea",)}, True),
        (message(), {"events": ("group",)}, False),
        (EDIT, {}, False),
        (EDIT, {"events": ("edit",)}, True),
        (EDIT, {"events": ("edit",), "conversations": ("alice",)}, True),
        (EDIT, {"events": ("edit",), "account": "alice"}, False),
        (LIKES, {"events": ("reaction",), "conversations": ("#tea",)}, True),
        (LIKES, {"events": ("msg", "edit", "delete")}, False),
        (ROLE, {}, False),
        (ROLE, {"events": ("group",)}, True),
        (ROLE, {"events": ("group",), "conversations": ("#cake",)}, False),
        (ASKS, {"events": ("contact",)}, True),
        (ASKS, {"events": ("contact",), "conversations": ("bob",)}, False),
    ],
)
def test_what_a_hook_wants(entry: Any, settings: dict[str, Any], wanted: bool) -> None:
    assert is_wanted(entry, hook(**settings)) is wanted


@pytest.mark.parametrize(
    ("entry", "key", "event"),
    [
        (
            message(),
            "t/helper/7-1",
            {"ev": "msg", "at": "7-1", "from": "alice", "device": "pad", "to": "helper", "id": "m", "body": "hi"},
        ),
        (
            message(to="#tea", log="#tea", body={"a": ""}, bot=True, prev="6-0"),
            "t/#tea/7-1",
            {
                **{"ev": "msg", "at": "7-1", "prev": "6-0", "from": "alice", "device": "pad", "to": "#tea", "id": "m"},
                **{"log": "#tea", "bot": True, "body": {"a": ""}},
            },
        ),
        (message(body=""), "t/helper/7-1", {"body": ""}),
        (EDIT, "t/helper/9-1", {"ev": "edit", "from": "alice", "id": "e", "stamp": 5, "body": "ho"}),
        (LIKES, "t/#tea/9-2", {"ev": "reaction", "log": "#tea", "of": {"from": "alice", "device": "pad", "id": "m"}}),
        (ROLE, "t/#tea/8-0", {"ev": "group", "change": "role", "user": "bob", "role": "admin", "log": "#tea"}),
        (ASKS, "t/helper/9-0", {"ev": "contact", "user": "alice", "state": "asking", "note": "hi", "at": "9-0"}),
    ],
)
def test_what_is_posted(entry: Any, key: str, event: dict[str, Any]) -> None:
    assert key_of(entry, hook()) == key
    posted = json.loads(body_of(entry, hook()))
    assert posted | {"event": posted["event"] | event} == posted
    assert (posted["id"], posted["hook"], posted["account"]) == (key, "t", "helper")
    if len(event) > 6:
        assert posted["event"] == event


def test_the_id_of_a_reply_follows_from_the_key() -> None:
    assert reply_id("t/helper/7-1") == reply_id("t/helper/7-1") != reply_id("t/helper/7-2")
    assert len(reply_id("t/#" + "x" * 64 + "/1795479860126-0")) <= 64


def test_the_signature_is_the_one_that_the_standard_gives_as_its_example() -> None:
    """From the reference implementations of Standard Webhooks."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3), st.binary())
def test_every_secret_signs(secrets: list[bytes], body: bytes) -> None:
    headers = signed_headers(secrets, "k", 5, body)
    expected = [hmac.new(secret, b"k.5." + body, hashlib.sha256).digest() for secret in secrets]
    given = [base64.b64decode(each.removeprefix("v1,")) for each in headers["webhook-signature"].split()]
    assert given == expected


# -- what the answer means


@pytest.mark.parametrize(
    ("status", "content", "meaning"),
    [
        (200, b"", Done()),
        (204, b"", Done()),
        (200, b"<html>", Done()),
        (200, b"{}", Done()),
        (200, b"[]", Done()),
        (200, b'"ok"', Done()),
        (200, b'{"reply": null}', Done()),
        (200, b'{"reply": ""}', Done()),
        (201, b'{"reply": "hi"}', Done("hi")),
        (200, b'{"reply": {"text": "hi"}}', Done({"text": "hi"})),
        (302, b"", Failed("status", "it answered 302")),
        (410, b'{"reply": "hi"}', Failed("status", "it answered 410")),
    ],
)
def test_what_an_answer_means(status: int, content: bytes, meaning: Done | Failed) -> None:
    assert meaning_of(status, None, content, NOW) == meaning


def test_a_reply_of_another_form_is_complained_of() -> None:
    answer = meaning_of(200, None, b'{"reply": 5}', NOW)
    assert isinstance(answer, Done)
    assert answer.reply is None
    assert answer.complaint.startswith("the answer: ")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999999999999", 3600.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (formatdate(NOW + 60, usegmt=True), 60.0),
        (formatdate(NOW - 60, usegmt=True), 0.0),
        (None, None),
    ],
)
def test_when_the_endpoint_wants_to_be_asked_again(header: str | None, seconds: float | None) -> None:
    assert meaning_of(503, header, b"", NOW) == Failed("status", "it answered 503", seconds)


# -- what the documentation says


def test_the_check_in_the_documentation_takes_what_is_signed_and_nothing_else() -> None:
    [source] = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(source, scope)
    body, now = b'{"id": "t/helper/7-1"}', int(time.time())
    headers = signed_headers([bytes(range(32)), bytes(32)], "t/helper/7-1", now, body)
    assert scope["is_signed"](SECRET, headers, body)
    assert not scope["is_signed"](SECRET, headers, body + b" ")
    assert not scope["is_signed"](SECRET, headers | {"webhook-id": "t/helper/7-2"}, body)
    assert not scope["is_signed"](f"whsec_{base64.b64encode(b'x' * 32).decode()}", headers, body)
    late = signed_headers([bytes(32)], "t/helper/7-1", now - 301, body)
    assert not scope["is_signed"](SECRET, late, body)


def test_every_setting_and_metric_of_a_hook_is_documented() -> None:
    for field in msgspec.structs.fields(HookSettings):
        assert f"`{field.name}`" in DOCUMENT
        if isinstance(field.default, float):
            assert f"| `{field.name}` | {field.default:g} |" in DOCUMENT
    for name in [*(row.name for row in fields(HookCounters)), *(name for name, _, _ in GAUGES)]:
        assert name in DOCUMENT


def test_the_settings_in_the_documentation_are_right(tmp_path: Path) -> None:
    [source] = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "hooks.toml").write_text(source)
    (tmp_path / "helper.token").write_text("x")
    (tmp_path / "tickets.secret").write_text(SECRET)
    assert load(tmp_path / "hooks.toml").hooks[0].device == "hook-tickets"
