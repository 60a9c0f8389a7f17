"""Plays a dialogue on a stage: something that clients can be connected to."""

import itertools
import json
from collections.abc import Callable
from typing import Any, Protocol

from tests.dialogue.script import Step, device_of

ANYTHING = "..."
PASSWORD = "secret"
DAY_SECONDS = 86400


class Line(Protocol):
    """One client's connection, whatever it is made of."""

    def send(self, text: str) -> None:
        """One frame."""

    def receive(self) -> Any:
        """The next frame, decoded; None where the server has ended the connection. Fails where there is neither."""

    def receive_nothing(self) -> None:
        """Fails if there is a frame."""

    def close(self) -> None: ...


class Stage(Protocol):
    """Where a dialogue is played."""

    def open(self) -> Line: ...

    def now(self) -> int:
        """Unix seconds, by the clock of the server."""

    def add_bot(self, name: str, device: str) -> str:
        """A token for its device."""

    def cut_log(self, user: str, entries: int) -> None:
        """Only the newest entries are kept."""

    def pass_time(self, seconds: int) -> None: ...


_plays = itertools.count(1)


class Play:
    """One dialogue. Stages are shared, so its users get names that no other has; nobody in the dialogue sees that."""

    def __init__(self, stage: Stage, watch: Callable[[Line], Line] = lambda line: line) -> None:
        """`watch` sees every frame: it is given each line, and gives the one that is used."""
        self._stage = stage
        self._watch = watch
        self._number = next(_plays)
        self._lines: dict[str, Line] = {}
        self._noted: dict[str, Any] = {"$tomorrow": stage.now() + DAY_SECONDS}
        self._stage_names: dict[str, str] = {}
        self._tokens: dict[str, str] = {}  # of bots
        self._shown: dict[tuple[str, str], Any] = {}  # actor, user -> the presence that was received last

    def run(self, steps: list[Step]) -> None:
        try:
            for step in steps:
                self._do(step)
        finally:
            for line in self._lines.values():
                line.close()

    def _do(self, step: Step) -> None:
        try:
            getattr(self, f"_do_{step.verb}")(step.actor, step.argument)
        except Exception as error:
            error.add_note(f"in line {step.line}: {step.actor} {step.verb} {step.argument or ''}")
            raise

    # -- sentences

    def _do_users(self, _: str, names: list[str]) -> None:
        self._do_names("", names)
        line = self._watch(self._stage.open())
        for name in names:
            self._say(line, {"op": "register", "ref": 1, "user": name, "password": PASSWORD})
            self._match({"re": 1, "ok": {}}, line.receive())
        line.close()

    def _do_bots(self, _: str, names: list[str]) -> None:
        self._do_names("", names)
        for name in names:
            self._tokens[name] = self._stage.add_bot(self._stage_names[name], device_of(name)[1])

    def _do_names(self, _: str, names: list[str]) -> None:
        self._stage_names.update({name: f"{name}-{self._number}" for name in names})

    def _do_connect(self, actor: str, _: None) -> None:
        self._lines[actor] = self._watch(self._stage.open())

    def _do_log_in(self, actor: str, _: None) -> None:
        self._enter(actor)
        self._do_receive(actor, {"ev": "synced", "at": ANYTHING})

    def _do_come_back(self, actor: str, _: None) -> None:
        self._enter(actor)
        while (frame := self._lines[actor].receive()).get("ev") != "synced":
            assert "at" in frame, f"received {frame}, which is no entry"

    def _enter(self, actor: str) -> None:
        self._do_connect(actor, None)
        user, device = device_of(actor)
        right = {"token": self._tokens[user]} if user in self._tokens else {"user": user, "password": PASSWORD}
        self._do_send(actor, {"op": "login", "ref": 0, "device": device, **right})
        welcome = {"user": user, "device": device, ANYTHING: ANYTHING}
        self._do_receive(actor, {"re": 0, "ok": welcome})

    def _do_befriend(self, one: str, other: str) -> None:
        """Both are logged in, each at one device."""
        entry = {"ev": "contact", "version": ANYTHING, ANYTHING: ANYTHING}
        self._do_send(one, {"op": "contact.add", "ref": 0, "user": other})
        self._do_receive_all(one, [entry, {"re": 0, "ok": {}}])
        self._do_receive(other, entry)
        self._do_send(other, {"op": "contact.accept", "ref": 0, "user": one})
        shows = {"ev": "presence", "show": "online", ANYTHING: ANYTHING}
        self._do_receive_all(one, [entry, {**shows, "user": other}])
        self._do_receive_all(other, [entry, {**shows, "user": one}, {"re": 0, "ok": {}}])

    def _do_send(self, actor: str, frame: dict[str, Any]) -> None:
        self._say(self._lines[actor], self._filled(frame))

    def _do_send_text(self, actor: str, text: str) -> None:
        self._lines[actor].send(text)

    def _do_receive(self, actor: str, expected: dict[str, Any]) -> None:
        frame = self._receive_news(actor, expects_presence=expected.get("ev") == "presence")
        assert frame is not None, f"the connection ended; expected {expected}"
        self._match(expected, frame)

    def _do_receive_all(self, actor: str, expected: list[dict[str, Any]]) -> None:
        missing = list(expected)
        while missing:
            expects_presence = any(one.get("ev") == "presence" for one in missing)
            frame = self._receive_news(actor, expects_presence=expects_presence)
            found = next((one for one in missing if self._matches(one, frame)), None)
            assert found is not None, f"received {frame}, expected one of {self._filled(missing)}"
            missing.remove(found)

    def _do_receive_nothing(self, actor: str, _: None) -> None:
        self._lines[actor].receive_nothing()

    def _do_disconnect(self, actor: str, _: None) -> None:
        self._lines.pop(actor).close()

    def _do_receive_end(self, actor: str, _: None) -> None:
        frame = self._lines[actor].receive()
        assert frame is None, f"the connection goes on: {frame}"
        self._do_disconnect(actor, None)

    def _do_cut(self, user: str, entries: int) -> None:
        self._stage.cut_log(self._stage_names[user], entries)

    def _do_pass(self, _: str, seconds: int) -> None:
        self._stage.pass_time(seconds)

    # -- frames

    def _receive_news(self, actor: str, *, expects_presence: bool) -> Any:
        """A session may be told a presence that it has been told already."""
        while True:
            frame = self._seen_as(self._lines[actor].receive())
            if frame is None or frame.get("ev") != "presence":
                return frame
            shown, key = {name: frame.get(name) for name in ("show", "status", "since")}, (actor, frame["user"])
            if expects_presence or self._shown.get(key) != shown:
                self._shown[key] = shown
                return frame

    def _say(self, line: Line, frame: dict[str, Any]) -> None:
        line.send(json.dumps(_mapped(frame, self._stage_names)))

    def _seen_as(self, frame: Any) -> Any:
        return _mapped(frame, {stage_name: name for name, stage_name in self._stage_names.items()})

    def _filled(self, value: Any) -> Any:
        return _mapped(value, self._noted)

    def _match(self, expected: Any, frame: Any) -> None:
        assert self._matches(expected, frame), f"received {frame}, expected {self._filled(expected)}"

    def _matches(self, expected: Any, value: Any) -> bool:
        if expected == ANYTHING:
            return True
        if isinstance(expected, str) and expected.startswith("$"):
            return bool(self._noted.setdefault(expected, value) == value)
        if isinstance(expected, dict):
            return isinstance(value, dict) and self._dicts_match(expected, value)
        if isinstance(expected, list):
            same = isinstance(value, list) and len(value) == len(expected)
            return same and all(map(self._matches, expected, value))
        return bool(expected == value)

    def _dicts_match(self, expected: dict[str, Any], value: dict[str, Any]) -> bool:
        """All fields and no others, but where `"..."` stands among them."""
        names = set(expected) - {ANYTHING}
        complete = names == set(value) if ANYTHING not in expected else names <= set(value)
        return complete and all(self._matches(expected[name], value[name]) for name in names)


def _mapped(value: Any, names: dict[str, Any]) -> Any:
    """Every string that is one of `names`, replaced."""
    if isinstance(value, dict):
        return {names.get(key, key): _mapped(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value
