"""When a shard begins a new epoch: a replica was promoted. A restart from its own file, or a broken link, is none."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import trio_test

from imserver.errors import Unavailable
from imserver.model import UserId
from imserver.store.calls import Appended
from imserver.store.epochs import UNKNOWN, Epoch, Lineage, is_another, lineage_of
from imserver.store.partitions import PARTITIONS
from imserver.store.redis_handshake import HandshakeFailed, shake_hands
from imserver.store.shards import Shard
from tests.conftest import required
from tests.store.answers import Answers, registered
from tests.store.node import Node, serving
from tests.store.proxy import Proxy, proxied
from tests.store.redis_process import RedisProcess, replica_of, running

# -- what an instance says


def test_what_is_told_of_the_history_of_writes() -> None:
    told = b"# Server\r\nrun_id:r1\r\n# Replication\r\nrole:master\r\nmaster_replid:abc\r\nmaster_replid2:%b\r\n"
    assert lineage_of(told % (b"0" * 40)) == Lineage(b"r1", b"master", b"abc", is_promoted=False)
    assert lineage_of(told % b"0d0") == Lineage(b"r1", b"master", b"abc", is_promoted=True)
    assert lineage_of(b"run_id:r1\r\n") == Lineage(b"r1", b"", b"", is_promoted=False)


def test_an_instance_that_tells_nothing_begins_no_epoch() -> None:
    one, other = Epoch(b"a", 1.0), Epoch(b"b", 0.0)
    assert is_another(one, other)
    assert not is_another(one, Epoch(b"a", 5.0))
    assert not is_another(UNKNOWN, other)
    assert not is_another(one, UNKNOWN)


# -- what links make of it


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[RedisProcess]:
    options = ("--appendonly", "yes", "--appendfsync", "no")
    with running(RedisProcess(required("redis-server"), tmp_path / "primary", *options)) as process:
        yield process


@asynccontextmanager
async def node_behind(proxy: Proxy, name: str) -> AsyncIterator[Node]:
    shard = Shard(proxy.url, list(range(PARTITIONS)), clustered=False)
    async with serving(Node([shard], name), with_leases=False) as node:
        yield node


def promote(primary: RedisProcess, replica: RedisProcess, proxy: Proxy) -> None:
    primary.kill()
    with replica.client() as client:
        client.replicaof("NO", "ONE")
    proxy.lead_to(replica.port)


@trio_test
async def test_a_restart_and_a_broken_link_begin_none(primary: RedisProcess, name: str) -> None:
    async with proxied(primary.port) as proxy, node_behind(proxy, "n1") as node:
        await registered(node, name)
        answers = Answers(node, name)
        proxy.cut()
        answers.append(10)
        await answers.wait_all()
        primary.kill()
        answers.append(10)
        primary.start()
        await answers.wait_all()
        assert all(isinstance(result, Appended) for result in answers.results.values())
        assert (node.ups, node.epochs) == (3, 0)
        assert not node.store.may_have_lost(node.reactor.now)


@trio_test
async def test_a_promotion_begins_one_and_messages_are_not_repeated(
    primary: RedisProcess, tmp_path: Path, name: str
) -> None:
    with replica_of(primary, tmp_path) as replica:
        async with proxied(primary.port) as proxy, node_behind(proxy, "n1") as node:
            await registered(node, name)
            await node.say(name, "m")
            with primary.client() as client:
                assert client.wait(1, 10_000) == 1
            proxy.stall()
            answers = Answers(node, name)
            answers.append(5)
            promote(primary, replica, proxy)
            proxy.cut()
            proxy.resume()
            await answers.wait_all()
            assert all(isinstance(result, Unavailable) for result in answers.results.values())
            assert node.events == ["up", "epoch", "up"]
            assert node.store.may_have_lost(node.reactor.now)
            assert not node.store.may_have_lost(node.reactor.now + 70)
            await node.say(name, "m2")
            # The link is lost again, and another worker starts: the epoch is the same for both, and young.
            proxy.cut()
            await node.wait_told(lambda: node.ups == 3)
            async with node_behind(proxy, "n2") as other:
                assert other.store.may_have_lost(other.reactor.now)
                assert (node.epochs, other.epochs) == (1, 0)
                with trio.fail_after(5):
                    await other.say(name, "m3")


@trio_test
async def test_a_log_that_lost_its_end_for_no_known_reason_begins_one(primary: RedisProcess) -> None:
    """At most one in a while, however many logs are found shorter."""
    async with proxied(primary.port) as proxy, node_behind(proxy, "n1") as node:
        for user in ("alice", "bob"):
            node.store.went_back(UserId(user))
        assert node.epochs == 1
        assert node.store.may_have_lost(node.reactor.now)


@trio_test
async def test_a_replica_gets_no_link(primary: RedisProcess, tmp_path: Path) -> None:
    """It may be promoted while the link stands."""
    with replica_of(primary, tmp_path) as replica, pytest.raises(HandshakeFailed, match="a replica"):
        await shake_hands(replica.url, client_name="n1", channels=())
