"""The people in the tests: one in front of the page, others at a bare socket."""

import json
import socket
from itertools import count
from types import TracebackType
from typing import Any, Self

from playwright.sync_api import Locator, Page, expect

PASSWORD = "correct horse"
PATIENCE_SECONDS = 20.0


class Person:
    """Somebody with a client of ten lines: JSON lines over TCP, one device, everything in the order of the socket."""

    def __init__(self, address: tuple[str, int], user: str, device: str = "desk") -> None:
        self.user = user
        self.device = device
        self._address = address
        self._ids = count()
        self._messages: list[dict[str, Any]] = []
        self._heard: list[str] = []  # where the messages of others stand
        self._changes: list[str] = []  # of groups
        self._since = "0-0"
        self._connect()

    def register(self) -> Self:
        self._ask(op="register", user=self.user, password=PASSWORD)
        return self.log_in()

    def log_in(self) -> Self:
        self._ask(op="login", user=self.user, password=PASSWORD, device=self.device, since=self._since)
        return self

    def come_back(self) -> None:
        """After the connection was lost."""
        self.close()
        self._connect()
        self.log_in()

    def say(self, to: str, body: object) -> None:
        self._ask(op="send", id=f"{self.device}-{next(self._ids)}", to=to, body=body)

    def keeps(self, count: int) -> None:
        """The first so many of the messages of others that it has heard."""
        self._ask(op="ack", upto=self._heard[count - 1])

    def reads(self, partner: str, count: int) -> None:
        """The same; it has read them."""
        self._ask(op="read", upto=self._heard[count - 1], **{"with": partner})

    def does(self, op: str, **fields: object) -> None:
        self._ask(op=op, **fields)

    def is_told(self, event: str, **fields: object) -> None:
        """Such an event comes next, among others of other kinds."""
        wanted = {"ev": event, **fields}
        while not wanted.items() <= (frame := self._read()).items():
            assert frame.get("ev") != event or event == "presence", frame
            self._note(frame)

    def hears(self, *bodies: object) -> None:
        """The next messages of others are these, in this order."""
        heard: list[object] = []
        while len(heard) < len(bodies):
            message = self._next_message()
            if message["from"] != self.user:
                heard.append(message["body"])
                self._heard.append(message["at"])
        assert heard == list(bodies)

    def found(self, group: str, *, invite: str) -> None:
        """Makes a closed group and invites somebody."""
        self._ask(op="group.create", group=group, name="A group")
        self._ask(op="group.invite", group=group, user=invite)

    def is_told_of(self, change: str) -> None:
        """Of a group: `alice joined`."""
        while change not in self._changes:
            self._note(self._read())

    def hears_no_more(self) -> None:
        """Nothing more has come; what was stored before now would have, since the answer comes behind it."""
        self._ask(op="ping")
        assert [message["body"] for message in self._messages if message["from"] != self.user] == []

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, PATIENCE_SECONDS)
        self._lines = self._socket.makefile("rb")

    def _ask(self, **request: Any) -> None:
        self._socket.sendall(json.dumps(request | {"ref": 1}).encode() + b"\n")
        while "re" not in (frame := self._read()):
            self._note(frame)
        assert "ok" in frame, frame

    def _next_message(self) -> dict[str, Any]:
        while not self._messages:
            self._note(self._read())
        return self._messages.pop(0)

    def _note(self, frame: dict[str, Any]) -> None:
        if frame.get("ev") == "msg":
            self._messages.append(frame)
            self._since = self._since if "log" in frame else frame["at"]
        elif frame.get("ev") == "group":
            self._changes.append(f"{frame.get('user')} {frame['change']}")

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, "the server closed the connection"
        frame: dict[str, Any] = json.loads(line)
        return frame


class Visitor:
    """Somebody in front of the page, who finds things by what is written on them."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def register(self, user: str) -> Self:
        self.page.get_by_role("button", name="Create an account").click()
        return self._enter(user, "Create account")

    def sign_in(self, user: str, password: str = PASSWORD) -> Self:
        return self._enter(user, "Sign in", password)

    def _enter(self, user: str, button: str, password: str = PASSWORD) -> Self:
        self.page.get_by_label("Name").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name=button, exact=True).click()
        return self

    def is_in(self) -> Self:
        """Signed in, and live."""
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        expect(self.banner).to_be_hidden()
        return self

    def start(self, partner: str) -> None:
        self.page.get_by_label("Write to").fill(partner)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("heading", name=partner)).to_be_visible()

    def open(self, partner: str) -> None:
        self.in_list(partner).click()

    def say(self, *texts: str) -> None:
        for text in texts:
            self.page.get_by_label("Message", exact=True).fill(text)
            self.page.keyboard.press("Enter")

    def sees(self, *texts: str) -> None:
        """The open conversation: these messages, in this order, and no other."""
        expect(self.texts).to_have_text(list(texts))

    @property
    def texts(self) -> Locator:
        return self.page.locator(".bubble .text")

    @property
    def banner(self) -> Locator:
        return self.page.locator(".banner")

    def in_list(self, partner: str) -> Locator:
        return self.page.get_by_role("navigation").get_by_role("button").filter(has_text=partner)

    def unread(self, partner: str) -> Locator:
        return self.in_list(partner).locator(".unread")

    def sees_states(self, *states: str) -> None:
        """What is said of each message of one's own."""
        expect(self.page.locator(".own .state")).to_have_text(list(states))
