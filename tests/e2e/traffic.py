"""Traffic for fault tests: users who talk in both directions, on several devices each, through whatever happens.

Every device comes back when its connection ends: by token, from the last entry it has. What a sender got no answer to
it says again, in order, with the same ids.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import websockets

from tests.e2e.client import Address, Client, Ended, Frame, Refused, TcpClient, WebSocketClient
from tests.e2e.judge import Heard, Talk, judge

_numbers = itertools.count()  # users nobody has talked to yet

WINDOW = 8
DEADLINE_SECONDS = 60.0
DURING_FAULT_SECONDS = 0.1  # between bursts: so slow that there is traffic before, in and after the fault
_AGAIN_SECONDS = 0.02  # before the next attempt to connect: a client that does not spin
_PASSING = {"unavailable", "overloaded"}


class Place(Protocol):
    """Where clients go: a server, or what stands in front of several."""

    @property
    def tcp(self) -> Address: ...
    @property
    def http(self) -> Address: ...
    @property
    def log(self) -> str: ...


class Given(Exception):
    """The deadline has passed."""


@dataclass
class Device:
    """One device of a user. `run` until it has heard everything, then `heard` is what it heard."""

    traffic: "Traffic"
    user: str
    name: str
    connect: Callable[[], Client]
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    byes: list[str] = field(default_factory=list)
    _at: str | None = None
    _token: str | None = None
    _missing: set[Heard] = field(default_factory=set)

    @property
    def label(self) -> str:
        return f"{self.user}/{self.name}"

    def run(self) -> None:
        self._missing = {(talk, it) for talk in self.traffic.audience(self) for it in self.traffic.ids}
        while not self._is_done():
            try:
                self._session()
            except (OSError, websockets.WebSocketException):
                time.sleep(_AGAIN_SECONDS)
            except Refused as refused:
                assert refused.code in _PASSING, refused
                time.sleep(_AGAIN_SECONDS)

    def _is_done(self) -> bool:
        self.traffic.check_deadline()
        return not self._missing

    def _session(self) -> None:
        with self.connect() as client:
            since = {} if self._at is None else {"since": self._at}
            token = {} if self._token is None else {"token": self._token}
            self._token = client.log_in(self.user, self.name, **since, **token)["token"]
            self.connections += 1
            self._begin(client)
            while not self._is_done():
                self._take(client, client.receive())
            # Whatever comes too often came before this answer.
            client.say("ping", ref="last")
            while (frame := client.receive()).get("re") != "last":
                self._take(client, frame)

    def _begin(self, client: Client) -> None:
        """Has logged in."""

    def _take(self, client: Client, frame: Frame) -> None:
        if frame.get("ev") == "bye":
            self.byes.append(frame["code"])
            assert frame["reconnect"], frame
            raise Ended(frame["code"])
        assert frame.get("ev") != "truncated", frame
        if frame.get("ev") == "msg":
            self._at = frame["at"]
            self._listen(frame)

    def _listen(self, frame: Frame) -> None:
        heard = (f"{frame['from']}>{frame['to']}", frame["id"])
        if heard[0] in self.traffic.audience(self):
            self.heard.append(heard)
            self._missing.discard(heard)


@dataclass
class Speaker(Device):
    """A device that also talks: to one user, with WINDOW messages unanswered at most."""

    to: str = ""
    acknowledged: list[str] = field(default_factory=list)
    _unanswered: list[str] = field(default_factory=list)
    _replies_due: int = 0
    _next: int = 0

    @property
    def talk(self) -> str:
        return f"{self.user}>{self.to}"

    def _is_done(self) -> bool:
        return super()._is_done() and len(self.acknowledged) == len(self.traffic.ids)

    def _begin(self, client: Client) -> None:
        self._replies_due = 0
        self._say_again(client)
        self._say_more(client)

    def _say_again(self, client: Client) -> None:
        for message_id in self._unanswered:
            self._say(client, message_id)

    def _say_more(self, client: Client) -> None:
        """A burst, when all of the one before is answered. The last one waits until the fault is over."""
        if self._unanswered:
            return
        is_last = self._next >= len(self.traffic.ids) - WINDOW
        self.traffic.over.wait(DEADLINE_SECONDS if is_last else self.traffic.pause_seconds)
        while len(self._unanswered) < WINDOW and self._next < len(self.traffic.ids):
            message_id = self.traffic.ids[self._next]
            self._next += 1
            self._unanswered.append(message_id)
            self._say(client, message_id)

    def _say(self, client: Client, message_id: str) -> None:
        self._replies_due += 1
        client.say("send", ref=message_id, id=message_id, to=self.to, body=f"{self.talk} {message_id}")

    def _take(self, client: Client, frame: Frame) -> None:
        if frame.get("re") in self._unanswered:
            self._take_reply(client, frame)
        elif "err" in frame:
            raise Refused(frame["err"])
        super()._take(client, frame)

    def _take_reply(self, client: Client, frame: Frame) -> None:
        self._replies_due -= 1
        if "ok" in frame:
            self._unanswered.remove(frame["re"])
            self.acknowledged.append(frame["re"])
            self.traffic.note_acknowledged()
        else:
            assert frame["err"]["code"] in _PASSING, frame
        if self._unanswered and not self._replies_due:  # those behind it failed, too: all are said again, in order
            time.sleep(_AGAIN_SECONDS)
            self._say_again(client)
        self._say_more(client)


class Traffic:
    """Pairs of users; each of the two talks to the other, and has three devices."""

    def __init__(self, server: Place, *, pairs: int = 2, messages: int = 2000) -> None:
        self.server = server
        self.ids = [f"m{number}" for number in range(messages // (2 * pairs))]
        self.devices: list[Device] = []
        self.speakers: list[Speaker] = []
        self.total = 0
        self.over = threading.Event()  # the fault has happened, and has been mended
        self.pause_seconds = 0.0  # between bursts
        self._deadline = time.monotonic() + DEADLINE_SECONDS
        self._count = 0
        self._progress = threading.Condition()
        self._failures: list[BaseException] = []
        for _ in range(pairs):
            one, other = f"one{next(_numbers)}", f"other{next(_numbers)}"
            self._add_user(one, other)
            self._add_user(other, one)
        self._threads = [threading.Thread(target=self._run, args=(device,)) for device in self.devices]

    def _add_user(self, user: str, partner: str) -> None:
        with self._tcp() as client:
            client.register(user)
        speaker = Speaker(self, user, "mouth", self._tcp, to=partner)
        self.speakers.append(speaker)
        self.devices += [speaker, Device(self, user, "ear", self._tcp), Device(self, user, "eye", self._websocket)]
        self.total += len(self.ids)

    def _tcp(self) -> Client:
        return TcpClient(self.server.tcp)

    def _websocket(self) -> Client:
        return WebSocketClient(self.server.http)

    def audience(self, device: Device) -> list[str]:
        """The talks that a device hears: all of its user's, but its own, of which it gets the replies."""
        mine = [it.talk for it in self.speakers if device.user in (it.user, it.to)]
        return [talk for talk in mine if not (isinstance(device, Speaker) and device.talk == talk)]

    # -- running

    def _run(self, device: Device) -> None:
        try:
            device.run()
        except BaseException as error:
            with self._progress:
                self._failures.append(error)
                self._progress.notify_all()
            if not isinstance(error, Exception):
                raise

    def note_acknowledged(self) -> None:
        with self._progress:
            self._count += 1
            self._progress.notify_all()

    def check_deadline(self) -> None:
        if time.monotonic() > self._deadline or self._failures:
            raise Given("not everything was heard in time")

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_acknowledged(self, share: float) -> None:
        """Until this share of all messages is acknowledged."""
        with self._progress:
            reached = self._progress.wait_for(
                lambda: self._count >= share * self.total or self._failures, DEADLINE_SECONDS
            )
        assert reached, f"{self._count} of {self.total} messages"

    def finish(self) -> list[str]:
        """The judgement, when all devices are done: what was heard live, and what a new device finds in the logs."""
        for thread in self._threads:
            thread.join()
        talks = {it.talk: Talk(self.ids[: it._next], set(it.acknowledged)) for it in self.speakers}
        heard: dict[str, Sequence[Heard]] = {device.label: device.heard for device in self.devices}
        audience = {device.label: self.audience(device) for device in self.devices}
        for user in {device.user for device in self.devices}:
            heard[f"{user}/new"] = list(self._kept(user))
            audience[f"{user}/new"] = [it.talk for it in self.speakers if user in (it.user, it.to)]
        faults = judge(talks, heard, audience)
        broken = [repr(error) for error in self._failures if not (faults and isinstance(error, Given))]
        return broken + faults

    def _kept(self, user: str) -> Iterator[Heard]:
        with self._tcp() as client:
            for frame in client.enter(user, "new"):
                yield f"{frame['from']}>{frame['to']}", frame["id"]


def assert_survived(server: Place, fault: Callable[[], object], **options: int) -> Traffic:
    """Lets `fault` happen in the middle of traffic. Nothing acknowledged is lost, doubled or out of order."""
    traffic = Traffic(server, **options)
    traffic.start()
    try:
        traffic.wait_acknowledged(1 / 4)
        traffic.pause_seconds = DURING_FAULT_SECONDS
        fault()
    finally:
        traffic.over.set()
        faults = traffic.finish()
    assert faults == [], "\n".join([f"{len(faults)} faults", *faults[:20], server.log])
    return traffic
