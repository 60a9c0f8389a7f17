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
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from typing import Any

import hiredis
import trio

from imserver.errors import Unavailable
from imserver.observe.log import get_logger
from imserver.observe.metrics import Counters
from imserver.store.answers import answer_of, fail, give_on, ignore
from imserver.store.backlog import Backlog
from imserver.store.calls import pack
from imserver.store.epochs import UNKNOWN, epoch_key, is_another
from imserver.store.held import PING, Call, Item, appends, number_of_proof, take_out
from imserver.store.link_life import LinkLife
from imserver.store.link_roles import LinkOwner, LinkReactor
from imserver.store.partitions import channel_prefix
from imserver.store.redis_handshake import MORE, Connected
from imserver.store.refusals import is_passing, is_unwritten
from imserver.store.replicas import Witness
from imserver.store.shards import Shard

log = get_logger("store")

Reply = Any  # what hiredis makes of a reply: bytes, int, None or a list of them
Then = Callable[[Any], None]  # takes the reply, or an ImError
Parse = Callable[[Any], Any]  # makes a type, or an ImError, of a reply

_CHUNK = 65536  # a larger one costs a system call more: malloc would map memory for each
_Push, _Refusal = hiredis.PushNotification, hiredis.ReplyError  # looked up with every reply
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, no time


class RedisLink(Backlog):
    """Calls and pushes of one shard. `life.run` MUST be running for anything to happen."""

    def __init__(
        self,
        shard: Shard,
        *,
        node: str,
        owner: LinkOwner,
        reactor: LinkReactor,
        counters: Counters,
        timeout: float,
        most_calls: int,
    ) -> None:
        super().__init__(most_calls)
        self._node = node.encode()
        self.shard = shard
        self.channels = self._channels_of(shard)
        self.life = LinkLife(self, f"imserver-{node}")
        self.up = False
        self.up_since = 0.0  # reactor time
        self.why_down = "not connected yet"
        self.proven_at = 0.0  # when the last probe came back; reactor time
        self.epoch_began, self._epoch = -inf, UNKNOWN  # reactor time
        self._owner, self._reactor, self._counters = owner, reactor, counters
        self._timeout = timeout
        self._sock: socket.socket | None = None
        self._reader = hiredis.Reader(notEnoughData=MORE)
        self._received = 0  # replies on this connection
        self._is_synchronized = shard.durability == "disk"  # before it replies
        self._witness: Witness | None = None  # of an up link whose answers wait for a replica
        self._out: list[bytes] = []
        self._blocked = False  # the socket took less than was offered
        self._lost = trio.Event()
        self._was_up = trio.Event()

    @property
    def url(self) -> str:
        return self.shard.url

    @property
    def epoch_key(self) -> bytes:
        return epoch_key(self.shard.partitions[0])

    def _channels_of(self, shard: Shard) -> list[bytes]:
        """On which is published what concerns this node."""
        return [channel_prefix(partition) + self._node for partition in shard.partitions]

    async def wait_up(self) -> None:
        """Until the link has been up once, or is not needed any more."""
        await self._was_up.wait()

    async def wait_lost(self) -> None:
        """Until the connection that was adopted last is gone."""
        await self._lost.wait()

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
        return await answer_of(lambda then: self.call(command, then, parse, once=once))

    @property
    def sockets(self) -> int:
        """How many it has in the reactor."""
        return (self._sock is not None) + (self._witness is not None)

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
                elif reply[0] == b"sunsubscribe":  # Redis's own doing: nobody here asks for it
                    return "slots were taken from this primary", unwritten
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
        elif self._is_synchronized:
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
        answered = give_on(self._held.release(proof), self._owner, self._counters, is_kept=is_kept)
        if answered is not None:  # one sample a turn: all the calls of a turn waited alike
            self._counters.store_call_seconds.observe(self._reactor.now - answered.since)

    # -- time

    def tick(self, now: float) -> None:
        """Once a second: a link on which Redis does not answer in time is broken, whatever the socket says."""
        if self.oldest_call_seconds(now) < self._timeout:
            return
        if self.up:
            self._lose(f"no answer in {self._timeout:g} s")
        self._out.clear()
        self._fail_all(Unavailable(f"the store does not answer ({self.why_down}); send again with the same id"))

    def probe(self) -> None:
        """Sends a probe along the way that entries come; the owner gets it back by `on_push` and says `proven`."""
        if self.up:
            self.call(pack(b"SPUBLISH", self.channels[0], b"p " + self.url.encode()), ignore)

    def proven(self) -> None:
        self.proven_at = self._reactor.now

    def drop(self, why: str) -> None:
        """Gives the connection up and makes a new one, which repeats what has no answer."""
        self._lose(why)

    # -- the connection: what link_life.py makes of it

    def adopt(self, connected: Connected, second: Connected | None) -> None:
        """Goes on with a new connection; `second`: the witness's, where answers wait for a replica."""
        sock, self._lost = connected.sock, trio.Event()
        self._sock, self._reader = sock, connected.reader
        if second is not None:
            self._witness = Witness(second, self.channels[0], self._reactor, self._on_testimony, self._lose)
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
        self._owner.on_down(self)

    def stays_down(self, why: str) -> None:
        """Nobody could be connected to."""
        self.why_down = why
        self._owner.on_down(self)

    # -- the shard, when a cluster changes: links.py

    def take_calls(self, why: str) -> list[Call]:
        """The link goes down and gives up what has no answer, oldest first."""
        self._lose(why)
        self.fail_what_must_not_be_late()
        calls = list(self._calls)
        self._calls.clear()
        return calls

    def lead_to(self, shard: Shard, calls: Iterable[Call]) -> None:
        """From now on to this shard, with these calls first. The link MUST be down, and have no calls."""
        self.shard, self.channels = shard, self._channels_of(shard)
        self._calls.extend(calls)
        self._relieve_if_half_done()
        self.life.begin_anew()

    def retire(self) -> None:
        """Nothing is left for it to do, and what is still asked of it fails. It MUST be down, and have no calls."""
        self.life.end()
        self._timeout, self.why_down = 0.0, "the shard is gone"
        self._was_up.set()
        self._relieve()
