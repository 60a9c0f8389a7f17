"""New clients at a steady rate, whatever is going on: each connects, is let in, and leaves. All of them must succeed.

One after the other logs in over TCP, as an account that nobody writes to; beside them one after the other asks
`/healthz` over HTTP. They are started when they are due, not when those before are done: a server that lets them
wait meets as many.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from imswarm.connection import Address
from imswarm.faults.incidents import REFUSED, TURNED_AWAY, Incident
from imswarm.stats import Histogram

_HESITATION_SECONDS = (0.0, 0.0, 0.0, 0.1, 0.6)
"""Not every client speaks as soon as it is connected: so long these wait, in turn."""
EVERY_SECONDS = 0.05
"""Between two of one kind: 20 a second over TCP, 20 over HTTP."""
_PATIENCE_SECONDS = 15.0
_CHUNK = 65536
_BYE_TRIES = 20

_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"


@dataclass
class Probes:
    """What they met.

    `connects`: how many connections were tried; `entry`: from the attempt to the answer, without what the probe
    itself hesitated.
    """

    connects: int = 0
    sent_elsewhere: int = 0
    entry: Histogram = field(default_factory=Histogram)
    incidents: list[Incident] = field(default_factory=list)


class _Met(Exception):
    """The probe ended otherwise than it should."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


@contextmanager
def probing(tcp: Address, http: Address, logins: Sequence[tuple[str, str]]) -> Iterator[Probes]:
    """Probes in a thread of its own, as long as the context lasts. `logins`: tokens and devices, taken in turn.

    There MUST be more of them than probes at one time: the second login of a device ends the first.
    """
    found = Probes()
    prober = _Prober(tcp, http, logins, found)
    thread = threading.Thread(target=trio.run, args=(prober.run,), name="probe", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        prober.stop()
        thread.join()


class _Prober:
    def __init__(self, tcp: Address, http: Address, logins: Sequence[tuple[str, str]], found: Probes) -> None:
        self._tcp, self._http, self._logins, self._found = tcp, http, logins, found
        self._is_over = threading.Event()

    def stop(self) -> None:
        """No more of them. What is under way is still waited for."""
        self._is_over.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            due = trio.current_time()
            number = 0
            while not self._is_over.is_set():
                hesitation = _HESITATION_SECONDS[number % len(_HESITATION_SECONDS)]
                nursery.start_soon(self._probe, "probe over TCP", hesitation, self._log_in, *self._logins[number])
                nursery.start_soon(self._probe, "probe over HTTP", hesitation, self._ask_health)
                number = (number + 1) % len(self._logins)
                due += EVERY_SECONDS
                await trio.sleep_until(due)

    async def _probe(
        self, who: str, hesitation: float, attempt: Callable[..., Awaitable[None]], *arguments: str
    ) -> None:
        began = time.monotonic()
        try:
            with trio.fail_after(_PATIENCE_SECONDS):
                await attempt(hesitation, *arguments)
            self._found.entry.record(int((time.monotonic() - began - hesitation) * 1e9))
        except _Met as met:
            self._found.incidents.append(Incident(began, time.monotonic(), met.kind, who, str(met)))
        except trio.TooSlowError:
            why = f"no answer in {_PATIENCE_SECONDS:g} s"
            self._found.incidents.append(Incident(began, time.monotonic(), TURNED_AWAY, who, why))

    # -- what they do

    async def _log_in(self, hesitation: float, token: str, device: str) -> None:
        """Until it is in: who is told `bye` and to come again does so, at once."""
        login = json.dumps({"op": "login", "ref": 1, "token": token, "device": device}).encode() + b"\n"
        for _ in range(_BYE_TRIES):
            stream = await self._connect(self._tcp)
            async with stream:
                said = json.loads(await _first_line(stream, login, hesitation))
                if "ok" in said:
                    await _say(stream, b'{"op":"logout","ref":2}\n')
                    return
            if said.get("ev") != "bye" or not said.get("reconnect"):
                raise _Met(TURNED_AWAY, f"the answer to the login was {said}")
            self._found.sent_elsewhere += 1
        raise _Met(TURNED_AWAY, f"sent elsewhere {_BYE_TRIES} times")

    async def _ask_health(self, hesitation: float) -> None:
        stream = await self._connect(self._http)
        async with stream:
            answer = await _first_line(stream, _HEALTH, hesitation)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise _Met(TURNED_AWAY, f"the answer to /healthz was {answer[:80]!r}")

    async def _connect(self, address: Address) -> trio.SocketStream:
        self._found.connects += 1
        client = trio.socket.socket()
        try:
            await client.connect((address.host, address.port))
        except OSError as error:
            client.close()
            raise _Met(REFUSED, error.strerror or str(error)) from None
        except BaseException:
            client.close()
            raise
        return trio.SocketStream(client)


async def _say(stream: trio.SocketStream, data: bytes) -> None:
    """Its end is not this probe's business any more."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


async def _first_line(stream: trio.SocketStream, request: bytes, hesitation: float) -> bytes:
    """The first line of the answer to this request. Raises _Met where the connection is reset or closed before it."""
    data = b""
    await trio.sleep(hesitation)
    await _say(stream, request)  # what was said to it meanwhile is there to be read, even if nobody listens any more
    try:
        while b"\n" not in data:
            more = await stream.receive_some(_CHUNK)
            if not more:
                raise _Met(TURNED_AWAY, "closed without a word")
            data += more
    except trio.BrokenResourceError:
        raise _Met(TURNED_AWAY, "reset before anything was said") from None
    return data.partition(b"\n")[0]
