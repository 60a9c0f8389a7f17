"""Whether a replica has what was answered: one WAIT for everything that has come over a link meanwhile.

WAIT blocks the connection it is called on until replicas have acknowledged the last write *of that connection*. On the
link itself it would hold up all that comes behind it. On another one it says nothing about the link's writes, unless
that connection writes, too: its own write then stands behind theirs in the one stream that replicas get. So the
witness, a second connection to the same process, writes a key that soon expires and waits for that.

**Invariant: asked after the answers had come.** The witness writes only then, and one question at a time; so its write
is executed in a later turn of Redis's event loop than what was answered, and everything held.py says is true as well.

**Invariant: the same Redis answers both.** If either connection is lost, so is the other, and what was not proven is
sent again: after a failover the new primary must not vouch for what the old one answered.
"""

from collections.abc import Callable
from typing import Any

import hiredis

from imserver.store.calls import pack
from imserver.store.link_roles import LinkReactor
from imserver.store.redis_handshake import MORE, Connected, HandshakeFailed, shake_hands

WAIT_SECONDS = 1.0  # until a write that no replica has acknowledged is told to be uncertain
_KEPT_MS = 60_000
_CHUNK = 4096


class Witness:
    """A connection that asks. `told(number, is_kept)` is called with the answer to each question, `lost(why)` once."""

    def __init__(
        self,
        connected: Connected,
        key: bytes,
        reactor: LinkReactor,
        told: Callable[[int, bool], None],
        lost: Callable[[str], None],
    ) -> None:
        """`key`: of this node alone, in a slot that the shard serves."""
        self.asked = 0  # questions so far
        self.is_asking = False
        self._sock, self._reader, self._reactor = connected.sock, connected.reader, reactor
        self._told, self._lost = told, lost
        self._question = pack(b"SET", key, b"", b"PX", _KEPT_MS) + pack(b"WAIT", 1, int(WAIT_SECONDS * 1000))
        self._refused = False
        reactor.add(self._sock.fileno(), self)

    def ask(self) -> None:
        """MUST NOT be called while it is asking."""
        self.asked += 1
        self.is_asking = True
        try:
            if self._sock.send(self._question) < len(self._question):
                self._lost("the witness can't ask")
        except OSError as error:
            self._lost(f"witness: {error.strerror}")

    def close(self) -> None:
        self._reactor.remove(self._sock.fileno())
        self._sock.close()

    # -- the reactor's side

    def on_readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"witness: {error.strerror}")
            return
        if not data:
            self._lost("witness: closed by Redis")
            return
        self._reader.feed(data)
        while self.is_asking and (reply := self._reader.gets()) is not MORE:
            self._take(reply)

    def _take(self, reply: Any) -> None:
        if type(reply) is int:  # so many replicas have it
            self.is_asking = False
            refused, self._refused = self._refused, False
            self._told(self.asked, reply > 0 and not refused)
        elif isinstance(reply, hiredis.ReplyError):
            self._refused = True  # the WAIT behind it is about an older write
            if not str(reply).startswith(("MISCONF", "OOM")):  # these refuse the calls, too, while reading goes on
                self._lost(f"witness: {reply}")

    def on_writable(self) -> None: ...

    def drop(self, why: str) -> None:
        self._lost(why)


async def open_witness(url: str, *, client_name: str, run_id: bytes) -> Connected:
    """A second connection to the Redis process `run_id`. Raises HandshakeFailed."""
    connected = await shake_hands(url, client_name=f"{client_name}-witness", channels=())
    if connected.run_id != run_id:
        connected.sock.close()
        raise HandshakeFailed("two connections reached two servers")
    return connected
