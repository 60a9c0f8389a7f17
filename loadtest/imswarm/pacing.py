"""When to send: in a closed loop, in an open loop, or not at all.

Closed loop: each flow keeps `window` messages outstanding; a place is free again once a message
was delivered to its recipient and answered to its sender. Open loop: messages are sent when they
are due, whatever became of those before, and carry the time they were due: a server that falls
behind cannot hide it by slowing the generator down.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle
from typing import Protocol

from imswarm.checker import Ledger
from imswarm.connection import Connection
from imswarm.stamps import FIRST_REF
from imswarm.stats import Tally

REST_SECONDS = 0.1
"""How long a process may sleep that has nothing to send."""


class Flow:
    """One direction of a conversation."""

    __slots__ = ("_recipient", "_sender", "_template", "ledger", "prefix", "touched")

    def __init__(self, prefix: bytes, template: bytes, sender: Connection, recipient: Connection) -> None:
        self.prefix = prefix
        self.ledger = Ledger()
        self.touched = False  # whether the closed loop has it on its list
        self._template = template
        self._sender = sender
        self._recipient = recipient

    @property
    def alive(self) -> bool:
        return not self._sender.closed and self.recipient_present

    @property
    def recipient_present(self) -> bool:
        return not self._recipient.closed

    def send(self, count: int, time_ns: int) -> None:
        """Send the next `count` messages, stamped with `time_ns`."""
        data = self._next_frame(time_ns)
        for _ in range(count - 1):
            data += self._next_frame(time_ns)
        self._sender.send(data)

    def _next_frame(self, time_ns: int) -> bytes:
        number = self.ledger.send()
        return self._template % (FIRST_REF + number, number, time_ns, number, time_ns)


class Sender(Protocol):
    """What an open loop needs of a flow."""

    @property
    def alive(self) -> bool: ...

    def send(self, count: int, time_ns: int) -> None: ...


class Pacer(Protocol):
    def touch(self, flow: Flow) -> None:
        """Something of this flow was answered or delivered."""

    def pump(self) -> None:
        """Send whatever may be sent now; called after each batch of events."""

    def wait_seconds(self) -> float:
        """How long until something must be sent though nothing arrives."""


class Pacers:
    """Several loops, side by side."""

    def __init__(self, loops: Sequence[Pacer]) -> None:
        self._loops = loops

    def touch(self, flow: Flow) -> None:
        for loop in self._loops:
            loop.touch(flow)

    def pump(self) -> None:
        for loop in self._loops:
            loop.pump()

    def wait_seconds(self) -> float:
        return min((loop.wait_seconds() for loop in self._loops), default=REST_SECONDS)


class Quiet:
    """Sends nothing."""

    def touch(self, flow: Flow) -> None:
        pass

    def pump(self) -> None:
        pass

    def wait_seconds(self) -> float:
        return REST_SECONDS


class ClosedLoop:
    def __init__(self, flows: Sequence[Flow], window: int, tally: Tally) -> None:
        self._window = window
        self._tally = tally
        self._touched: list[Flow] = []
        for flow in flows:
            self.touch(flow)

    def touch(self, flow: Flow) -> None:
        if not flow.touched:
            flow.touched = True
            self._touched.append(flow)

    def pump(self) -> None:
        touched, self._touched = self._touched, []
        for flow in touched:
            flow.touched = False
            room = self._window - flow.ledger.outstanding
            if room > 0:
                self._tally.sent += room
                flow.send(room, time.monotonic_ns())

    def wait_seconds(self) -> float:
        return REST_SECONDS


class OpenLoop:
    def __init__(self, flows: Sequence[Sender], rate_per_second: float, tally: Tally) -> None:
        self._turns = cycle(flows)
        self._interval_ns = 1e9 / rate_per_second
        self._due_ns = float(time.monotonic_ns())
        self._tally = tally

    def touch(self, flow: Flow) -> None:
        pass

    def pump(self) -> None:
        now_ns = time.monotonic_ns()
        while self._due_ns <= now_ns:
            flow = next(self._turns)
            if flow.alive:
                self._tally.sent += 1
                self._tally.lateness.record(now_ns - int(self._due_ns))
                flow.send(1, int(self._due_ns))
            self._due_ns += self._interval_ns
            now_ns = time.monotonic_ns()

    def wait_seconds(self) -> float:
        return min(max(self._due_ns - time.monotonic_ns(), 0.0) / 1e9, REST_SECONDS)
