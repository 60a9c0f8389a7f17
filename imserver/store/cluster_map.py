"""Who holds what in a cluster, as one of its nodes tells it. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from imserver.store.partitions import PARTITIONS, slot_of_partition


class ClusterMap(NamedTuple):
    """As one node sees the cluster.

    holders  partition -> URL of the primary that holds it; without those that nobody serves
    nodes    URLs of all nodes that hold slots, primaries and replicas
    epoch    the cluster's counter of elections and moves, as far as this node has heard: the higher, the newer the map
    """

    holders: dict[int, str]
    nodes: frozenset[str]
    epoch: int

    @property
    def is_complete(self) -> bool:
        return len(self.holders) == PARTITIONS

    def shards(self) -> dict[str, list[int]]:
        """URL of each primary -> its partitions, in order."""
        found: dict[str, list[int]] = {}
        for partition in range(PARTITIONS):
            found.setdefault(self.holders[partition], []).append(partition)
        return found


def parse_map(url: str, slots: Sequence[Any], info: bytes) -> ClusterMap:
    """From what the node at `url` answers to CLUSTER SLOTS and CLUSTER INFO.

    A row of the former: first slot, last slot, [host, port, id, ...] of the primary, the same of its replicas.
    """
    holder_of: dict[int, str] = {}
    nodes: set[str] = set()
    for first, last, *members in slots:
        urls = [_url_of(url, member) for member in members]
        holder_of.update(dict.fromkeys(range(first, last + 1), urls[0]))
        nodes.update(urls)
    holders = {
        partition: holder_of[slot]
        for partition in range(PARTITIONS)
        if (slot := slot_of_partition(partition)) in holder_of
    }
    epoch = info.partition(b"cluster_current_epoch:")[2].split(b"\r\n")[0]
    return ClusterMap(holders, frozenset(nodes), int(epoch or 0))


def _url_of(asked: str, member: Sequence[Any]) -> str:
    """With the credentials and options of the URL that was asked.

    A node that does not know its own address leaves it empty.
    """
    url = urlsplit(asked)
    host, port = _text(member[0] or b""), int(member[1])
    if not host:
        host = url.hostname or "127.0.0.1"
    credentials = url.netloc.rpartition("@")[0]
    at = f"{credentials}@" if credentials else ""
    options = f"?{url.query}" if url.query else ""
    return f"{url.scheme}://{at}{f'[{host}]' if ':' in host else host}:{port}{options}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
