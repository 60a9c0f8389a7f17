"""All entries of a log are the application's until it is done with them; and ids that the application chooses."""

import json
from typing import Any

import imclient
import pytest
from imclient.events import Contact, Entry, Event, GroupChanged, Message, Truncated

from tests.client.test_groups import WELCOME, Bob


@pytest.fixture
def bob() -> Bob:
    bob = Bob()
    bob.enter()
    return bob


def contact(bob: Bob, at: int, prev: int) -> list[Event]:
    return bob.hear(ev="contact", at=f"{at}-0", prev=f"{prev}-0", user="alice", state="asking")


def given(events: list[Event], kind: type[Any]) -> Any:
    [event] = events
    assert isinstance(event, kind)
    return event


def acks(bob: Bob) -> list[tuple[str, str]]:
    """Log and position of what the server is told a second later."""
    frames = [json.loads(frame) for frame in bob.replica.take_frames(5.0)]
    return [(frame.get("log", ""), frame["upto"]) for frame in frames if frame["op"] == "ack"]


def keep(bob: Bob, entry: Entry) -> list[tuple[str, str]]:
    bob.replica.keep(entry, 1.0)
    return acks(bob)


def test_a_contact_that_is_not_done_with_is_not_acknowledged_by_what_comes_before_it(bob: Bob) -> None:
    message = {"ev": "msg", "at": "1-0", "prev": "0-0", "from": "alice", "device": "d", "to": "bob", "id": "m"}
    said = given(bob.hear(**message, body="x"), Message)
    changed = given(contact(bob, 2, 1), Contact)
    assert bob.replica.kept() == {"": "0-0"}
    assert keep(bob, said) == [("", "1-0")]
    assert keep(bob, changed) == [("", "2-0")]


def test_a_change_of_a_group_is_held_in_either_log(bob: Bob) -> None:
    joined = given(bob.own(1, 0, "joined", 7), GroupChanged)
    role = given(
        bob.hear(ev="group", log="#g", at="8-0", prev="7-0", change="role", user="bob", by="alice", role="admin"),
        GroupChanged,
    )
    assert bob.replica.kept() == {"": "0-0", "#g": "7-0"}
    assert keep(bob, role) == [("#g", "8-0")]
    assert keep(bob, joined) == [("", "1-0")]


def test_a_hole_is_held_until_it_is_filled(bob: Bob) -> None:
    bob.own(1, 0, "joined", 7)
    before = given(bob.message(8, 7), Message)
    hole = given(bob.hear(ev="truncated", log="#g", at="2000-0", count=1500), Truncated)
    behind = given(bob.message(2001, 2000), Message)
    assert keep(bob, before) == [("#g", "8-0")]
    filled = imclient.Message(at="900-0", sender="alice", device="d", to="#g", id="m", body="x", log="#g")
    assert keep(bob, filled) == [("#g", "900-0")]
    assert keep(bob, before) == []
    assert keep(bob, hole) == [("#g", "2000-0")]
    assert keep(bob, behind) == [("#g", "2001-0")]


def test_a_hole_of_a_new_process_begins_where_the_server_says(bob: Bob) -> None:
    hole = given(bob.hear(ev="truncated", log="#g", at="2000-0", count=1500, after="7-0"), Truncated)
    assert bob.replica.kept()["#g"] == "7-0"
    assert keep(bob, hole) == [("#g", "2000-0")]


# -- ids


def sends(bob: Bob) -> list[tuple[str, bool]]:
    frames = [json.loads(frame) for frame in bob.replica.take_frames(0.0)]
    return [(frame["id"], frame.get("again", False)) for frame in frames if frame["op"] == "send"]


def test_an_id_that_the_application_chose_is_sent_and_told_to_be_a_repeat(bob: Bob) -> None:
    assert bob.replica.send("alice", "hi", id="re 7-0", again=True) == "re 7-0"
    with pytest.raises(imclient.BadRequest, match="on its way"):
        bob.replica.send("alice", "hi", id="re 7-0")
    with pytest.raises(imclient.BadRequest, match="message id"):
        bob.replica.send("alice", "hi", id="")
    assert sends(bob) == [("re 7-0", True)]
    [sent] = bob.hear(re="re 7-0", ok={"id": "re 7-0", "at": "1-0"})
    assert sent == imclient.Sent("re 7-0", "alice", "1-0")


def test_a_message_of_a_chosen_id_that_comes_back_is_confirmed_not_given(bob: Bob) -> None:
    bob.replica.send("alice", "hi", id="re 7-0")
    assert sends(bob) == [("re 7-0", False)]
    bob.replica.disconnected(imclient.ConnectionLost("cut"))
    bob.replica.connected(0.0)
    bob.replica.take_frames(0.0)
    bob.hear(re=0, ok=WELCOME | {"at": "1-0"})
    own = {"ev": "msg", "at": "1-0", "prev": "0-0", "from": "bob", "device": "pad"}
    assert bob.hear(**own, to="alice", id="re 7-0", body="hi") == [imclient.Sent("re 7-0", "alice", "1-0")]
