"""One link to one shard: calls and pushes over a single RESP3 connection, in the order in which Redis made them.

Calls are queued and written once per turn of the reactor, so they pipeline by themselves; replies come back in order.

**Invariant: a call is answered exactly once, and calls reach Redis in the order they were made.** All functions of the
store can be repeated (store/functions), so when the link breaks, the calls without an answer are sent again, in
order, before any newer one. Their callers notice a delay. Only when the link stays away longer than `timeout` seconds
do they all fail together, as Unavailable: the outcome is unknown. The few that must not come late (`once`) are not made
while the link is away, and fail when it is lost. In a new epoch of the shard (store/epochs.py) messages fail, too: they
would get in before older ones that are lost.

**Invariant: a link that comes back has missed something.** Its owner is told (`on_up`) once the subscriptions are
confirmed and before any push is delivered, and has every session of the shard read from its cursor.

**Invariant: what is given on has been written** by Redis to its file (store/held.py), or, with `durability = replica`,
a replica has acknowledged it (store/replicas.py). Only a Redis that synchronizes before it replies is believed at once.

Two connections were rejected: an entry could overtake the reply to the append before it, a gap that is none.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import hiredis
import trio

from imserver.errors import ImError, Unavailable
from imserver.observe.log import get_logger
from imserver.observe.metrics import Counters
from imserver.store.answers import fail, ignore, outcome_of
from imserver.store.calls import pack
from imserver.store.epochs import UNKNOWN, epoch_key, is_another
from imserver.store.held import PING, Call, Held, Item, appends, changes, number_of_proof, take_out
from imserver.store.link_roles import LinkOwner, LinkReactor
from imserver.store.redis_handshake import MORE, Connected, HandshakeFailed, shake_hands
from imserver.store.refusals import error_of, is_passing, is_unwritten
from imserver.store.replicas import Witness, open_witness
from imserver.store.shards import Shard

log = get_logger("store")

Reply = Any  # what hiredis makes of a reply: bytes, int, None or a list of them
Then = Callable[[Any], None]  # takes the reply, or an ImError
Parse = Callable[[Any], Any]  # makes a type, or an ImError, of a reply

_CHUNK = 65536  # a larger one costs a system call more: malloc would map memory for each
_Push, _Refusal = hiredis.PushNotification, hiredis.ReplyError  # looked up with every reply
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, no time
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 0.02, 1.0


class RedisLink:
    """Calls and pushes of one shard. `run` MUST be running for anything to happen."""

    def __init__(
        self,
        shard: Shard,
        *,
        client_name: str,
        channels: Sequence[bytes],
        owner: LinkOwner,
        reactor: LinkReactor,
        counters: Counters,
        timeout: float,
        most_calls: int,
    ) -> None:
        self.url = shard.url
        self.up = False
        self.up_since = 0.0  # reactor time
        self.why_down = "not connected yet"
        self.proven_at = 0.0  # when the last probe came back; reactor time
        self.epoch_began, self._epoch = -inf, UNKNOWN  # reactor time
        self._client_name, self._channels = client_name, channels
        self._epoch_key = epoch_key(shard.partitions[0])
        self._owner, self._reactor, self._counters = owner, reactor, counters
        self._timeout, self._most_calls = timeout, most_calls
        self._sock: socket.socket | None = None
        self._reader = hiredis.Reader(notEnoughData=MORE)
        self._calls: deque[Call] = deque()  # those without a reply
        self._held = Held()
        self._received = 0  # replies on this connection
        self._durability = shard.durability
        self._witness: Witness | None = None  # of an up link whose answers wait for a replica
        self._out: list[bytes] = []
        self._blocked = self._saturated = False  # blocked: the socket took less than was offered
        self._waiters: list[Callable[[], None]] = []
        self._lost, self._was_up = trio.Event(), trio.Event()

    async def wait_up(self) -> None:
        """Until the link has been up once."""
        await self._was_up.wait()

    # -- calls

    def call(self, command: bytes, then: Then, parse: Parse | None = None, *, once: bool = False) -> None:
        """Queues a packed command, which MUST be repeatable, unless it is to be made `once` (the link MUST be up then).

        In a later turn `then` gets what `parse` makes of the reply, or an ImError.
        """
        self._calls.append(Call(command, parse, then, self._reactor.now, once))
        self._counters.store_calls += 1
        if self.up:
            out = self._out
            out.append(command)
            if len(out) == 1:
                self._reactor.touch_link(self)
        if not self._saturated and self.in_flight >= self._most_calls:
            self._saturated = True
            self._owner.on_saturated(self)

    async def ask(self, command: bytes, parse: Parse | None = None, *, once: bool = False) -> Reply:
        """The same for a task, to which the ImError is raised. When cancelled, the reply is still consumed."""
        task = trio.lowlevel.current_task()
        waiting = True

        def then(reply: Reply) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                trio.lowlevel.reschedule(task, outcome_of(reply))

        def abort(_: Any) -> trio.lowlevel.Abort:
            nonlocal waiting
            waiting = False
            return trio.lowlevel.Abort.SUCCEEDED

        self.call(command, then, parse, once=once)
        return await trio.lowlevel.wait_task_rescheduled(abort)

    @property
    def sockets(self) -> int:
        """How many it has in the reactor."""
        return (self._sock is not None) + (self._witness is not None)

    @property
    def in_flight(self) -> int:
        return len(self._calls) + len(self._held)

    def when_relieved(self, wake: Callable[[], None]) -> None:
        """Calls `wake` once half of the calls that saturated the link have been answered."""
        self._waiters.append(wake)

    # -- the reactor's side

    def flush(self) -> None:
        """Writes what was queued: once per turn."""
        sock = self._sock
        if self._blocked or sock is None:
            return
        if self._held:
            self._ask_for_proof()
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._counters.store_flushes += 1
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if sent < len(data):
            self._out.append(data[sent:])
            self._blocked = True
            self._reactor.want(sock.fileno(), read=True, write=True)

    def on_writable(self) -> None:
        assert self._sock is not None
        self._blocked = False
        self._reactor.want(self._sock.fileno(), read=True, write=False)
        self.flush()

    def on_readable(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if not data:
            self._lose("closed by Redis")
            return
        try:
            self._reader.feed(data)
            self._receive()
        except hiredis.ProtocolError as error:
            self._lose(f"not Redis protocol: {error}")
        self._relieve_if_half_done()

    def _receive(self) -> None:
        """Takes what has come; gives on what it proves."""
        batch: list[Item] = []
        try:
            passing, unwritten = self._parse(batch)
        finally:  # also of a reply that can't be understood: what came before it must not be forgotten
            if batch:
                self._hold(batch)
        if self._witness is None:
            self._give_on(number_of_proof(batch, self._received), is_kept=True)
            self._give_on(unwritten, is_kept=False)
        if passing:
            self._lose(passing)
        if self._held:
            self._reactor.touch_link(self)

    def _parse(self, batch: list[Item]) -> tuple[str, int]:
        """Fills the batch. Gives why the link must be made anew, if so; the last reply that tells of a failed write."""
        gets, calls = self._reader.gets, self._calls
        unwritten = 0
        while (reply := gets()) is not MORE:
            kind = type(reply)
            if kind is _Push:
                if reply[0] == b"smessage":
                    batch.append((None, reply[2]))
                continue
            if kind is _Refusal:
                text = str(reply)
                if is_unwritten(text):
                    unwritten = self._received + 1
                elif is_passing(text) or calls[0].command is PING:
                    return text, unwritten  # its call stays first in the queue
            self._received += 1
            batch.append((calls.popleft(), reply))
        return "", unwritten

    def _hold(self, batch: list[Item]) -> None:
        if self._witness is not None:
            self._held.add(batch, self._witness.asked)
        elif self._durability == "disk":
            self._held.add(batch, -1)
        elif len(batch) > 1 or (call := batch[0][0]) is None or call.command is not PING:
            on_their_way = len(self._calls) - len(self._out) + self._blocked  # blocked: the first was written in part
            self._held.add(batch, self._received + on_their_way)
        # Else nobody waits for it: to have a proof proven, too, would go on for ever.

    def _ask_for_proof(self) -> None:
        """Unless an answer on its way, or a call about to be written, leads to one."""
        if self._witness is not None:
            if not self._witness.is_asking:
                self._witness.ask()
        elif not self._calls:
            self._calls.append(Call(PING, None, ignore, self._reactor.now, once=False))
            self._out.append(PING)

    def _on_testimony(self, number: int, is_kept: bool) -> None:
        self._give_on(number, is_kept=is_kept)
        self._relieve_if_half_done()
        self._reactor.touch_link(self)  # more may have come meanwhile

    def _give_on(self, proof: int, *, is_kept: bool) -> None:
        answered: Call | None = None
        for call, reply in self._held.release(proof):
            try:
                if call is None:
                    self._owner.on_push(reply)
                elif type(reply) is _Refusal:
                    self._counters.store_errors += 1
                    call.then(error_of(str(reply)))
                elif is_kept or not changes(call):
                    answered, parse = call, call.parse
                    call.then(reply if parse is None else parse(reply))
                else:
                    call.then(Unavailable("the store may not have kept this; send again with the same id"))
            except Exception:  # a bug costs the one call, not those behind it
                log.exception("an answer could not be handled", shard=self.url)
        if answered is not None:  # one sample a turn: all the calls of a turn waited alike
            self._counters.store_call_seconds.observe(self._reactor.now - answered.since)

    def _relieve_if_half_done(self) -> None:
        if self._saturated and self.in_flight < self._most_calls // 2:
            self._relieve()

    def _relieve(self) -> None:
        self._saturated = False
        self._owner.on_relieved(self)
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    # -- time

    def tick(self, now: float) -> None:
        """Once a second: a link on which Redis does not answer in time is broken, whatever the socket says."""
        oldest = self._held.oldest() or (self._calls[0] if self._calls else None)
        if oldest is None or now - oldest.since < self._timeout:
            return
        if self.up:
            self._lose(f"no answer in {self._timeout:g} s")
        self._fail_all(Unavailable(f"the store does not answer ({self.why_down}); send again with the same id"))

    def _fail_all(self, error: ImError) -> None:
        """All at once: were an older call to fail and a newer one to succeed, messages would change places."""
        calls = list(self._calls)
        self._calls.clear()
        self._out.clear()
        for call in calls:
            fail(call, error)
        self._relieve()

    def probe(self) -> None:
        """Sends a probe along the way that entries come; the owner gets it back by `on_push` and says `proven`."""
        if self.up:
            channel = self._channels[0]
            self.call(pack(b"SPUBLISH", channel, b"p " + self.url.encode()), ignore)

    def proven(self) -> None:
        self.proven_at = self._reactor.now

    def drop(self, why: str) -> None:
        """Gives the connection up and makes a new one, which repeats what has no answer."""
        self._lose(why)

    # -- connecting

    def _lose(self, why: str) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        log.warning("link lost", shard=self.url, why=why, in_flight=len(self._calls))
        self.up, self.why_down = False, why
        self._reactor.remove(sock.fileno())
        # Closed so that the kernel forgets what it has not sent yet, and does not deliver it when a network has healed.
        with suppress(OSError):  # some systems do not take it of a socket that is shut down already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        sock.close()
        if self._witness is not None:
            self._witness.close()
            self._witness = None
        self._blocked = False
        self._out.clear()
        self._calls.extendleft(reversed(self._held.take_back()))  # what could have proven them is gone
        self._lost.set()

    def _fail_what_must_not_be_late(self) -> None:
        for call in take_out(self._calls, lambda call: call.once):
            fail(call, Unavailable(f"the store is out of reach ({self.why_down}); nobody knows whether this was done"))

    async def run(self) -> None:
        """Connects, and connects again whenever the link is lost, until cancelled."""
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                connected, second = await self._connect()
            except HandshakeFailed as error:
                self.why_down = str(error)
                log.debug("no link", shard=self.url, why=self.why_down)
                await trio.sleep(backoff)
                backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)
                continue
            self._adopt(connected, second)
            began = trio.current_time()
            await self._lost.wait()
            self._fail_what_must_not_be_late()
            if trio.current_time() - began > _LAST_BACKOFF_SECONDS:
                backoff = _FIRST_BACKOFF_SECONDS
            else:  # it connects, but can't do anything: read-only, perhaps
                await trio.sleep(backoff)
                backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)

    async def _connect(self) -> tuple[Connected, Connected | None]:
        name, key = self._client_name, self._epoch_key
        connected = await shake_hands(self.url, client_name=name, channels=self._channels, epoch_key=key)
        if self._durability != "replica":
            return connected, None
        try:
            return connected, await open_witness(self.url, client_name=name, run_id=connected.run_id)
        except BaseException:
            connected.sock.close()
            raise

    def _adopt(self, connected: Connected, second: Connected | None) -> None:
        sock, self._lost = connected.sock, trio.Event()
        self._sock, self._reader = sock, connected.reader
        if second is not None:
            self._witness = Witness(second, self._channels[0], self._reactor, self._on_testimony, self._lose)
        self.up, self.why_down = True, ""
        self.proven_at = self.up_since = self._reactor.now
        self._received = 0
        self.epoch_began = self._reactor.now - connected.epoch.age_seconds
        is_new, self._epoch = is_another(self._epoch, connected.epoch), connected.epoch
        refused = take_out(self._calls, appends) if is_new else []
        self._out = [call.command for call in self._calls]
        self._reactor.add(sock.fileno(), self)
        log.info("link up", shard=self.url, repeated=len(self._calls))
        self._was_up.set()
        with self._reactor.batch():
            self._reactor.touch_link(self)
            self._owner.on_up(self, in_new_epoch=is_new)
            for call in refused:
                fail(call, Unavailable("the store may have lost its newest entries; send again"))
            self._receive()  # pushes that came with the last confirmations
