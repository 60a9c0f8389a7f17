"""The map of a cluster, and what becomes of calls when it changes. Nothing is sent."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imserver.errors import SetupError
from imserver.model import START, Place, UserId
from imserver.store import account_calls, calls
from imserver.store.calls import Packed
from imserver.store.cluster_map import ClusterMap, parse_map
from imserver.store.partitions import (
    PARTITIONS,
    SLOTS,
    Hosting,
    lease_keys,
    partition_of,
    partition_of_call,
    user_keys,
)
from imserver.store.redis_link import RedisLink
from imserver.store.shards import Shard, find_shards
from imserver.store.shards import _of_cluster as shards_of
from tests.conftest import required
from tests.store.node import Node
from tests.store.redis_process import RedisProcess, free_ports, running

URL = "redis://me:secret@10.0.0.1:7000"


def rows(*members: list[Any]) -> list[Any]:
    """As CLUSTER SLOTS answers: the slots shared out evenly."""
    share = SLOTS // len(members)
    return [[number * share, (number + 1) * share - 1, *nodes] for number, nodes in enumerate(members)]


def test_a_map_names_primaries_and_replicas() -> None:
    slots = rows(
        [[b"10.0.0.1", 7000, b"id1", []], [b"10.0.0.4", 7003, b"id4", []]], [[b"::1", 7001, b"id2", []]], [[b"", 7002]]
    )
    slots.append([SLOTS - 1, SLOTS - 1, [b"", 7002]])
    found = parse_map(URL, slots, b"a:1\r\ncluster_current_epoch:12\r\nb:2\r\n")
    hosts = ("10.0.0.1:7000", "10.0.0.4:7003", "[::1]:7001", "10.0.0.1:7002")
    assert found.nodes == {f"redis://me:secret@{host}" for host in hosts}
    assert found.is_complete
    assert found.epoch == 12
    assert {url: len(held) for url, held in found.shards().items()} == {
        URL: 341,
        "redis://me:secret@[::1]:7001": 342,
        "redis://me:secret@10.0.0.1:7002": 341,
    }


def test_a_cluster_that_does_not_serve_everything_can_not_be_used() -> None:
    found = parse_map(URL, [[0, 99, [b"10.0.0.1", 7000]]], b"")
    assert not found.is_complete
    with pytest.raises(SetupError, match="does not serve slot"):
        shards_of(URL, found)


def test_the_store_is_found_by_any_node_that_answers(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    with running(RedisProcess(required("redis-server"), tmp_path)) as single:
        with pytest.raises(SetupError, match="not one of a cluster"):
            find_shards(f"redis://127.0.0.1:{nobody},{single.url}")
        with pytest.raises(SetupError, match="can't be used"):
            find_shards(f"redis://127.0.0.1:{nobody}", patience_seconds=0)


ALICE = user_keys("alice")
HOSTING = Hosting(ALICE.partition, b"{zzz}")


@pytest.mark.parametrize(
    "command",
    [
        calls.append(ALICE, b"{000}/d/1", b"{000}", b"-"),
        calls.append(ALICE, b"{000}/d/1", b"{000}", b"-", again=3),
        calls.read(ALICE, START, 1),
        calls.read_back(ALICE, None, 1),
        calls.logins(ALICE, "{000}"),
        calls.attach(ALICE, HOSTING, Place(b"{000}"), calls.Right("0.0"), None, 1.0),
        calls.detach(ALICE, HOSTING, Place(b"{000}"), None, 1.0),
        calls.ack(ALICE, "{000}", START),
        calls.trim(ALICE, 0, calls.Bounds(1, 1, 1)),
        account_calls.register(ALICE, "{000}", 0),
        calls.hosted(HOSTING),
        calls.clear(ALICE, HOSTING, 1.0),
        calls.renew(lease_keys(ALICE.partition), b"{000}", 1, b"{000}"),
        calls.bury(lease_keys(ALICE.partition), b"{000}"),
        calls.leaseholders(lease_keys(ALICE.partition)),
    ],
)
def test_a_call_shows_its_partition(command: Packed) -> None:
    assert partition_of_call(command) == ALICE.partition


def test_a_proof_concerns_no_partition() -> None:
    assert partition_of_call(calls.pack(b"PING")) is None


# ---- calls go where their partitions go

USERS = [f"user{number}" for number in range(40)]
URLS = [f"redis://10.0.0.{number}:6379" for number in range(1, 6)]


@st.composite
def maps(draw: st.DrawFn) -> ClusterMap:
    """Some primaries share the partitions in some stretches, and one may be in two places."""
    cuts = sorted(draw(st.sets(st.integers(1, PARTITIONS - 1), max_size=5)))
    holders: dict[int, str] = {}
    for begin, end in zip([0, *cuts], [*cuts, PARTITIONS], strict=True):
        holders.update(dict.fromkeys(range(begin, end), draw(st.sampled_from(URLS))))
    return ClusterMap(holders, frozenset(holders.values()), 0)


@given(maps(), st.lists(st.one_of(maps(), st.integers(0, len(USERS) - 1)), max_size=40))
def test_every_call_is_in_one_link_and_in_order_whatever_moves(
    first: ClusterMap, steps: list[ClusterMap | int]
) -> None:
    """Steps: a new map, or a call for a user."""
    shards = [Shard(url, partitions, clustered=True) for url, partitions in first.shards().items()]
    node, current = Node(shards, "node"), first
    made: dict[int, list[bytes]] = defaultdict(list)
    for number, step in enumerate(steps):
        if isinstance(step, ClusterMap):
            current = step
            node.store._links.arrange(step)
        else:
            said = b"%d" % number
            made[partition_of(USERS[step])].append(said)
            keys = user_keys(UserId(USERS[step]))
            node.store.link_of(USERS[step]).call(calls.append(keys, said, said, b"-"), lambda _: None)
    assert {link.url: link.shard.partitions for link in node.store.links} == current.shards()
    assert all(node.store._by_partition[p] is link for link in node.store.links for p in link.shard.partitions)
    assert set(node.store._leases) == set(node.store.links)
    assert all(link.in_flight == 0 for link in node.store._links.retired)
    assert waiting(node.store.links) == made


def waiting(links: list[RedisLink]) -> dict[int, list[bytes]]:
    """Partition -> what its calls say, in their order."""
    found: dict[int, list[bytes]] = defaultdict(list)
    for link in links:
        for call in link.take_calls("the test is over"):
            partition = partition_of_call(call.command)
            assert partition is not None
            assert partition in link.shard.partitions
            found[partition].append(call.command.split(b"\r\n")[12])
    return found
