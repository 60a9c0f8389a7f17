"""A client as the protocol wants it, and a judge of what it is told.

It says `login` with its cursor, repeats sends that have no answer, and notes every message at its position; what comes
at a position, be it an entry or the reply that stands for one, moves the cursor. What may never happen raises
AssertionError at once: an entry out of order, an entry twice, an own message pushed to the session that sent it, a
second `synced`, an entry that follows an older one than it was told of, unless it was told that the log went back.

What was confirmed it keeps, and sends again when it is asked to, in the order of the first time and before all else.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from tests.session.memory import Wire
from tests.session.node import token_for
from tests.simulation.node import SimulatedNode

Key = tuple[str, str, str]  # sender, device, id: one message, wherever it is


@lru_cache(maxsize=4096)
def order(at: str) -> tuple[int, ...]:
    return tuple(int(part) for part in at.split("-"))


class Device:
    """One device of a user, connected or not; it speaks lines."""

    def __init__(self, user: str, name: str) -> None:
        self.user, self.name = user, name
        self.tell: Callable[[str], None] | None = None  # who wants to hear what it hears
        self.on_confirmed: Callable[[Device, str, str], None] = lambda device, message_id, at: None
        self.wire: Wire | None = None
        self.node: SimulatedNode | None = None
        self.stalled = False  # reads nothing, until it is told to go on
        self.known: dict[str, Key] = {}  # position in the own log -> message
        self.confirmed: dict[str, str] = {}  # id -> position
        self.outbox: dict[str, str] = {}  # id -> recipient; without an answer, in the order of the first try
        self.kept: dict[str, str] = {}  # id -> recipient; confirmed, and young enough to be sent again
        self.sent_again: set[str] = set()  # ids that were confirmed, and sent again since the store may have lost them
        self.refused: dict[str, str] = {}  # id -> code, for good
        self.sent: dict[str, str] = {}  # id -> recipient, all that were ever sent
        self.given_up: set[str] = set()  # ids that will not be repeated, and may never be answered
        self.unsure: set[str] = set()  # ids whose calls failed with an unknown outcome
        self.copies: dict[str, int] = {}  # id -> how many of its sends may still be on their way
        self.gaps: list[tuple[tuple[int, ...], tuple[int, ...]]] = []  # told of: behind the one, up to the other
        self.acked = False  # the store is known to have its cursor
        self.cursor = "0-0"
        self.pushed_out = 0  # how often its newest session was told that a newer one had replaced it
        self._partial = b""
        self._begin_session()

    def __str__(self) -> str:
        return f"{self.user}'s {self.name}"

    def key(self, message_id: str) -> Key:
        return (self.user, self.name, message_id)

    def said_to(self, user: str) -> list[Key]:
        return [self.key(message_id) for message_id, to in self.sent.items() if to == user]

    def _begin_session(self) -> None:
        self._speaks = False  # says what it has to say; before that, it would come before what is to be repeated
        self.welcomed: str | None = None  # the log's end at login
        self.synced: str | None = None
        self._is_new = False  # for the server: gaps before the first entry are no news to it
        self._has_heard_entry = False
        self._is_cut = False  # was told of a gap
        self.unanswered: dict[str | int, str] = {}  # ref -> message id
        self._refs = 0
        self._superseded: set[str | int] = set()  # refs of sends that were repeated, in order, since they were made
        self._reached: tuple[int, ...] = (-1,)  # position of the last entry, or of the reply that stood for it
        self._stands: tuple[int, ...] = (0, 0)  # all that it was told of in this session was up to there
        self._said: set[str] = set()  # ids sent for the first time in this session
        self._told: set[str] = set()  # ids confirmed in this session

    # -- the connection

    def connect(self, node: SimulatedNode, *, since: bool, capacity: int = 200, eager: bool = False) -> None:
        """`since`: tells its own cursor, else the stored one counts. `eager`: sends without waiting for the login."""
        assert self.wire is None
        self._begin_session()
        self._partial = b""
        self._is_new = not since and not self.acked
        self._stands = order(self.cursor) if since else (0, 0)
        self.node, self.wire = node, node.open(capacity=capacity)
        token = token_for(self.user, self.name)
        login: dict[str, object] = {"op": "login", "ref": "login", "device": self.name, "token": token, "resend": True}
        self._write(login | ({"since": self.cursor} if since else {}))
        self._speaks = eager
        if eager:
            self.repeat()

    def disconnect(self) -> None:
        if self.wire is not None:
            self.wire.hang_up()
            self.wire = self.node = None
            self._speaks = False

    def read(self, most: int = 1 << 30) -> bool:
        """Reads some bytes; a half line waits. False: there were none."""
        wire = self.wire
        if wire is None:
            return False
        data = wire.read(most)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            if self.tell is not None:
                self.tell(f"    {self} hears {_shown(line)}")
            self._hear(msgspec.json.decode(line))
        if self.wire is wire and wire.at_end:
            self.disconnect()
            return True
        return bool(data)

    def _write(self, request: dict[str, Any]) -> None:
        if self.wire is not None:
            self.wire.write(msgspec.json.encode(request) + b"\n")

    # -- what it says

    def send(self, to: str) -> None:
        message_id = f"{self.name}{len(self.sent)}"
        self.sent[message_id] = self.outbox[message_id] = to
        if self._speaks:
            self._said.add(message_id)
            self._say(message_id)

    def say_again(self, message_id: str) -> None:
        """Repeats a send, whether it was answered or not."""
        if self._speaks and message_id not in self.refused:
            self._say(message_id)

    def _say(self, message_id: str) -> None:
        to, body = self.sent[message_id], self.body(message_id)
        self._refs += 1
        self.copies[message_id] = self.copies.get(message_id, 0) + 1
        self.unanswered[self._refs] = message_id
        self._write({"op": "send", "ref": self._refs, "id": message_id, "to": to, "body": body})

    def body(self, message_id: str) -> str:
        return f"{message_id} of {self.user} for {self.sent[message_id]}"

    def repeat(self) -> None:
        """All sends without an answer, in order."""
        for message_id in list(self.outbox):
            self._say(message_id)

    def give_up(self) -> None:
        """Nobody will repeat what has no answer: the user deleted it, or lost patience. What had one is repeated."""
        unanswered = [message_id for message_id in self.outbox if message_id not in self.confirmed]
        self.given_up.update(unanswered)
        for message_id in unanswered:
            del self.outbox[message_id]

    def may_never_hear_of(self, key: Key) -> bool:
        """On the session that sends it the reply stands for an entry, and who gives up may not hear the reply."""
        return key[:2] == (self.user, self.name) and key[2] in self.given_up

    def forget_lost_copies(self) -> None:
        """All that was on its way has arrived, or never will; but for this session's own."""
        self.copies.clear()
        for message_id in self.unanswered.values():
            self.copies[message_id] = self.copies.get(message_id, 0) + 1

    def ack(self, *, wants_answer: bool) -> None:
        if self.welcomed is not None and self.cursor != "0-0":
            self._write({"op": "ack", "upto": self.cursor} | ({"ref": "ack"} if wants_answer else {}))

    # -- what it is told

    def _hear(self, frame: dict[str, Any]) -> None:
        if "re" in frame:
            self._hear_reply(frame["re"], frame)
        else:
            getattr(self, f"_hear_{frame['ev']}")(frame)

    def _hear_delivered(self, frame: dict[str, Any]) -> None:
        """Marks are maxima, not entries: nothing is promised of one but that it is about a message of this user."""
        assert frame["with"] == self.user, frame

    def _hear_conversations(self, frame: dict[str, Any]) -> None:
        """It would ask for its conversations."""

    def _hear_reply(self, ref: str | int, frame: dict[str, Any]) -> None:
        if ref == "login":
            assert "ok" in frame or frame["err"]["code"] == "unavailable", frame
            self._enter(frame["ok"]) if "ok" in frame else self.disconnect()
            return
        if ref == "ack":
            self.acked = self.acked or "ok" in frame
            return
        message_id = self.unanswered.pop(ref)
        self.copies[message_id] -= 1
        if "ok" in frame:
            self._confirm(message_id, frame["ok"])
            return
        self._said.discard(message_id)  # outcome unknown: if it was stored, a push will say so
        if frame["err"]["code"] == "unavailable":
            if ref not in self._superseded:
                self.unsure.add(message_id)
        elif frame["err"]["code"] != "not-logged-in":
            self.refused[message_id] = frame["err"]["code"]
            self.outbox.pop(message_id, None)

    def _enter(self, welcome: dict[str, Any]) -> None:
        assert self.welcomed is None, "a second welcome"
        self.welcomed = welcome["at"]
        if not self._speaks:
            self._speaks = True
            self.repeat()

    def _confirm(self, message_id: str, sent: dict[str, str]) -> None:
        at = sent["at"]
        assert sent["id"] == message_id
        self.on_confirmed(self, message_id, at)
        if message_id in self._said and message_id not in self.confirmed:
            # After a lost link it may come late, when newer entries were forwarded; never early.
            self._reached = max(self._reached, order(at))
        assert self.confirmed.get(message_id, at) == at or message_id in self.sent_again, "two answers to one message"
        self.confirmed[message_id] = at
        self._stands = max(self._stands, order(at))
        self._keep(message_id)
        self._told.add(message_id)
        self._note(at, (self.user, self.name, message_id))
        self._advance(at)

    def _keep(self, message_id: str) -> None:
        """Answered for; but the store may lose it."""
        self.outbox.pop(message_id, None)
        self.kept[message_id] = self.sent[message_id]

    def _hear_resend(self, frame: dict[str, Any]) -> None:
        """What its session heard of before, the log's end at login too, may be lost."""
        self._write({"op": "resend"})
        self._is_cut = True
        again = self.kept | self.outbox
        self.sent_again.update(self.kept)
        self._told.difference_update(again)
        self.kept.clear()
        self.outbox = {message_id: to for message_id, to in self.sent.items() if message_id in again}
        self._speaks = True
        self._superseded.update(self.unanswered)
        self.repeat()

    def _hear_regressed(self, frame: dict[str, str]) -> None:
        """It may not have been told of what was lost behind there."""
        assert order(frame["at"]) <= self._stands, "it has not gone back"
        self._stands, self.cursor = order(frame["at"]), frame["at"]

    def _note(self, at: str, key: Key) -> None:
        assert self.known.setdefault(at, key) == key, f"two messages at {at}"

    def _hear_msg(self, entry: dict[str, str]) -> None:
        at, key = entry["at"], (entry["from"], entry["device"], entry["id"])
        assert self.welcomed is not None, "a push before the welcome"
        assert order(at) > self._reached, f"{at} after {self._reached}"
        assert order(entry["prev"]) < order(at)
        assert order(entry["prev"]) >= self._stands, "the log went back, and nobody said so"
        self._stands = order(at)
        if self._is_new and not self._has_heard_entry:
            self.gaps.append((order("0-0"), order(entry["prev"])))
        self._has_heard_entry = True
        if key[:2] == (self.user, self.name):
            assert key[2] not in self._said, "pushed to the session that sent it"
            assert key[2] not in self._told, "pushed to the session that was told so"
        self._reached = order(at)
        self._note(at, key)
        self._advance(at)

    def _advance(self, at: str) -> None:
        self.cursor = max(self.cursor, at, key=order)

    def _hear_synced(self, frame: dict[str, str]) -> None:
        assert self.synced is None, "synced twice"
        assert self.welcomed is not None
        assert order(frame["at"]) >= order(self.welcomed) or self._is_cut
        if self._is_new and not self._has_heard_entry:
            self.gaps.append((order("0-0"), order(frame["at"])))
        self.synced = frame["at"]
        self._stands = max(self._stands, order(frame["at"]))
        self._advance(frame["at"])

    def _hear_truncated(self, frame: dict[str, str]) -> None:
        """What is between what it has and that position is gone; where nothing is left, that one too."""
        self._is_cut = True
        self.gaps.append((order(self.cursor), order(frame["at"])))

    def was_told_of_gap(self, at: str) -> bool:
        return any(start < order(at) <= end for start, end in self.gaps)

    def _hear_bye(self, frame: dict[str, str]) -> None:
        if frame["code"] == "replaced":
            self.pushed_out += 1

    def _hear_ping(self, frame: dict[str, str]) -> None:
        self._write({"op": "ping"})

    def _hear_error(self, frame: dict[str, str]) -> None:
        raise AssertionError(frame)


def _shown(line: bytes) -> str:
    """A frame for the story: without what is of no interest in it, or different each time."""
    frame = msgspec.json.decode(line)
    for name in ("body", "text"):
        frame.pop(name, None)
    if "token" in frame.get("ok", ()):
        frame["ok"] = {"at": frame["ok"]["at"]}
    if "err" in frame:
        frame["err"] = frame["err"]["code"]
    return " ".join(f"{name}={value}" for name, value in frame.items())
