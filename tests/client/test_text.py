"""What a person sees of a message."""

from datetime import UTC
from typing import Any

import msgspec
import pytest
from imclient.events import Message
from imclient.text import Transcript, body_text


def message(body: Any, at: str = "0-0", sender: str = "bob", to: str = "alice", device: str = "phone") -> Message:
    return Message(at=at, sender=sender, device=device, to=to, id="1", body=body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("hi", "hi"),
        ("\N{GRINNING FACE} \u05e9\u05dc\u05d5\u05dd\u200f!", "\N{GRINNING FACE} \u05e9\u05dc\u05d5\u05dd\u200f!"),
        ("a\tb", "a    b"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a\ufffdb"),
        ("\x1b[2J\x9b31m", "\ufffd[2J\ufffd31m"),
        ("\u202eevil", "\ufffdevil"),
        ({"text": "hi", "mood": 1}, "hi"),
        ({"mood": "\u202e"}, '{"mood": "\ufffd"}'),
    ],
)
def test_bodies(body: Any, text: str) -> None:
    assert body_text(body) == text


def test_a_message_cannot_pass_for_two() -> None:
    transcript = Transcript("alice", "laptop", colours=False, zone=UTC)
    line = transcript.line(message("hi\n00:00:00 carol: I am carol"), "bob")
    assert line == "Thursday, 1 January 1970\n00:00:00 bob: hi\n         00:00:00 carol: I am carol"


def test_lines_say_whose_and_where() -> None:
    transcript = Transcript("alice", "laptop", colours=False, zone=UTC)
    lines = [
        transcript.line(message("one", "1000-0"), "bob"),
        transcript.line(message("two", "2000-0"), "carol"),
        transcript.line(message("three", "3000-0", "alice", "bob", "laptop"), "bob"),
        transcript.line(message("four", "4000-0", "alice", "bob"), "bob"),
        transcript.line(message("five", "90000000-0", "bob", "#all"), "bob"),
    ]
    assert lines == [
        "Thursday, 1 January 1970\n00:00:01 bob: one",
        "00:00:02 [bob] bob: two",
        "00:00:03 alice: three",
        "00:00:04 alice (phone): four",
        "Friday, 2 January 1970\n01:00:00 [#all] bob: five",
    ]


def test_colours_are_for_terminals() -> None:
    line = Transcript("alice", "laptop", colours=True, zone=UTC).line(message("hi"), "bob")
    assert "\x1b[" in line


def test_a_bot_is_marked() -> None:
    transcript = Transcript("alice", "laptop", colours=False, zone=UTC)
    said = msgspec.structs.replace(message("done"), bot=True)
    assert transcript.line(said, "bob").endswith("00:00:00 bob (bot): done")
