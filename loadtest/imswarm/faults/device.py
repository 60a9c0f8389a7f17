"""One device of the run: imclient underneath, and a history of all it does and sees."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from imclient import (
    Client,
    Disconnected,
    GroupChanged,
    Message,
    Presence,
    SendFailed,
    Sent,
    State,
    Truncated,
    Welcomed,
    connect,
)
from imclient.address import Address
from imclient.events import OWN_LOG

from imserver.errors import ImError, RequestError, ServiceError
from imswarm.faults.incidents import CUT, REFUSED, TURNED_AWAY, Incident
from imswarm.faults.plan import Seat
from imswarm.group_judge import JOINED, PARTED
from imswarm.history import Begin, Change, Deliver, Dial, Fail, Gone, Here, Invoke, Line, Ok, Seen, Unknown, content_of

Record = Callable[[Line], None]
MARK = "mark"
_AGAIN_SECONDS = 0.2


class BreakableStream(ByteStream):
    """A connection that can be reset in the middle of what it sends next."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._is_to_break = False

    def break_next(self) -> None:
        self._is_to_break = True

    @property
    def is_to_break(self) -> bool:
        """Its end is not the server's doing."""
        return self._is_to_break

    def reset(self) -> None:
        """The peer gets an RST, whatever was said before; nothing, where the connection is closed already."""
        raw = self._stream.extra(SocketAttribute.raw_socket)
        if raw.fileno() < 0:
            return
        self._is_to_break = True
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        trio.lowlevel.notify_closing(raw)
        raw.close()

    async def send(self, item: bytes) -> None:
        if not self._is_to_break:
            await self._stream.send(item)
            return
        await self._stream.send(item[: len(item) // 2])
        self.reset()
        raise anyio.BrokenResourceError("reset on purpose")

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class TalkingDevice:
    """Runs until it is told to leave. It comes back by itself: that is imclient's business."""

    def __init__(self, seat: Seat, record: Record) -> None:
        self.seat = seat
        self.delivered = 0
        self._marked: set[str] = set()  # logs
        self._is_member = not seat.role.wanders
        self._is_changing = False
        self.has_left = False
        self._troubles: list[str] = []
        self._incidents: list[Incident] = []
        self._record = record
        self._client: Client | None = None
        self._stream: BreakableStream | None = None
        self._outstanding: dict[str, str] = {}  # id -> recipient
        self._busy: Counter[str] = Counter()  # recipient -> messages outstanding
        self._own: set[str] = set()  # ids that were answered
        self._cursors = {OWN_LOG: seat.since}
        self._life = trio.CancelScope()
        self._is_leaving = False
        self._may_live = trio.Event()
        self._may_live.set()
        self._dials: deque[BreakableStream | None] = deque()  # of this life, without those whose end was heard of
        self._is_inside = False  # let in by the oldest of them
        record(Begin(time.monotonic(), seat.since))

    # -- talking

    @property
    def is_live(self) -> bool:
        return self._client is not None and self._client.state is State.LIVE

    @property
    def is_marked(self) -> bool:
        """It has the marks of its own log and of the group that it is a member of."""
        needed = {self.seat.device.user, self.seat.role.group} if self._is_member else {self.seat.device.user}
        return needed <= self._marked

    @property
    def is_shown_all(self) -> bool:
        """All its contacts are there, as far as it knows."""
        return self._client is not None and self._client.people.presence.keys() >= set(self.seat.contacts)

    @property
    def unanswered(self) -> int:
        return len(self._outstanding) + self._is_changing

    def can_say(self, to: str, window: int) -> bool:
        return self._client is not None and not self._life.cancel_called and self._busy[to] < window

    def say(self, to: str, body: str) -> None:
        """Begins to send. `can_say` MUST be so."""
        assert self._client is not None
        if body.startswith(MARK):
            self._marked.add(to)  # its answer stands for it
        now = time.monotonic()
        try:
            message = self._client.send_nowait(to, body)
        except ImError as error:
            self._troubles.append(f"{self.seat.device} can't send: {error}")
            return
        self._record(Invoke(now, message, to, content_of(body)))
        self._outstanding[message] = to
        self._busy[to] += 1

    async def change_group(self, whom: str) -> None:
        """Kicks, or where it is itself: joins or leaves the group. Asked again until it is answered."""
        self._is_changing = True
        joins = not self._is_member
        while not self._is_leaving:
            try:
                if await self._ask_for_change(whom, joins=joins):
                    break
            except RequestError:
                break  # the other one was faster
            except ImError:
                pass
            await trio.sleep(_AGAIN_SECONDS)
        self._is_changing = False

    async def _ask_for_change(self, whom: str, *, joins: bool) -> bool:
        """False: there is no connection. Raises ImError."""
        if not self.is_live or self._client is None:
            return False
        groups, group = self._client.groups, self.seat.role.group
        if whom != self.seat.device.user:
            await groups.kick(group, whom)
        elif joins:
            await groups.join(group)
        else:
            await groups.leave(group)
        return True

    @property
    def state(self) -> str:
        """For people."""
        return "not running" if self._client is None else self._client.state.value

    def take_troubles(self) -> list[str]:
        """What should not have happened since the last time, in words."""
        troubles, self._troubles = self._troubles, []
        return troubles

    def take_incidents(self) -> list[Incident]:
        """What it met since the last time."""
        incidents, self._incidents = self._incidents, []
        return incidents

    # -- being broken

    def break_connection(self) -> None:
        """The next frame is cut in two, and the connection reset."""
        if self._stream is not None:
            self._stream.break_next()

    def die(self) -> None:
        """The program ends without a word; `run` starts another one in its place."""
        if self._stream is not None:
            self._stream.reset()
        self._life.cancel()

    def stay_away(self, *, says_so: bool) -> None:
        """Until `come_back`: logs out, or dies."""
        self._may_live = trio.Event()
        if says_so:
            self._log_out()
        else:
            self.die()

    def come_back(self) -> None:
        self._may_live.set()

    def leave(self) -> None:
        """Logs out; `run` returns."""
        self._is_leaving = True
        self._may_live.set()
        self._log_out()

    def _log_out(self) -> None:
        if self.is_live:
            self._record(Gone(time.monotonic(), said=True))
        self._life.cancel()  # which says it

    # -- living

    async def run(self) -> None:
        while True:
            await self._may_live.wait()
            if self._is_leaving:
                break
            try:
                await self._live()
            except ImError as error:
                if not self._comes_back(error):
                    break
                await trio.sleep(_AGAIN_SECONDS)
        self.has_left = True

    def _comes_back(self, error: ImError) -> bool:
        """A program that is started while nobody answers is started again; anything else is trouble."""
        if not isinstance(error, ServiceError):
            self._troubles.append(f"{self.seat.device}: {type(error).__name__}: {error}")
        return isinstance(error, ServiceError)

    async def _live(self) -> None:
        """One life of the program: from its start to its end, which may come at any moment."""
        seat, since = self.seat, self._cursors
        self._dials.clear()
        self._is_inside = False
        try:
            with trio.CancelScope() as self._life:
                async with connect(
                    seat.url, token=seat.token, device=seat.device.name, since=since, dial=self._dial
                ) as client:
                    self._client = client
                    async for event in client.events():
                        self._on_event(event)
        finally:
            if self._client is not None:
                await self._bury(self._client)
                self._client = None
            if self._dials:
                self._record(Gone(time.monotonic()))

    async def _bury(self, client: Client) -> None:
        """What was kept is where the next life begins; what has no answer never gets one."""
        with suppress(ImError):
            while True:  # answers that have come count; messages not taken come again
                if not isinstance(event := await client.take(), Message):
                    self._on_event(event)
        self._cursors = client.cursors
        for message, to in self._outstanding.items():
            self._record(Unknown(time.monotonic(), message, "the program ended"))
            self._busy[to] -= 1
        self._outstanding.clear()

    async def _dial(self, address: Address) -> ByteStream:
        self._dials.append(None)
        self._record(Dial(time.monotonic()))
        try:
            self._stream = BreakableStream(await anyio.connect_tcp(address.host, address.port))
        except OSError as error:
            self._meet(REFUSED, str(error))
            raise
        self._dials[-1] = self._stream
        return self._stream

    def _on_disconnected(self, event: Disconnected) -> None:
        """Each is of the oldest dial. A stream that was broken on purpose, or never was, says nothing of the server."""
        self._record(Gone(time.monotonic()))
        stream, was_inside = self._dials.popleft(), self._is_inside
        self._is_inside = False
        if stream is not None and not stream.is_to_break and event.bye is None:
            self._meet(CUT if was_inside else TURNED_AWAY, event.why)

    def _meet(self, kind: str, why: str) -> None:
        now = time.monotonic()
        self._incidents.append(Incident(now, now, kind, str(self.seat.device), why))

    # -- what comes

    def _on_event(self, event: object) -> None:
        now = time.monotonic()
        match event:
            case Message():
                self._on_message(event, now)
            case Sent():
                self._own.add(event.id)
                self._settle(event.id)
                self._record(Ok(now, event.id, event.at))
            case SendFailed():
                self._settle(event.id)
                self._record(Fail(now, event.id, str(event.error)))
            case Welcomed():
                self._is_inside = True
                self._record(Here(now))
            case Presence():
                self._record(Seen(now, event.user, event.show))
            case Disconnected():
                self._on_disconnected(event)
            case GroupChanged():
                self._on_change(event, now)
            case Truncated() if event.log != OWN_LOG and self.seat.role.wanders:
                pass  # it was no member meanwhile: the judge knows what it is to have
            case Truncated():
                self._troubles.append(f"{self.seat.device}: the log was truncated at {event.at}")

    def _on_change(self, event: GroupChanged, now: float) -> None:
        user = self.seat.device.user
        self._record(Change(now, event.at, event.log or user, event.change, event.user))
        if event.user == user and event.group == self.seat.role.group:
            self._is_member = event.change in JOINED or (self._is_member and event.change not in PARTED)

    def _settle(self, message: str) -> None:
        to = self._outstanding.pop(message, None)
        if to is not None:
            self._busy[to] -= 1

    def _on_message(self, message: Message, now: float) -> None:
        user, name = self.seat.device
        if message.sender == user and message.device == name and message.id in self._own:
            return  # a life before this one was answered; the new one does not know, and is given it again
        self.delivered += 1
        if str(message.body).startswith(MARK):
            self._marked.add(message.to)
        content = content_of(message.body)
        self._record(
            Deliver(now, message.at, message.prev, message.sender, message.device, message.id, message.to, content)
        )
