"""Dialogues: who says what to the server, and what they must hear, in plain sentences.

    the users alice, bob                    accounts whose password is "secret"
    the bots helper                         accounts of bots; they log in by a token, at one device
    the names carol, dave                   names that are free
    alice connects                          one more connection; `alice's phone` is another
    alice logs in                           connects, logs in by password, hears ok and synced, and nothing between
    alice comes back                        the same, and whatever comes before synced is no matter
    alice sends {"op": "ping", "ref": 1}    one frame; `sends the text ...` sends what need not be JSON
    alice receives {"re": 1, "ok": {}}      the next frame, exactly; "text": "..." stands for anything
    alice receives in any order [{...}, {...}]  the next frames
                                            (a presence that has been received already may come again)
    alice receives nothing                  no frame has come that was not received
    alice and bob are contacts              each one's presence was received
    alice disconnects                       without a word
    alice is disconnected                   the server has ended the connection
    the log of bob keeps 2 entries          what is older is cut, now
    60 seconds pass                         for the server

In a frame `"$first"` stands for a value: the first time it is received it is noted, from then on it means that value.
`"$tomorrow"` is a time a day from now.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "scripts"


class Step(NamedTuple):
    """One sentence."""

    line: int
    actor: str  # empty where it is none
    verb: str
    argument: Any


_SENTENCES = [
    (re.compile(r"the users (?P<argument>.+)"), "users"),
    (re.compile(r"the bots (?P<argument>.+)"), "bots"),
    (re.compile(r"the names (?P<argument>.+)"), "names"),
    (re.compile(r"(?P<actor>\w+) and (?P<argument>\w+) are contacts"), "befriend"),
    (re.compile(r"the log of (?P<actor>\w+) keeps (?P<argument>\d+) entr(?:y|ies)"), "cut"),
    (re.compile(r"(?P<argument>\d+) seconds pass"), "pass"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) connects"), "connect"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) logs in"), "log_in"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) comes back"), "come_back"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) sends the text (?P<argument>.+)"), "send_text"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) sends (?P<argument>\{.+\})"), "send"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) receives nothing"), "receive_nothing"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) receives in any order (?P<argument>\[.+\])"), "receive_all"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) receives (?P<argument>\{.+\})"), "receive"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) disconnects"), "disconnect"),
    (re.compile(r"(?P<actor>\w+(?:'s \w+)?) is disconnected"), "receive_end"),
]


def scripts() -> dict[str, list[Step]]:
    """All dialogues by name."""
    return {path.stem: parse(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.dialogue"))}


def parse(text: str) -> list[Step]:
    """Raises ValueError for a line that is no sentence."""
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [_step(number, line) for number, line in lines if line and not line.startswith("#")]


def _step(number: int, line: str) -> Step:
    for pattern, verb in _SENTENCES:
        found = pattern.fullmatch(line)
        if found is not None:
            parts = found.groupdict()
            return Step(number, parts.get("actor") or "", verb, _argument(verb, parts.get("argument")))
    raise ValueError(f"line {number} is no sentence: {line}")


def _argument(verb: str, text: str | None) -> Any:
    if text is None:
        return None
    if verb in ("users", "bots", "names"):
        return [name.strip() for name in text.split(",")]
    if verb in ("cut", "pass"):
        return int(text)
    return json.loads(text) if verb in ("send", "receive", "receive_all") else text


def device_of(actor: str) -> tuple[str, str]:
    """User and device: `alice's phone` is alice at phone, `alice` alone is alice at laptop."""
    user, _, device = actor.partition("'s ")
    return user, device or "laptop"
