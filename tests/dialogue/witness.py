"""Holds every frame of a dialogue against the protocol's schema."""

import json
from typing import Any

from tests.dialogue.play import Line
from tests.protocol.strict_schema import check_ok, check_push, check_reply, check_request


class Witness:
    """Of any number of connections."""

    def __init__(self) -> None:
        self.answered: set[str] = set()  # the requests that got an `ok`
        self.pushed: set[str] = set()

    def watch(self, line: Line) -> "WatchedLine":
        return WatchedLine(line, self)


class WatchedLine:
    """A line whose every frame is looked at. A request may be wrong; one that is answered by `ok` may not."""

    def __init__(self, line: Line, witness: Witness) -> None:
        self._line, self._witness = line, witness
        self._asked: dict[object, dict[str, Any]] = {}  # by `ref`

    def send(self, text: str) -> None:
        try:
            frame = json.loads(text)
        except ValueError:
            frame = None
        if isinstance(frame, dict) and isinstance(frame.get("ref"), int | str):
            self._asked[frame["ref"]] = frame
        self._line.send(text)

    def receive(self) -> Any:
        frame = self._line.receive()
        if frame is None:
            return None
        if "ev" in frame:
            check_push(frame)
            self._witness.pushed.add(frame["ev"])
            return frame
        check_reply(frame)
        if "ok" in frame:
            asked = self._asked[frame["re"]]
            check_request(asked)
            check_ok(asked["op"], frame["ok"])
            self._witness.answered.add(asked["op"])
        return frame

    def receive_nothing(self) -> None:
        self._line.receive_nothing()

    def close(self) -> None:
        self._line.close()
