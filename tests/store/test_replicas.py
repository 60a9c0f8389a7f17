"""`durability = replica`: what is acknowledged is on a replica, whatever happens to either of the two."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import trio_test

from imserver.errors import Unavailable
from imserver.model import START
from imserver.store.calls import Appended
from imserver.store.partitions import PARTITIONS
from imserver.store.redis_handshake import HandshakeFailed
from imserver.store.replicas import open_witness
from imserver.store.shards import Shard
from tests.conftest import required
from tests.store.answers import Answers, ids_in, registered
from tests.store.deployment import deployment_at
from tests.store.node import PATIENCE_SECONDS, Node, serving
from tests.store.proxy import Proxy, proxied
from tests.store.redis_process import RedisProcess, has_replica, replica_of, running, wait_until


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[RedisProcess]:
    options = ("--appendonly", "yes", "--appendfsync", "no")
    with running(RedisProcess(required("redis-server"), tmp_path / "primary", *options)) as process:
        yield process


@pytest.fixture
def replica(primary: RedisProcess, tmp_path: Path) -> Iterator[RedisProcess]:
    with replica_of(primary, tmp_path) as process:
        yield process


@asynccontextmanager
async def node_behind_proxy(primary: RedisProcess) -> AsyncIterator[tuple[Node, Proxy]]:
    async with proxied(primary.port) as proxy:
        shard = Shard(proxy.url, list(range(PARTITIONS)), clustered=False, durability="replica")
        async with serving(Node([shard], "node")) as node:
            yield node, proxy


def acknowledged(answers: Answers) -> list[bytes]:
    return [f"m{number}".encode() for number in answers.order if isinstance(answers.results[number], Appended)]


@trio_test
async def test_what_is_acknowledged_is_on_the_replica(primary: RedisProcess, replica: RedisProcess, name: str) -> None:
    async with node_behind_proxy(primary) as (node, _):
        await registered(node, name)
        with primary.client() as client, deployment_at(replica.url) as oracle:
            client.config_resetstat()
            answers = Answers(node, name)
            for number in range(1, 6):
                answers.append(20)
                await answers.wait_all()
                assert acknowledged(answers) == ids_in(oracle, name)
                assert len(ids_in(oracle, name)) == 20 * number
            assert client.info("commandstats")["cmdstat_wait"]["calls"] == 5  # one for each batch


@trio_test
async def test_published_entries_and_replies_keep_their_order(
    primary: RedisProcess, replica: RedisProcess, name: str
) -> None:
    async with node_behind_proxy(primary) as (node, _):
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        first = await node.say(name, "m1")
        second = await node.say(name, "m2")
        await node.settle(name)
        assert [(entry.at, entry.prev) for _, entry, _ in node.entries] == [
            (first.at, START),
            (second.at, first.at),
        ]


@pytest.mark.parametrize("fate", ["stopped", "killed"])
@trio_test
async def test_without_the_replica_nothing_is_acknowledged(
    primary: RedisProcess, replica: RedisProcess, name: str, fate: str
) -> None:
    async with node_behind_proxy(primary) as (node, _):
        await registered(node, name)
        replica.stop() if fate == "stopped" else replica.kill()
        answers = Answers(node, name)
        answers.append(3)
        await answers.wait_all()
        assert [type(answers.results[number]) for number in range(3)] == [Unavailable] * 3
        assert len(await node.read(name, START)) == 3  # reading goes on
        replica.resume() if fate == "stopped" else replica.start()
        with primary.client() as client:
            wait_until(lambda: has_replica(client), "the replica is back")
        repeat = Answers(node, name)
        repeat.append(3)
        await repeat.wait_all()
        assert acknowledged(repeat) == [b"m0", b"m1", b"m2"]
        with deployment_at(replica.url) as oracle:
            assert ids_in(oracle, name) == [b"m0", b"m1", b"m2"]


@trio_test
async def test_the_primary_is_killed_and_the_replica_takes_its_place(
    primary: RedisProcess, replica: RedisProcess, name: str
) -> None:
    async with node_behind_proxy(primary) as (node, proxy):
        await registered(node, name)
        answers = Answers(node, name)
        for _ in range(30):
            answers.append(10)
            await trio.lowlevel.checkpoint()
        with trio.fail_after(PATIENCE_SECONDS):
            while not answers.order:
                await trio.lowlevel.checkpoint()
        answers.append(50)
        primary.kill()
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        proxy.lead_to(replica.port)
        await answers.wait_all()
        assert answers.order == list(range(350))
        assert node.ups == 2
        with deployment_at(replica.url) as oracle:
            kept = ids_in(oracle, name)
    assert acknowledged(answers)
    assert len(kept) == len(set(kept))
    assert set(acknowledged(answers)) <= set(kept)


@trio_test
async def test_a_link_that_lost_its_witness_is_made_anew(
    primary: RedisProcess, replica: RedisProcess, name: str
) -> None:
    async with node_behind_proxy(primary) as (node, _):
        await registered(node, name)
        answers = Answers(node, name)
        answers.append(10)
        with primary.client() as client:
            (witness,) = [row for row in client.client_list() if row["name"] == "imserver-node-witness"]
            client.client_kill_filter(_id=witness["id"])
        await node.wait_told(lambda: node.ups == 2)
        answers.append(10)
        await answers.wait_all()
        assert len(acknowledged(answers)) == 20
        with deployment_at(replica.url) as oracle:
            assert ids_in(oracle, name) == acknowledged(answers)


@trio_test
async def test_a_witness_of_another_server_is_refused(primary: RedisProcess) -> None:
    with pytest.raises(HandshakeFailed, match="two servers"):
        await open_witness(primary.url, client_name="node", run_id=b"another")
