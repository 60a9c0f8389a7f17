"""Dialogues of one or two devices with the server, frame by frame."""

from typing import Any

import msgspec
import pytest
from imclient import events
from imclient.amendments import amended
from imclient.core import Replica
from imclient.errors import ConnectionLost, SessionEnded
from imclient.events import Answered, Ended, Event, Message, Reconnect, Regressed, Synced, Welcomed
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity, State

from imserver.errors import BadCredentials, BadRequest, NotFound, RateLimited, TooLarge, Unavailable
from imserver.model import DeviceId, Position, UserId
from imserver.protocol import codec
from imserver.protocol.commands import Ack, Edit, History, Login, Logout, Ping, React, Send
from imserver.protocol.extras import Reference
from imserver.protocol.pushes import Amended, EditPush, Sent
from tests.client.dialogue import Device
from tests.client.model_server import ModelServer, order

MESSAGE = Reference("alice", "laptop", "m")


@pytest.fixture
def server() -> ModelServer:
    server = ModelServer()
    for user in ("alice", "bob", "carol"):
        server.add_user(user)
    return server


@pytest.fixture
def alice(server: ModelServer) -> Device:
    return Device(server, "alice", "laptop")


@pytest.fixture
def bob(server: ModelServer) -> Device:
    return Device(server, "bob", "phone")


def say(alice: Device, bob: Device, *bodies: str) -> None:
    for body in bodies:
        alice.replica.send("bob", body)
    alice.settle()
    bob.from_server()


# -- logging in


def test_logs_in_by_password_then_by_token(alice: Device) -> None:
    alice.settle()
    assert alice.replica.state is State.LIVE
    alice.cut()
    alice.connect()
    alice.to_server()
    session = alice.session
    assert session is not None
    assert session.heard == [Login(ref=0, device="laptop", token="token:alice:laptop", since="0-0", resend=True)]


def test_a_refused_token_falls_back_to_the_password(server: ModelServer, alice: Device) -> None:
    alice.replica.identity.token = "token:alice:another"
    alice.settle()
    assert alice.replica.state is State.LIVE


def test_a_wrong_password_ends_it(server: ModelServer, alice: Device) -> None:
    server.passwords["alice"] = "another"
    alice.settle()
    [ended] = alice.of(Ended)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, BadCredentials)
    assert alice.replica.state is State.ENDED


def test_a_server_that_cannot_check_now_is_asked_again_later(alice: Device) -> None:
    alice.connect()
    [event] = alice.replica.receive(b'{"re":0,"err":{"code":"unavailable","text":"busy","retry":7}}', 0.0)
    assert event == Reconnect("busy", 7 * 1.25)
    assert alice.replica.state is State.OFFLINE


def test_a_server_with_too_much_to_do_has_said_when_to_come_back(alice: Device) -> None:
    """To each at another time: to wait longer would let its line run dry."""
    alice.connect()
    [event] = alice.replica.receive(b'{"re":0,"err":{"code":"overloaded","text":"busy","retry":7}}', 0.0)
    assert event == Reconnect("busy", 7.0)


def test_without_password_and_token_there_is_no_login() -> None:
    identity = Identity(user=UserId("alice"), device=DeviceId("d"))
    with pytest.raises(BadRequest, match="a password or a token is needed"):
        Replica(identity, Reader({}), Outbox("r"), lambda: 0.0)


# -- messages


def test_alice_sends_and_bob_receives(alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "hi", "how are you?")
    assert bob.bodies == ["hi", "how are you?"]
    assert [sent.to for sent in alice.sent] == ["bob", "bob"]
    message = bob.messages[0]
    assert (message.sender, message.device, message.to, message.id) == ("alice", "laptop", "bob", alice.sent[0].id)
    assert message.sent_at.isoformat() == "1970-01-01T00:00:01.001000+00:00"


