"""Frames to commands and back: every command, every kind of bad frame."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imserver.errors import BadFrame, BadRequest, FramingError, NotFound, RateLimited, RequestError, UnknownOp
from imserver.model import Entry, Position
from imserver.protocol import codec
from imserver.protocol.commands import (
    COMMANDS,
    AccountDelete,
    Ack,
    Block,
    Blocked,
    Command,
    ContactAccept,
    ContactAdd,
    ContactDecline,
    ContactRemove,
    Contacts,
    ContactSet,
    Conversations,
    ConversationSet,
    Delete,
    DeviceRevoke,
    Devices,
    DeviceSet,
    Edit,
    Export,
    GroupBan,
    GroupCreate,
    GroupInfo,
    GroupInvite,
    GroupJoin,
    GroupKick,
    GroupLeave,
    GroupMembers,
    GroupRole,
    GroupSet,
    GroupsList,
    GroupUnban,
    History,
    Login,
    Logout,
    Password,
    Ping,
    Privacy,
    Profile,
    Profiles,
    ProfileSet,
    React,
    Read,
    Register,
    Report,
    ReportedMessage,
    Resend,
    Schedule,
    Scheduled,
    Search,
    Send,
    SetPresence,
    Typing,
    Unblock,
    Unschedule,
)
from imserver.protocol.extras import Reference
from imserver.protocol.pushes import (
    Amended,
    Bye,
    MessagePush,
    Page,
    PingPush,
    Regressed,
    Reply,
    ResendPush,
    Sent,
    Synced,
    Truncated,
    UnknownPush,
)

TABLE: list[tuple[Command, bytes]] = [
    (Register(user="alice", password="pw"), b'{"op":"register","user":"alice","password":"pw"}'),
    (Login(device="d", token="t", ref="r"), b'{"op":"login","ref":"r","device":"d","token":"t"}'),
    (
        Login(device="d", user="a", password="p", since={"": "1-0", "#g": "2-0"}),
        b'{"op":"login","device":"d","user":"a","password":"p","since":{"":"1-0","#g":"2-0"}}',
    ),
    (
        Send(ref=3, id="c1", to="bob", body=msgspec.Raw(b'"hello"')),
        b'{"op":"send","ref":3,"id":"c1","to":"bob","body":"hello"}',
    ),
    (
        Edit(ref=4, id="e1", to="bob", of=Reference("ann", "d", "c1"), body=msgspec.Raw(b'{"x":1}')),
        b'{"op":"edit","ref":4,"id":"e1","to":"bob","of":{"from":"ann","device":"d","id":"c1"},"body":{"x":1}}',
    ),
    (
        Delete(id="e2", to="#g", of=Reference("ann", "d", "c1"), again=True),
        b'{"op":"delete","id":"e2","to":"#g","of":{"from":"ann","device":"d","id":"c1"},"again":true}',
    ),
    (
        React(id="e3", to="bob", of=Reference("ann", "d", "c1"), emoji="+"),
        b'{"op":"react","id":"e3","to":"bob","of":{"from":"ann","device":"d","id":"c1"},"emoji":"+"}',
    ),
    (
        Schedule(id="s1", to="bob", body=msgspec.Raw(b'"tea?"'), when=1795479860, mentions=["bob"]),
        b'{"op":"schedule","id":"s1","to":"bob","body":"tea?","mentions":["bob"],"when":1795479860}',
    ),
    (Scheduled(ref=1), b'{"op":"scheduled","ref":1}'),
    (Unschedule(id="s1", device="d"), b'{"op":"unschedule","id":"s1","device":"d"}'),
    (Login(device="d", token="t", resend=True), b'{"op":"login","device":"d","token":"t","resend":true}'),
    (Resend(), b'{"op":"resend"}'),
    (Ack(upto="1-0", log="#g"), b'{"op":"ack","upto":"1-0","log":"#g"}'),
    (History(partner="bob", before="5-0", limit=7), b'{"op":"history","with":"bob","before":"5-0","limit":7}'),
    (Read(partner="bob", upto="5-0"), b'{"op":"read","with":"bob","upto":"5-0"}'),
    (
        ConversationSet(partner="#g", muted=True, archived=False),
        b'{"op":"conversation.set","with":"#g","muted":true,"archived":false}',
    ),
    (Conversations(since=7, after=9, limit=3), b'{"op":"conversations","since":7,"after":9,"limit":3}'),
    (
        GroupCreate(ref=1, name="Room", group="#room", members=["bob"], open=True, posting="admins"),
        b'{"op":"group.create","ref":1,"name":"Room","group":"#room","members":["bob"],"open":true,"posting":"admins"}',
    ),
    (GroupJoin(group="#g"), b'{"op":"group.join","group":"#g"}'),
    (GroupLeave(group="#g"), b'{"op":"group.leave","group":"#g"}'),
    (GroupInvite(group="#g", user="bob"), b'{"op":"group.invite","group":"#g","user":"bob"}'),
    (GroupKick(group="#g", user="bob"), b'{"op":"group.kick","group":"#g","user":"bob"}'),
    (GroupBan(group="#g", user="bob"), b'{"op":"group.ban","group":"#g","user":"bob"}'),
    (GroupUnban(group="#g", user="bob"), b'{"op":"group.unban","group":"#g","user":"bob"}'),
    (
        GroupRole(group="#g", user="bob", role="admin"),
        b'{"op":"group.role","group":"#g","user":"bob","role":"admin"}',
    ),
    (GroupSet(group="#g", topic="tea", open=False), b'{"op":"group.set","group":"#g","topic":"tea","open":false}'),
    (GroupInfo(group="#g"), b'{"op":"group.info","group":"#g"}'),
    (GroupMembers(group="#g", cursor="17", limit=5), b'{"op":"group.members","group":"#g","cursor":"17","limit":5}'),
    (GroupsList(ref=2), b'{"op":"groups","ref":2}'),
    (ContactAdd(user="bob", note="hi"), b'{"op":"contact.add","user":"bob","note":"hi"}'),
    (ContactAccept(user="bob"), b'{"op":"contact.accept","user":"bob"}'),
    (ContactDecline(user="bob"), b'{"op":"contact.decline","user":"bob"}'),
    (ContactRemove(user="bob"), b'{"op":"contact.remove","user":"bob"}'),
    (
        ContactSet(user="bob", name="Bob", groups=["work"]),
        b'{"op":"contact.set","user":"bob","name":"Bob","groups":["work"]}',
    ),
    (Contacts(since=7, after=9, limit=3), b'{"op":"contacts","since":7,"after":9,"limit":3}'),
    (Block(user="bob"), b'{"op":"block","user":"bob"}'),
    (Unblock(user="bob"), b'{"op":"unblock","user":"bob"}'),
    (Blocked(), b'{"op":"blocked"}'),
    (Privacy(write="contacts", seen="nobody"), b'{"op":"privacy","write":"contacts","seen":"nobody"}'),
    (SetPresence(show="away", status="lunch"), b'{"op":"presence","show":"away","status":"lunch"}'),
    (Typing(to="bob", on=True), b'{"op":"typing","to":"bob","on":true}'),
    (Devices(), b'{"op":"devices"}'),
    (DeviceSet(device="d", name="the red one"), b'{"op":"device.set","device":"d","name":"the red one"}'),
    (DeviceRevoke(others=True), b'{"op":"device.revoke","others":true}'),
    (Password(old="a", new="b", others="keep"), b'{"op":"password","old":"a","new":"b","others":"keep"}'),
    (AccountDelete(password="a"), b'{"op":"account.delete","password":"a"}'),
    (ProfileSet(name="A", about=""), b'{"op":"profile.set","name":"A","about":""}'),
    (Profile(user="bob", since=7), b'{"op":"profile","user":"bob","since":7}'),
    (Profiles(users={"bob": 7}), b'{"op":"profiles","users":{"bob":7}}'),
    (Search(prefix="al", limit=5), b'{"op":"search","prefix":"al","limit":5}'),
    (Export(after="1-0", limit=7), b'{"op":"export","after":"1-0","limit":7}'),
    (
        Report(user="bob", reason="spam", messages=[ReportedMessage("1-0"), ReportedMessage("2-0", "#g")]),
        b'{"op":"report","user":"bob","reason":"spam","messages":[{"at":"1-0","log":null},{"at":"2-0","log":"#g"}]}',
    ),
    (Register(user="a", password="p", code="c-d"), b'{"op":"register","user":"a","password":"p","code":"c-d"}'),
    (Ping(ref=0), b'{"op":"ping","ref":0}'),
    (Logout(), b'{"op":"logout"}'),
]


@pytest.mark.parametrize(("command", "frame"), TABLE, ids=lambda value: type(value).__name__)
def test_both_directions(command: Command, frame: bytes) -> None:
    decoded = codec.decode_command(frame)
    assert codec.encode_command(decoded) == codec.encode_command(command)
    assert json.loads(codec.encode_command(command)) == json.loads(frame)


def test_the_table_has_every_command() -> None:
    assert {type(command) for command, _ in TABLE} == set(COMMANDS)


def test_unknown_fields_are_ignored() -> None:
    assert codec.decode_command(b'{"op":"ping","colour":"blue"}') == Ping()


@pytest.mark.parametrize(
    ("frame", "error", "named"),
    [
        (b"nonsense", BadFrame, "not a JSON object"),
        (b"[1]", BadFrame, "not a JSON object"),
        (b"5", BadFrame, "not a JSON object"),
        (b'"op"', BadFrame, "not a JSON object"),
        (b'{"op":"ping"} more', BadFrame, "not a JSON object"),
        (b"[" * 10_000, BadFrame, "not a JSON object"),
        (b'{"op":"ping","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", BadFrame, "nested too deeply"),
        (b'{"op":"send","id":"a","to":"b","body":' + b"[" * 10_000 + b"]" * 10_000 + b"}", BadFrame, "deeply"),
        (b'{"op":"fly"}', UnknownOp, "fly"),
        (b"{}", BadRequest, "op"),
        (b'{"op":7}', BadRequest, "op"),
        (b'{"op":"send","to":"b","body":"x"}', BadRequest, "id"),
        (b'{"op":"send","id":"a","to":5,"body":"x"}', BadRequest, "to"),
        (b'{"op":"send","id":"a","to":"b","body":5}', BadRequest, "body"),
        (b'{"op":"send","id":"a","to":"b","body":[1]}', BadRequest, "body"),
        (b'{"op":"send","id":"a","to":"b","body":null}', BadRequest, "body"),
        (b'{"op":"ping","ref":1.5}', BadRequest, "ref"),
        (b'{"op":"history","with":"b","limit":0}', BadRequest, "limit"),
        (b'{"op":"history","with":"b","limit":1000}', BadRequest, "limit"),
        (b'{"op":"ack","upto":"' + b"1" * 41 + b'"}', BadRequest, "upto"),
        (b'{"op":"register","user":"a","password":""}', BadRequest, "password"),
        (b'{"op":"group.create","name":""}', BadRequest, "name"),
        (b'{"op":"group.create","name":"a\\u0001"}', BadRequest, "name"),
        (b'{"op":"group.set","group":"#g","topic":"\\ufffe"}', BadRequest, "topic"),
        (b'{"op":"group.role","group":"#g","user":"a","role":"king"}', BadRequest, "role"),
        (b'{"op":"group.members","group":"#g","cursor":"x"}', BadRequest, "cursor"),
        (b'{"op":"ping","ref":"\xff"}', FramingError, "UTF-8"),
        (b'{"op":"ping","ref":"\xc3"}', FramingError, "UTF-8"),
    ],
)
def test_bad_frames_name_what_is_wrong(frame: bytes, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        codec.decode_command(frame)


def body_of(body: bytes) -> bytes:
    command = codec.decode_command(b'{"op":"send","id":"a","to":"b","body":' + body + b"}")
    assert isinstance(command, Send)
    return bytes(command.body)


@pytest.mark.parametrize(
    "body",
    [
        b'"\\u0000"',
        b'"\\u001f"',
        b'"\\b"',
        b'"\\f"',
        b'"\\ufffe"',
        b'"\\uffff"',
        b'"\\ud800"',
        b'"\\udfff x"',
        '"\ufffe"'.encode(),
        '"\uffff"'.encode(),
        b'{"text":"\\u0001"}',
        b'{"\\u0001":1}',
        b'{"a":[{"b":["\\u0002"]}]}',
        b'{"a":' * 70 + b"1" + b"}" * 70,
    ],
)
def test_text_that_xml_cannot_carry_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="body"):
        body_of(body)


@pytest.mark.parametrize(
    "body",
    [
        b'"tab \\t newline \\n return \\r"',
        b'"\\\\u0000 \\\\b"',
        '"\U0001f600 é \ufffd"'.encode(),
        b'"\\ud83d\\ude00"',
        b"{}",
    ],
)
def test_all_other_text_passes_unchanged(body: bytes) -> None:
    assert body_of(body) == body


def test_a_body_of_several_lines_comes_out_on_one() -> None:
    """Over WebSocket a frame may have line ends between its tokens; over TCP they would end it."""
    assert json.loads(body_of(b'{\r\n "a":\n [1,\n "x\\ny"]\n}')) == {"a": [1, "x\ny"]}
    assert b"\n" not in body_of(b'{\n"a":1}')


@given(st.binary(max_size=300))
def test_any_bytes_give_documented_errors_only(frame: bytes) -> None:
    try:
        codec.decode_command(frame)
    except (RequestError, FramingError):
        codec.ref_of(frame)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["ref", "id", "to", "body", "user", "password", "device", "token", "since", "upto", "log", "with", "limit"]


@given(
    st.sampled_from(["send", "login", "ack", "history", "register", "ping"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_any_json_gives_documented_errors_only(op: str, fields: dict[str, Any]) -> None:
    try:
        command = codec.decode_command(msgspec.json.encode({"op": op} | fields))
    except RequestError:
        return
    assert json.loads(codec.encode_command(command))["op"] == op


@pytest.mark.parametrize(
    ("frame", "ref"),
    [
        (b'{"op":"x","ref":4}', 4),
        (b'{"ref":"r","op":5}', "r"),
        (b'{"ref":true}', None),
        (b'{"ref":[1]}', None),
        (b"{", None),
        (b"\xff", None),
    ],
)
def test_the_ref_of_a_bad_frame(frame: bytes, ref: object) -> None:
    assert codec.ref_of(frame) == ref


def test_replies_and_pushes() -> None:
    entry = Entry(
        Position(b"2-0"), Position(b"1-0"), b'{"ev":"msg","from":"a","device":"d","to":"b","id":"c","body":{"x":1}}'
    )
    both = [
        (codec.encode_reply(3, Sent("c1", Position(b"1-0"))), Reply(3, ok=msgspec.Raw(b'{"id":"c1","at":"1-0"}'))),
        (
            codec.encode_reply(3, Sent("c1", Position(b"2-0"), Position(b"1-0"))),
            Reply(3, ok=msgspec.Raw(b'{"id":"c1","at":"2-0","prev":"1-0"}')),
        ),
        (
            codec.encode_reply(3, Amended("c1", Position(b"2-0"), Position(b"1-0"), stamp=7)),
            Reply(3, ok=msgspec.Raw(b'{"id":"c1","at":"2-0","prev":"1-0","stamp":7}')),
        ),
        (codec.encode_reply(3, Amended("c1", Position(b"2-0"))), Reply(3, ok=msgspec.Raw(b'{"id":"c1","at":"2-0"}'))),
        (codec.encode_push(Regressed("1-0")), Regressed("1-0")),
        (codec.encode_push(ResendPush(60)), ResendPush(60)),
        (
            codec.encode_reply("h", Page([entry], True, "2-0")),
            Reply("h", ok=msgspec.Raw(b'{"messages":[%b],"more":true,"next":"2-0"}' % codec.encode_entry(entry))),
        ),
        (codec.encode_push(Synced("1-0")), Synced("1-0")),
        (codec.encode_push(Truncated("1-0")), Truncated("1-0")),
        (codec.encode_push(PingPush()), PingPush()),
        (codec.encode_push(Bye("drain", "moved", True, 1.5)), Bye("drain", "moved", True, 1.5)),
        (
            codec.encode_entry(entry),
            MessagePush(at="2-0", prev="1-0", sender="a", device="d", to="b", id="c", body={"x": 1}),
        ),
        (b'{"ev":"later","x":1}', UnknownPush("later")),
    ]
    for frame, expected in both:
        decoded = codec.decode_server_frame(frame)
        assert msgspec.json.encode(decoded) == msgspec.json.encode(expected)


def test_failures_carry_code_and_retry() -> None:
    assert json.loads(codec.encode_failure(3, RateLimited("slow down", 2.0))) == {
        "re": 3,
        "err": {"code": "rate-limited", "text": "slow down", "retry": 2.0},
    }
    assert json.loads(codec.encode_failure(None, NotFound("who?"))) == {
        "ev": "error",
        "code": "not-found",
        "text": "who?",
    }


@pytest.mark.parametrize("frame", [b"", b"[]", b"{", b'{"ev":5}', b'{"ev":"msg"}', b"\xff"])
def test_a_server_that_is_none(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        codec.decode_server_frame(frame)
