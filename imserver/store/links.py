"""The links of a node, one to each shard with its lease; and how they follow a cluster that changes.

A shard is known by its first partition: under the tag of that partition lie the leases. A primary that is replaced is
the same shard at another address; slots that move change the partitions of two shards, sometimes make a shard or end
one.

**Invariant: the calls of one partition reach Redis in the order they were made.** All calls of a partition that have no
answer are in one link, at any time. When the map changes, every link that it concerns goes down first; then its calls
are shared out anew, in their order; then it comes up with the new map and repeats them. Why it was refused
does not matter (MOVED, ASK, a lost connection): there is one way back.

**Invariant: a partition that moved was missed, too.** It is subscribed at its new primary before that link is up, and
its sessions read on as after any lost link.

Rejected: to move a partition from one living link to another. What is on its way over the old link would have to be
waited for, while new calls wait for that; all that to spare the other users of two shards a pause of
some ten milliseconds for each move (docs/decisions/0011-cluster-changes.md).
"""

from collections.abc import Callable, Iterable, Sequence

import trio

from imserver.errors import ServiceError, Unavailable
from imserver.observe.log import get_logger
from imserver.store.answers import fail
from imserver.store.cluster_map import ClusterMap
from imserver.store.held import Call
from imserver.store.leases import Lease
from imserver.store.partitions import PARTITIONS, partition_of_call
from imserver.store.redis_link import RedisLink
from imserver.store.shards import Shard

log = get_logger("store")

Moves = list[tuple[Lease, Lease]]  # the users of the first one's shard have come, in part, to the second one's


class Links:
    """`all` and `by_partition` change with the map; the lists themselves stay."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        make_link: Callable[[Shard], RedisLink],
        make_lease: Callable[[RedisLink], Lease],
    ) -> None:
        self._make_link, self._make_lease = make_link, make_lease
        self.all = [make_link(shard) for shard in shards]
        self.leases = {link: make_lease(link) for link in self.all}
        self.retired: list[RedisLink] = []  # their time goes on: who still waits for one of them MUST hear
        by_partition = {partition: link for link in self.all for partition in link.shard.partitions}
        self.by_partition = [by_partition[partition] for partition in range(PARTITIONS)]

    def arrange(self, found: ClusterMap) -> tuple[list[RedisLink], Moves]:
        """Follows the map, which MUST be complete. Returns the links that are new, and MUST be run, and what moved."""
        before, old = list(self.by_partition), {link.shard.partitions[0]: link for link in self.all}
        shards = {partitions[0]: self._shard(url, partitions) for url, partitions in found.shards().items()}
        if all(first in old and old[first].shard == shard for first, shard in shards.items()):
            return [], []
        new = {first: self._make_link(shard) for first, shard in shards.items() if first not in old}
        links = {first: old.get(first) or new[first] for first in shards}
        left = [link for first, link in old.items() if shards.get(first) != link.shard]
        for first, shard in shards.items():
            for partition in shard.partitions:
                self.by_partition[partition] = links[first]
        calls = self._share_out(call for link in left for call in link.take_calls("the cluster has changed"))
        for first, link in links.items():
            if link in left or first in new:
                link.lead_to(shards[first], calls.get(link, ()))
        for link in left:
            if link not in links.values():
                link.retire()
                self.retired.append(link)
        moves = self._move_leases(links.values(), before)
        self.all[:] = links.values()
        log.warning("the cluster has changed", shards=len(shards), links_concerned=len(left) + len(new))
        return list(new.values()), moves

    def _shard(self, url: str, partitions: list[int]) -> Shard:
        return Shard(url, partitions, clustered=True, durability=self.all[0].shard.durability)

    def _share_out(self, calls: Iterable[Call]) -> dict[RedisLink, list[Call]]:
        """Each call to the link that its partition has now."""
        shares: dict[RedisLink, list[Call]] = {}
        for call in calls:
            partition = partition_of_call(call.command)
            if partition is None:  # it asked for a proof of what is now asked again
                fail(call, Unavailable("the cluster has changed"))
            else:
                shares.setdefault(self.by_partition[partition], []).append(call)
        for share in shares.values():
            share.sort(key=lambda call: call.since)  # those of one link stay as they were: it is stable
        return shares

    def _move_leases(self, links: Iterable[RedisLink], before: Sequence[RedisLink]) -> Moves:
        """A shard that is new inherits the lease that its first partition had. Leases that nobody needs just end."""
        leases, moves = {}, []
        for link in links:
            lease = self.leases.get(link)
            if lease is None:
                lease = self._make_lease(link)
                lease.inherit(self.leases[before[link.shard.partitions[0]]])
            leases[link] = lease
            gained = {before[partition] for partition in link.shard.partitions} - {link}
            moves += [(self.leases[loser], lease) for loser in gained]
        self.leases.clear()
        self.leases.update(leases)
        return moves

    async def expect_nodes(self, loser: Lease, gainer: Lease) -> None:
        """Until it is done: the dead are not forgotten when their users move."""
        while gainer.link in self.all:
            try:
                await gainer.expect_nodes_of(loser, self.by_partition[loser.first_partition])
                return
            except ServiceError as error:
                log.debug("not now", what="expecting nodes", error=str(error))
                await trio.sleep(1.0)
