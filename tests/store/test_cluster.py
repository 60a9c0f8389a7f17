"""A cluster that changes under a node: primaries are replaced, slots move. What a link promises holds all the same."""

from collections.abc import Iterator

import pytest
import trio
from imswarm.cluster import PORTS, Cluster, ClusterNode, running_cluster
from imswarm.faults.victim import free_ports
from trio.testing import trio_test

from imserver.config import Durability
from imserver.errors import Unavailable
from imserver.store.calls import Appended
from imserver.store.durability import hold_to
from imserver.store.partitions import PARTITIONS, lease_keys, partition_of, slot_of_partition
from imserver.store.shards import find_shards
from tests.conftest import required
from tests.store.answers import Answers, ids_in, registered
from tests.store.deployment import deployment_at
from tests.store.node import PATIENCE_SECONDS, Node, opened, serving


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all: each test leaves it whole."""
    directory = tmp_path_factory.mktemp("cluster")
    with running_cluster(required("redis-server"), directory, free_ports(PORTS)) as it:
        yield it


def primary_of(cluster: Cluster, name: str) -> ClusterNode:
    return cluster.holder(slot_of(name))


def slot_of(name: str) -> int:
    return slot_of_partition(partition_of(name))


def another(cluster: Cluster, than: ClusterNode) -> ClusterNode:
    return next(node for node in cluster.primaries() if node is not than)


def kept(cluster: Cluster, name: str) -> list[bytes]:
    with deployment_at(next(node for node in cluster.nodes if node.is_running).url) as oracle:
        return ids_in(oracle, name)


def acknowledged(answers: Answers) -> list[bytes]:
    return [f"m{number}".encode() for number in answers.order if isinstance(answers.results[number], Appended)]


def in_order(ids: list[bytes]) -> bool:
    numbers = [int(it[1:]) for it in ids]
    return numbers == sorted(set(numbers))


async def wait_some(answers: Answers, count: int) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while len(answers.order) < count:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("durability", ["process", "replica"])
@trio_test
async def test_a_primary_is_killed_and_its_replica_takes_its_place(
    cluster: Cluster, name: str, durability: Durability
) -> None:
    primary = primary_of(cluster, name)
    shards = hold_to(find_shards(another(cluster, primary).url), durability, warn=False)
    async with serving(Node(shards, "node")) as node:
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        answers = Answers(node, name)
        answers.append(100)
        await wait_some(answers, 50)
        answers.append(100)
        primary.kill()
        answers.append(100)
        members = ",".join(it.url for it in (primary, *cluster.nodes))
        assert {it.url for it in find_shards(members)} >= {shard.url for shard in shards if shard.url != primary.url}
        await trio.to_thread.run_sync(cluster.wait_replaced, primary)
        primary.start()  # with `replica`, nothing is acknowledged before it is back
        await trio.to_thread.run_sync(cluster.wait_healed)
        await answers.wait_all()  # what had no answer is refused: a new epoch
        answers.append(100)
        await answers.wait_all()
        assert answers.order[-100:] == list(range(300, 400))
        assert node.store.link_of(name).url == primary_of(cluster, name).url != primary.url
        assert node.ups == 4  # three links, one of them twice
        ids = kept(cluster, name)
        assert in_order(ids)
        assert acknowledged(answers)[-100:] == ids[-100:]
        if durability == "replica":
            assert set(acknowledged(answers)) <= set(ids)
        said = await node.say(name, "last")
        await node.wait_told(lambda: bool(node.entries) and node.entries[-1][1].at == said.at)


@pytest.mark.parametrize("durability", ["process", "replica"])
@trio_test
async def test_a_replica_that_lacks_the_last_moment_takes_over(
    cluster: Cluster, name: str, durability: Durability
) -> None:
    """What `replica` is for; and that a loss would be seen here."""
    primary = primary_of(cluster, name)
    shards = hold_to(find_shards(cluster.nodes[0].url), durability, warn=False)
    async with serving(Node(shards, "node")) as node:
        await registered(node, name)
        answers = Answers(node, name)
        answers.append(10)
        await answers.wait_all()
        with cluster.left_behind(primary):
            answers.append(10)
            if durability == "process":
                await answers.wait_all()
            primary.kill()
        await trio.to_thread.run_sync(cluster.wait_replaced, primary)
        primary.start()
        await trio.to_thread.run_sync(cluster.wait_healed)
        await answers.wait_all()
        lost = set(acknowledged(answers)) - set(kept(cluster, name))
        assert bool(lost) == (durability == "process")
        assert answers.order == list(range(20))


@trio_test
async def test_a_failover_that_was_asked_for_loses_nothing(cluster: Cluster, name: str) -> None:
    primary = primary_of(cluster, name)
    async with opened(cluster.nodes[0].url, "node") as node:
        await registered(node, name)
        answers = Answers(node, name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, cluster.fail_over, primary)
            for _ in range(50):
                answers.append(10)
                await trio.sleep(0.01)
        await answers.wait_all()
        answers.append(10)
        await answers.wait_all()
        ids = kept(cluster, name)
        assert in_order(acknowledged(answers))
        assert set(acknowledged(answers)) <= set(ids)
        assert len(ids) == len(set(ids))
        # What had no answer is for its sender to repeat, behind what it may have to send again (store/epochs.py).
        assert {type(result) for result in answers.results.values()} <= {Appended, Unavailable}
        assert acknowledged(answers)[-10:] == ids[-10:]
        assert node.store.link_of(name).url != primary.url
        await trio.to_thread.run_sync(cluster.wait_healed)


@trio_test
async def test_an_idle_link_notices_that_its_primary_is_a_replica_now(cluster: Cluster, name: str) -> None:
    primary = primary_of(cluster, name)
    async with opened(cluster.nodes[0].url, "node") as node:
        await trio.to_thread.run_sync(cluster.fail_over, primary)
        await node.wait_told(lambda: node.ups == 4)
        assert node.store.link_of(name).url == primary_of(cluster, name).url != primary.url
        await trio.to_thread.run_sync(cluster.wait_healed)


@trio_test
async def test_a_primary_that_stands_still_is_left_for_the_one_that_took_its_place(cluster: Cluster, name: str) -> None:
    """Nobody tells the link: what it says to that primary is swallowed."""
    primary = primary_of(cluster, name)
    async with opened(cluster.nodes[0].url, "node") as node:
        await registered(node, name)
        answers = Answers(node, name)
        with primary.stopped():
            answers.append(10)
            await trio.to_thread.run_sync(cluster.wait_replaced, primary)
            node.store.tick(node.reactor.now + 2)
            await answers.wait_all()
        assert {type(result) for result in answers.results.values()} == {Unavailable}  # a new epoch: the sender repeats
        answers.append(1)
        await answers.wait_all()
        assert acknowledged(answers) == kept(cluster, name) == [b"m10"]
        await trio.to_thread.run_sync(cluster.wait_healed)


@trio_test
async def test_a_slot_moves_to_another_primary(cluster: Cluster, name: str) -> None:
    source = primary_of(cluster, name)
    target = another(cluster, source)
    async with opened(cluster.nodes[0].url, "node") as node:
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        answers = Answers(node, name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, cluster.move_slot, slot_of(name), target)
            for _ in range(30):
                answers.append(10)
                await trio.sleep(0.01)
        await answers.wait_all()
        assert answers.order == list(range(300))
        assert kept(cluster, name) == acknowledged(answers) == [f"m{number}".encode() for number in range(300)]
        await node.wait_told(lambda: node.store.link_of(name).url == target.url and node.store.link_of(name).up)
        said = await node.say(name, "last")
        await node.wait_told(lambda: bool(node.entries) and node.entries[-1][1].at == said.at)
        assert (await node.attach_again(name, "laptop", b"node.1")).last == said.at  # type: ignore[union-attr]
        await trio.to_thread.run_sync(cluster.move_slot, slot_of(name), source)
        await node.wait_told(lambda: node.store.link_of(name).url == source.url and node.store.link_of(name).up)
        assert partitions_served(node) == list(range(PARTITIONS))


def partitions_served(node: Node) -> list[int]:
    return sorted(partition for link in node.store.links for partition in link.shard.partitions)


@pytest.mark.parametrize("most_keys", [0, 1])
@trio_test
async def test_calls_wait_while_their_slot_is_half_moved(cluster: Cluster, name: str, most_keys: int) -> None:
    """TRYAGAIN, where a user's keys are at both; ASK, where one is new, or gone."""
    source = primary_of(cluster, name)
    target = another(cluster, source)
    async with opened(cluster.nodes[0].url, "node") as node:
        await registered(node, name)
        first, second = Answers(node, name), Answers(node, name)
        first.append(5)
        await first.wait_all()
        cluster.begin_move(slot_of(name), target)
        cluster.move_keys(slot_of(name), target, most_keys)
        lost = node.ups
        second.append(5)
        if most_keys:
            await node.wait_told(lambda: node.ups > lost)  # refused, and asked again
            assert second.order == []
            cluster.move_keys(slot_of(name), target, 1000)
            await node.wait_told(lambda: node.ups > lost + 1)
            assert second.order == []
            cluster.end_move(slot_of(name), target)
        else:
            await second.wait_all()  # all keys are at the source
            cluster.cancel_move(slot_of(name), target)
        await second.wait_all()
        assert second.order == list(range(5))
        assert len(kept(cluster, name)) == 5  # the second five repeat the first
        if most_keys:
            cluster.move_slot(slot_of(name), source)


