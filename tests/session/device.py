"""A client as the protocol wants it, and a judge of what it is told.

It says `login` with its cursor, repeats sends that have no answer, and notes every message at its position; what comes
at a position, be it an entry or the reply that stands for one, moves the cursor. What may never happen raises
AssertionError at once: an entry out of order, an entry twice, an own message pushed to the session that sent it, a
second `synced`.
"""

import json
from typing import Any

from tests.session.memory import Wire
from tests.session.node import ServerNode, token_for

Key = tuple[str, str, str]  # sender, device, id: one message, wherever it is


def order(at: str) -> tuple[int, ...]:
    return tuple(int(part) for part in at.split("-"))


class Device:
    """One device of a user, connected or not; it speaks lines."""

    def __init__(self, user: str, name: str) -> None:
        self.user, self.name = user, name
        self.wire: Wire | None = None
        self.node: ServerNode | None = None
        self.known: dict[str, Key] = {}  # position in the own log -> message
        self.confirmed: dict[str, str] = {}  # id -> position
        self.outbox: dict[str, str] = {}  # id -> recipient; without an answer, in the order of the first try
        self.refused: dict[str, str] = {}  # id -> code, for good
        self.sent: dict[str, str] = {}  # id -> recipient, all that were ever sent
        self.cursor = "0-0"
        self.byes: list[str] = []
        self._partial = b""
        self._begin_session()

    def _begin_session(self) -> None:
        self._speaks = False  # says what it has to say; before that, it would come before what is to be repeated
        self.welcomed: str | None = None  # the log's end at login
        self.synced: str | None = None
        self.truncated: list[str] = []
        self.unanswered: dict[str | int, str] = {}  # ref -> message id
        self._refs = 0
        self._reached: tuple[int, ...] = (-1,)  # position of the last entry, or of the reply that stood for it
        self._said: set[str] = set()  # ids sent for the first time in this session
        self._told: set[str] = set()  # ids confirmed in this session

    # -- the connection

    def connect(self, node: ServerNode, *, since: bool, capacity: int = 200, eager: bool = False) -> None:
        """`since`: tells its own cursor, else the stored one counts. `eager`: sends without waiting for the login."""
        assert self.wire is None
        self._begin_session()
        self._partial = b""
        self.node, self.wire = node, node.open(capacity=capacity)
        login = {"op": "login", "ref": "login", "device": self.name, "token": token_for(self.user, self.name)}
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
            self._hear(json.loads(line))
        if self.wire is wire and wire.at_end:
            self.disconnect()
            return True
        return bool(data)

    def _write(self, request: dict[str, Any]) -> None:
        if self.wire is not None:
            self.wire.write(json.dumps(request).encode() + b"\n")

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
        self.unanswered[self._refs] = message_id
        self._write({"op": "send", "ref": self._refs, "id": message_id, "to": to, "body": body})

    def body(self, message_id: str) -> str:
        return f"{message_id} of {self.user} for {self.sent[message_id]}"

    def repeat(self) -> None:
        """All sends without an answer, in order."""
        for message_id in list(self.outbox):
            self._say(message_id)

    def ack(self) -> None:
        if self.welcomed is not None and self.cursor != "0-0":
            self._write({"op": "ack", "upto": self.cursor})

    # -- what it is told

    def _hear(self, frame: dict[str, Any]) -> None:
        if "re" in frame:
            self._hear_reply(frame["re"], frame)
        else:
            getattr(self, f"_hear_{frame['ev']}")(frame)

    def _hear_reply(self, ref: str | int, frame: dict[str, Any]) -> None:
        if ref == "login":
            assert "ok" in frame or frame["err"]["code"] == "unavailable", frame
            self._enter(frame["ok"]) if "ok" in frame else self.disconnect()
            return
        message_id = self.unanswered.pop(ref)
        if "ok" in frame:
            self._confirm(message_id, frame["ok"])
            return
        self._said.discard(message_id)  # outcome unknown: if it was stored, a push will say so
        if frame["err"]["code"] not in ("unavailable", "not-logged-in"):
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
        if message_id in self._said and message_id not in self.confirmed:
            # After a lost link it may come late, when newer entries were forwarded; never early.
            self._reached = max(self._reached, order(at))
        assert self.confirmed.setdefault(message_id, at) == at, "two answers to one message"
        self.outbox.pop(message_id, None)
        self._told.add(message_id)
        self._note(at, (self.user, self.name, message_id))
        self._advance(at)

    def _note(self, at: str, key: Key) -> None:
        assert self.known.setdefault(at, key) == key, f"two messages at {at}"

    def _hear_msg(self, entry: dict[str, str]) -> None:
        at, key = entry["at"], (entry["from"], entry["device"], entry["id"])
        assert self.welcomed is not None, "a push before the welcome"
        assert order(at) > self._reached, f"{at} after {self._reached}"
        assert order(entry["prev"]) < order(at)
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
        assert order(frame["at"]) >= order(self.welcomed) or self.truncated
        self.synced = frame["at"]
        self._advance(frame["at"])

    def _hear_truncated(self, frame: dict[str, str]) -> None:
        self.truncated.append(frame["at"])

    def _hear_bye(self, frame: dict[str, str]) -> None:
        self.byes.append(frame["code"])

    def _hear_ping(self, frame: dict[str, str]) -> None:
        self._write({"op": "ping"})

    def _hear_error(self, frame: dict[str, str]) -> None:
        raise AssertionError(frame)
