"""The workers that are alive: each renews a lease, and is listed while it does.

A node is one life of one worker process. A worker that is started again is another node: what was published or
registered for the old one can never be taken for the new one's.
"""

import secrets
import socket
import time
from os import getpid
from typing import TYPE_CHECKING

import msgspec

from imserver.store.calls import pack
from imserver.store.partitions import deployment_key

if TYPE_CHECKING:
    from imserver.store.store import Store

NODES_KEY_PREFIX = "node:"


class NodeInfo(msgspec.Struct, frozen=True):
    """What a node says of itself; `since`: unix seconds."""

    node: str
    host: str
    pid: int
    number: int
    since: int


def new_node_id() -> str:
    """Eight hexadecimal digits; never the same twice in the life of a lease."""
    return secrets.token_hex(4)


class Node:
    """This worker's own entry."""

    def __init__(self, node_id: str, number: int, lease_seconds: float) -> None:
        self.id = node_id
        self._key = deployment_key(NODES_KEY_PREFIX + node_id)
        self._lease_ms = int(lease_seconds * 1000)
        self._info = msgspec.json.encode(NodeInfo(node_id, socket.gethostname(), getpid(), number, int(time.time())))

    async def announce(self, store: "Store") -> None:
        """Takes or renews the lease. Raises ServiceError."""
        await store.link_of_deployment().ask(pack(b"SET", self._key, self._info, b"PX", self._lease_ms))

    async def leave(self, store: "Store") -> None:
        """Gives the lease back. Raises ServiceError."""
        await store.link_of_deployment().ask(pack(b"DEL", self._key))