@trio_test
async def test_leases_move_with_the_first_partition_of_a_shard(cluster: Cluster, name: str) -> None:
    """The shard that loses its first partition keeps its leases under another tag; nobody is taken for dead."""
    first = next(
        partition for partition in range(1, PARTITIONS) if holder(cluster, partition - 1) != holder(cluster, partition)
    )
    source, target = cluster.holder(slot_of_partition(first)), cluster.holder(slot_of_partition(first - 1))
    async with opened(cluster.nodes[0].url, "one", lease_seconds=5.0) as one:
        cluster.move_slot(slot_of_partition(first), target)
        await one.wait_told(lambda: leads_to(one, first, target) and leads_to(one, first + 1, source))
        lease = one.store._leases[one.store._by_partition[first + 1]]
        await one.store._by_partition[first + 1].ask(b"*1\r\n$4\r\nPING\r\n")
        with source.client() as client:
            assert client.zscore(lease_keys(first + 1).nodes, "one")
            assert b"one" in client.hgetall(lease_keys(first + 1).infos)
        assert lease.is_held
        one.store.tick(one.reactor.now)
        await one.store._by_partition[first + 1].ask(b"*1\r\n$4\r\nPING\r\n")
        assert not one.dead
        cluster.move_slot(slot_of_partition(first), source)
        await one.wait_told(lambda: leads_to(one, first, source))
        assert not one.dead


def holder(cluster: Cluster, partition: int) -> str:
    return cluster.holder(slot_of_partition(partition)).url


def leads_to(node: Node, partition: int, to: ClusterNode) -> bool:
    link = node.store._by_partition[partition]
    return link.up and link.url == to.url