def test_a_message_tells_what_stands_before_it_in_its_log(alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one", "two", "three")
    one, two, three = (event for event in bob.of(Message) if isinstance(event, Message))
    assert [one.prev, two.prev, three.prev] == ["0-0", one.at, two.at]


def test_the_other_devices_of_the_sender_receive_it_too(server: ModelServer, alice: Device) -> None:
    phone = Device(server, "alice", "phone")
    phone.settle()
    alice.replica.send("bob", "hi")
    alice.settle()
    phone.from_server()
    assert phone.bodies == ["hi"]
    assert alice.bodies == []


def test_messages_come_while_offline(alice: Device, bob: Device) -> None:
    alice.replica.send("bob", "hi")
    alice.settle()
    bob.settle()
    assert bob.bodies == ["hi"]
    assert bob.events.index(bob.messages[0]) < bob.events.index(Synced())


def test_a_refused_send_fails_with_its_error(alice: Device) -> None:
    alice.replica.send("nobody", "hi")
    alice.settle()
    [failed] = alice.failed
    assert isinstance(failed.error, NotFound)
    assert str(failed.error) == "there is no user nobody"


@pytest.mark.parametrize(
    ("to", "body", "error", "text"),
    [
        ("bob!", "hi", BadRequest, "to: 'bob!' is not a user name"),
        ("bob", "be\bep", BadRequest, "body: the character U.0008"),
        ("bob", {"text": ["\x1b[2J"]}, BadRequest, "body: the character U.001B"),
        ("bob", "x" * 65536, TooLarge, "body: the message takes [0-9]+ bytes; 65536 are allowed"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(
    alice: Device, to: str, body: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        alice.replica.send(to, body)
    assert alice.replica.unsent == 0


def test_a_message_that_a_smaller_limit_excludes_fails(server: ModelServer, alice: Device) -> None:
    server.max_frame = 1000
    alice.replica.send("bob", "x" * 2000)
    alice.settle()
    assert isinstance(alice.failed[0].error, TooLarge)


# -- losing the connection


def test_what_is_sent_offline_goes_out_later_and_in_order(alice: Device, bob: Device) -> None:
    bob.settle()
    alice.settle()
    alice.cut()
    say(alice, bob, "one", "two", "three")
    assert bob.bodies == ["one", "two", "three"]


def test_a_send_whose_reply_is_lost_is_confirmed_by_the_backlog(alice: Device, bob: Device) -> None:
    alice.settle()
    alice.replica.send("bob", "hi")
    alice.to_server()
    alice.cut()
    alice.settle()
    bob.settle()
    assert len(alice.sent) == 1
    assert bob.bodies == ["hi"]
    assert alice.session is not None
    assert not any(isinstance(command, Send) for command in alice.session.heard)


def test_a_send_that_never_arrived_is_repeated_with_its_id(alice: Device, bob: Device) -> None:
    alice.settle()
    id = alice.replica.send("bob", "hi")
    alice.up += alice.replica.take_frames(alice.now)
    alice.cut()
    alice.settle()
    bob.settle()
    assert [message.id for message in bob.messages] == [id] == [sent.id for sent in alice.sent]


def sends(frames: list[bytes]) -> list[Send]:
    return [command for command in map(codec.decode_command, frames) if isinstance(command, Send)]


def test_a_repeat_says_so_where_nobody_knows_what_became_of_the_send(server: ModelServer, alice: Device) -> None:
    alice.settle()
    alice.replica.send("bob", "hi")
    (first,) = sends(alice.replica.take_frames(alice.now))
    alice.cut()
    alice.connect()
    alice.to_server()
    alice.from_server()
    (repeat,) = sends(alice.replica.take_frames(alice.now))
    assert (first.again, repeat.again) == (False, True)
    assert (first.id, bytes(first.body)) == (repeat.id, bytes(repeat.body))


def test_a_send_refused_for_its_rate_is_not_a_repeat(server: ModelServer, alice: Device) -> None:
    alice.settle()
    alice.replica.send("bob", "hi")
    (first,) = sends(alice.replica.take_frames(alice.now))
    alice.replica.receive(codec.encode_failure(first.id, RateLimited("too many requests", 1.0)), alice.now)
    (repeat,) = sends(alice.replica.take_frames(alice.now + 10))
    assert not repeat.again


def test_nothing_is_sent_before_the_backlog_has_been_read(alice: Device) -> None:
    alice.replica.send("bob", "hi")
    alice.connect()
    alice.to_server()
    session = alice.session
    assert session is not None
    alice.from_server(1)
    alice.to_server()
    assert [type(command) for command in session.heard] == [Login]
    alice.from_server()
    alice.to_server()
    assert [type(command) for command in session.heard] == [Login, Send]


def test_other_requests_fail_when_the_connection_is_lost(alice: Device) -> None:
    with pytest.raises(ConnectionLost, match="not connected: offline"):
        alice.replica.ask(Ping())
    alice.settle()
    ref = alice.replica.ask(History(partner="bob"))
    alice.cut()
    [answered] = alice.of(Answered)
    assert isinstance(answered, Answered)
    assert answered.ref == ref
    assert isinstance(answered.content, ConnectionLost)


def test_a_message_that_has_not_left_can_be_taken_back(alice: Device, bob: Device) -> None:
    id = alice.replica.send("bob", "never mind")
    assert alice.replica.withdraw(id)
    alice.settle()
    id = alice.replica.send("bob", "too late")
    alice.to_server()
    assert not alice.replica.withdraw(id)
    alice.settle()
    bob.settle()
    assert bob.bodies == ["too late"]


# -- a server in trouble


@pytest.mark.parametrize("fault", ["unavailable", "half", "whole"])
@pytest.mark.parametrize("tells_prev", [True, False])
def test_a_send_is_repeated_when_the_store_was_out_of_reach(
    server: ModelServer, alice: Device, bob: Device, fault: str, tells_prev: bool
) -> None:
    server.tells_prev = tells_prev
    alice.settle()
    bob.settle()
    server.faults.append(fault)
    say(alice, bob, "one", "two")
    assert bob.bodies == ["one", "two"]
    assert len(alice.sent) == 2
    assert alice.bodies == []
    say(bob, alice, "three")  # no gap in alice's log
    bob.replica.send("alice", "four")
    bob.settle()
    alice.from_server()
    assert alice.bodies == ["four"]
    assert alice.of(Reconnect) == []


def test_a_repeat_waits_as_long_as_the_server_said_and_up_to_half_longer(server: ModelServer, alice: Device) -> None:
    alice.settle()
    server.faults.append("unavailable")
    alice.replica.send("bob", "hi")
    alice.to_server()
    alice.from_server()
    retry = Unavailable.retry
    assert retry is not None
    assert alice.replica.next_due() == retry * 1.25
    assert alice.replica.take_frames(retry * 1.24) == []
    assert len(alice.replica.take_frames(retry * 1.25)) == 1


def test_a_message_refused_again_and_again_waits_longer_each_time(server: ModelServer, alice: Device) -> None:
    alice.settle()
    server.faults += ["overloaded"] * 6
    alice.replica.send("bob", "hi")
    alice.to_server()
    waits = []
    for _ in range(6):
        alice.from_server()
        due = alice.replica.next_due()
        assert due is not None
        waits.append((due - alice.now) / 1.25)
        alice.now = due
        alice.to_server()
    assert waits == pytest.approx([1.0, 2.0, 4.0, 8.0, 10.0, 10.0])
    alice.from_server()
    assert [sent.id for sent in alice.sent] == [alice.sent[0].id]


def test_a_message_in_trouble_holds_up_its_own_conversation_only(server: ModelServer, alice: Device) -> None:
    alice.settle()
    server.faults.append("unavailable")
    alice.replica.send("bob", "one")
    alice.replica.send("bob", "two")
    alice.replica.send("carol", "hello")
    alice.to_server()
    alice.from_server()
    alice.to_server()
    assert [entry.body for entry in server.logs["carol"]] == ["hello"]
    assert server.logs["bob"] == []
    alice.settle()
    assert [entry.body for entry in server.logs["bob"]] == ["one", "two"]


# -- the end of a session


def test_bye_with_return_says_when(alice: Device) -> None:
    alice.settle()
    assert alice.session is not None
    alice.session.bye("drain", reconnect=True, after=3.0)
    alice.from_server()
    assert alice.of(Reconnect) == [Reconnect("because of drain", 3.0, "drain")]
    alice.settle()
    assert alice.replica.state is State.LIVE


def test_bye_without_return_ends_it(server: ModelServer, alice: Device) -> None:
    alice.settle()
    Device(server, "alice", "laptop").settle()
    alice.from_server()
    [ended] = alice.of(Ended)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, SessionEnded)
    assert ended.error.code == "replaced"


def test_leaving_acknowledges_and_logs_out(alice: Device, bob: Device) -> None:
    alice.settle()
    bob.settle()
    say(bob, alice, "hi")
    bob.replica.send("alice", "hello")
    bob.settle()
    alice.from_server()
    alice.replica.keep(alice.messages[-1], alice.now)
    alice.replica.leave()
    assert alice.session is not None
    session = alice.session
    alice.to_server()
    assert session.heard[-2:] == [Ack(upto=alice.messages[-1].at), Logout()]


# -- reading the log


def test_a_gap_makes_it_read_the_log_again(alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one")
    assert bob.session is not None
    alice.replica.send("bob", "lost on the way")
    alice.settle()
    bob.session.out.clear()
    say(alice, bob, "three")
    assert bob.bodies == ["one"]
    assert bob.of(Reconnect) == [Reconnect("an entry before 1005-0 is missing", 0.0)]
    bob.settle()
    assert bob.bodies == ["one", "lost on the way", "three"]
    assert bob.truncated == []


def test_a_gap_that_stays_is_stepped_over_and_told(server: ModelServer, alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one", "never to be seen", "three")
    bob.cut()
    del server.logs["bob"][1]
    entry = server.logs["bob"][1]
    fresh = Device(server, "bob", "tablet")
    frames = [msgspec.json.encode(server.logs["bob"][0]), msgspec.json.encode(entry)]
    fresh.connect()
    fresh.to_server()
    fresh.from_server(1)
    for _ in range(2):
        for frame in frames:
            fresh.told(fresh.replica.receive(frame, 0.0))
        if fresh.session is None:
            fresh.connect()
            fresh.to_server()
            fresh.from_server(1)
    assert fresh.bodies == ["one", "three"]
    assert [event.at for event in fresh.truncated] == [entry.at]


def test_what_the_log_no_longer_has_is_told(server: ModelServer, alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one")
    bob.cut()
    for body in ("two", "three", "four"):
        alice.replica.send("bob", body)
    alice.settle()
    del server.logs["bob"][:3]
    bob.settle()
    assert bob.bodies == ["one", "four"]
    assert len(bob.truncated) == 1


def test_a_cut_excuses_what_follows_it_and_nothing_later(bob: Device) -> None:
    bob.settle()
    receive(bob, message("6-0", "0-0", "one"))
    receive(bob, b'{"ev":"truncated","at":"9-0"}')
    bob.cut()
    bob.connect()
    bob.replica.receive(welcome("9-0"), bob.now)
    receive(bob, message("9-0", "8-0", "behind a gap that was not told"))
    assert bob.bodies == ["one"]
    assert bob.of(Reconnect) == [Reconnect("an entry before 9-0 is missing", 0.0)]


def welcome(at: str) -> bytes:
    content = {"user": "bob", "device": "phone", "token": "t", "expires": 1, "at": at, "ping": 60, "max_frame": 65536}
    return msgspec.json.encode({"re": 0, "ok": content})


def test_a_log_that_has_nothing_left_is_told_too(server: ModelServer, alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one")
    bob.cut()
    say(alice, bob, "two")
    server.logs["bob"].clear()
    bob.settle()
    say(alice, bob, "three")
    assert bob.bodies == ["one", "three"]
    assert len(bob.truncated) == 1
    assert bob.of(Reconnect) == []


def test_a_new_device_has_lost_nothing(server: ModelServer, alice: Device, bob: Device) -> None:
    for body in ("one", "two"):
        alice.replica.send("bob", body)
    alice.settle()
    del server.logs["bob"][:1]
    bob.settle()
    assert bob.bodies == ["two"]
    assert bob.truncated == []


def test_a_log_that_has_lost_its_end_is_told_and_followed(server: ModelServer, alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one", "two")
    bob.cut()
    lost = server.logs["bob"][-1]
    server.lose_end("bob", 1)
    bob.settle()
    say(alice, bob, "three")
    assert bob.bodies == ["one", "two", "three"]
    assert bob.of(Regressed) == [Regressed(server.logs["bob"][0].at)]
    assert order(lost.at) > order(server.logs["bob"][0].at)


def test_a_server_that_says_it_is_where_we_were_is_followed(server: ModelServer, alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one", "two")
    bob.cut()
    server.lose_end("bob", 2)
    bob.settle()
    say(alice, bob, "three")
    assert bob.bodies == ["one", "two", "three"]
    assert bob.of(Regressed) == [Regressed("0-0")]
    assert bob.of(Reconnect) == []


def test_entries_of_a_newer_server_count_and_are_not_given(bob: Device) -> None:
    bob.settle()
    receive(bob, b'{"ev":"contact","at":"5-0","prev":"0-0","user":"eve","state":"mutual"}')
    receive(bob, b'{"ev":"weather","sun":true}')
    receive(bob, message("6-0", "5-0", "hi"))
    assert bob.bodies == ["hi"]
    receive(bob, message("8-0", "7-0", "behind a gap"))
    assert len(bob.of(Reconnect)) == 1


def test_logs_of_groups_have_their_own_cursors(bob: Device) -> None:
    bob.settle()
    receive(bob, message("6-0", "0-0", "to bob"))
    receive(bob, message("3-0", "2-0", "to all", log="#g"))
    receive(bob, message("3-0", "2-0", "to all", log="#g"))
    assert bob.bodies == ["to bob", "to all"]
    bob.cut()
    bob.replica.connected(0.0)
    [login] = bob.replica.take_frames(0.0)
    assert msgspec.json.decode(login)["since"] == {"": "6-0", "#g": "3-0"}
    assert [m.partner("bob") for m in bob.messages] == ["eve", "#g"]


def message(at: str, prev: str, body: str, log: str = "") -> bytes:
    entry = {
        "ev": "msg",
        "at": at,
        "prev": prev,
        "from": "eve",
        "device": "d",
        "to": log or "bob",
        "id": "1",
        "body": body,
    }
    return msgspec.json.encode({**entry, "log": log} if log else entry)


def receive(device: Device, frame: bytes) -> list[Event]:
    events = device.replica.receive(frame, device.now)
    device.events += events
    return events


# -- acknowledging


def test_acks_are_one_a_second(alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one", "two", "three")
    for m in bob.messages:
        assert bob.replica.keep(m, 10.0) == []
    assert bob.replica.take_frames(10.9) == []
    assert bob.replica.next_due() == 11.0
    [frame] = bob.replica.take_frames(11.0)
    assert msgspec.json.decode(frame) == {"op": "ack", "upto": bob.messages[-1].at}
    assert bob.replica.take_frames(20.0) == []


def test_what_was_given_and_not_kept_is_read_again_by_a_new_program(alice: Device, bob: Device) -> None:
    bob.settle()
    say(alice, bob, "one", "two", "three")
    assert bob.replica.kept() == {"": "0-0"}
    bob.replica.keep(bob.messages[0], 0.0)
    assert bob.replica.kept() == {"": bob.messages[0].at}
    bob.replica.keep(bob.messages[2], 0.0)
    assert bob.replica.kept() == {"": bob.messages[2].at}


@pytest.mark.parametrize("tells_prev", [True, False])
def test_own_messages_are_kept_by_being_sent(server: ModelServer, alice: Device, bob: Device, tells_prev: bool) -> None:
    server.tells_prev = tells_prev
    alice.settle()
    say(alice, bob, "one", "two")
    assert alice.replica.kept() == {"": alice.sent[-1].at if tells_prev else "0-0"}
    alice.cut()
    alice.settle()
    assert alice.replica.kept() == {"": alice.sent[-1].at}
    assert alice.bodies == []
    assert len(alice.sent) == 2


def test_a_reader_that_is_full_takes_no_more_and_catches_up_later(server: ModelServer, alice: Device) -> None:
    slow = Device(server, "bob", "slow", inbox_bytes=1000)
    slow.settle()
    for number in range(30):
        alice.replica.send("bob", str(number))
    alice.settle()
    slow.from_server()
    given = len(slow.messages)
    assert 0 < given < 30
    # It still answers for what it sends.
    slow.replica.send("alice", "wait")
    slow.to_server()
    slow.from_server()
    assert len(slow.sent) == 1
    while len(slow.messages) < 30:
        for m in slow.messages[-given:]:
            slow.told(slow.replica.keep(m, 0.0))
        slow.settle()
    assert slow.bodies == [str(number) for number in range(30)]


@pytest.mark.parametrize("tells_prev", [True, False])
def test_a_reader_that_is_behind_holds_nothing_for_what_is_sent(server: ModelServer, tells_prev: bool) -> None:
    server.tells_prev = tells_prev
    slow = Device(server, "bob", "slow", inbox_bytes=1)
    slow.settle()
    for number in range(3):
        receive(slow, message(f"{number + 1}-0", f"{number}-0", "x"))
    for _ in range(100):
        slow.replica.send("alice", "hi")
    slow.settle()
    assert len(slow.sent) == 100
    assert slow.replica._reader._cursor("")._replied == {}
    assert slow.replica.kept() == {"": "0-0"}


# -- keeping alive


def test_pings_are_answered(alice: Device) -> None:
    alice.settle()
    receive(alice, b'{"ev":"ping"}')
    assert alice.replica.take_frames(0.0) == [b'{"op":"ping"}']


def test_a_silent_server_is_asked_and_then_given_up(alice: Device) -> None:
    alice.settle()
    assert alice.replica.next_due() == 60.0
    assert alice.replica.dead_at() == 120.0
    assert alice.replica.take_frames(60.0) == [b'{"op":"ping","ref":1}']
    assert alice.replica.next_due() is None
    alice.replica.heard(61.0)
    assert receive(alice, b'{"re":1,"ok":{}}') == []
    assert alice.replica.next_due() == 121.0
    assert alice.replica.dead_at() == 181.0


# -- a server that speaks something else


@pytest.mark.parametrize(
    "frame",
    [
        b"not json",
        b"[]",
        b'{"ev":"msg","at":"1-0"}',
        b'{"ev":"msg","at":"x","prev":"y","from":"a","device":"d","to":"b","id":"1","body":""}',
        b'{"re":5}',
        b'{"re":0,"ok":{"user":1}}',
        b'{"ev":"synced"}',
    ],
)
def test_nonsense_ends_the_connection_and_nothing_else(alice: Device, frame: bytes) -> None:
    alice.settle()
    [event] = receive(alice, frame)
    assert isinstance(event, Reconnect)
    assert event.why.startswith("the server does not speak the protocol: ")
    assert alice.replica.state is State.OFFLINE
    assert receive(alice, b'{"ev":"synced","at":"1-0"}') == []


def test_welcome_tells_the_token(alice: Device) -> None:
    alice.settle()
    assert alice.of(Welcomed) == [Welcomed("alice", "laptop", "token:alice:laptop", 2**31)]


def test_message_to_oneself_is_confirmed_not_given(alice: Device) -> None:
    alice.replica.send("alice", "note")
    alice.settle()
    assert len(alice.sent) == 1
    assert alice.bodies == []


def test_partner_is_the_other_one() -> None:
    m = Message(at="1-0", sender="alice", device="d", to="bob", id="1", body="hi")
    assert m.partner("alice") == "bob"
    assert m.partner("bob") == "alice"


# -- amendments


def edit(replica: Replica, body: str) -> str:
    return replica.amend("bob", Edit(id="", to="", of=MESSAGE, body=codec.encode_body(body)))


def test_an_edit_waits_in_the_line_of_its_conversation(alice: Device) -> None:
    alice.settle()
    first, second = alice.replica.send("bob", "a"), edit(alice.replica, "b")
    other = alice.replica.send("carol", "c")
    frames = [codec.decode_command(frame) for frame in alice.replica.take_frames(0.0)]
    assert [frame.ref for frame in frames] == [first, other]
    receive(alice, codec.encode_reply(first, Sent(first, Position(b"1-0"), Position(b"0-0"))))
    [frame] = [codec.decode_command(frame) for frame in alice.replica.take_frames(0.0)]
    assert frame == Edit(ref=second, id=second, to="bob", of=MESSAGE, body=codec.encode_body("b"))


def test_an_edit_whose_reply_is_lost_is_confirmed_by_the_log(alice: Device) -> None:
    alice.settle()
    id = edit(alice.replica, "x")
    alice.replica.take_frames(0.0)
    push = EditPush(
        at="1-0", prev="0-0", of=MESSAGE, sender="alice", device="laptop", to="bob", id=id, stamp=1, body="x"
    )
    assert receive(alice, codec.encode_push(push)) == [events.Sent(id, "bob", "1-0", stamp=1)]
    assert alice.replica.unsent == 0


def test_of_an_own_edit_the_server_says_the_stamp(alice: Device) -> None:
    alice.settle()
    id = edit(alice.replica, "x")
    alice.replica.take_frames(0.0)
    reply = codec.encode_reply(id, Amended(id, Position(b"9-0"), Position(b"0-0"), stamp=7))
    assert receive(alice, reply) == [events.Sent(id, "bob", "9-0", stamp=7)]


@pytest.mark.parametrize(("told", "stamp"), [(7, 7), (None, 9)])
def test_an_own_reaction_is_kept_with_the_stamp_that_is_told(told: int | None, stamp: int) -> None:
    command = React(id="c", to="bob", of=MESSAGE, emoji="+")
    assert amended(command, "alice", "laptop", "9-0", "", told).stamp == stamp


def test_an_edit_with_unknown_outcome_is_repeated_and_says_so() -> None:
    outbox = Outbox("run")
    outbox.amend("bob", Edit(id="", to="", of=MESSAGE, body=codec.encode_body("x")))
    outbox.due(0.0)
    outbox.interrupted()
    [item] = outbox.due(0.0)
    repeat = codec.decode_command(item.frame)
    assert isinstance(repeat, Edit)
    assert repeat.again


@pytest.mark.parametrize("emoji", ["", "x" * 33, "\u0001"])
def test_a_reaction_that_cannot_be_is_refused_at_once(alice: Device, emoji: str) -> None:
    with pytest.raises(BadRequest, match="emoji"):
        alice.replica.amend("bob", React(id="", to="", of=MESSAGE, emoji=emoji))
    assert alice.replica.unsent == 0
