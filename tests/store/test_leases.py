"""A node that is dead leaves nothing behind, and one that was taken for dead never comes back."""

from urllib.parse import urlsplit

import pytest
import trio
from trio.testing import trio_test

from imserver.errors import Unavailable
from imserver.model import Place, UserId
from imserver.store import calls
from imserver.store.calls import Dead
from imserver.store.leases import margin
from imserver.store.partitions import Hosting, lease_keys, user_keys
from tests.store.deployment import Deployment
from tests.store.node import DEFAULTS, PATIENCE_SECONDS, Node, opened


async def registered(node: Node, name: str) -> None:
    await node.store.accounts.register(UserId(name), "hash")


async def clear(node: Node, name: str, dead: bytes) -> None:
    """As `store.leases` does it."""
    keys = user_keys(name)
    link, hosting = node.store.link_of(name), Hosting(keys.partition, dead)
    assert name.encode() in await link.ask(calls.hosted(hosting))
    await link.ask(calls.clear(keys, hosting, 1.0))
    assert name.encode() not in await link.ask(calls.hosted(hosting))


@trio_test
async def test_who_is_no_longer_in_the_directory_does_not_put_itself_back(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        await clear(node, name, b"node")
        assert isinstance(await node.attach_again(name, "laptop", b"node.1"), Dead)
    assert b"on" not in deployment.state(name)


@trio_test
async def test_clearing_a_node_leaves_the_sessions_of_others(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "one") as one, opened(deployment.url, "two") as two:
        await registered(one, name)
        await one.attach(name, "laptop", b"one.1")
        await two.attach(name, "phone", b"two.1")
        await one.attach(name, "pad", b"one.2")
        await clear(two, name, b"one")
        assert deployment.state(name)[b"on"] == b"phone=two.1"
        await clear(two, name, b"two")
        assert b"on" not in deployment.state(name)


@trio_test
async def test_who_leaves_is_not_hosted_any_more(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "one") as one, opened(deployment.url, "two") as two:
        await registered(one, name)
        link, partition = one.store.link_of(name), user_keys(name).partition
        await one.attach(name, "laptop", b"one.1")
        await one.attach(name, "pad", b"one.2")
        await two.attach(name, "laptop", b"two.1")
        await one.detach(name, "laptop", b"one.1")
        assert await link.ask(calls.hosted(Hosting(partition, b"one"))) == [name.encode()]
        await one.detach(name, "pad", b"one.2")
        assert await link.ask(calls.hosted(Hosting(partition, b"one"))) == []
        assert await link.ask(calls.hosted(Hosting(partition, b"two"))) == [name.encode()]


@trio_test
async def test_a_dead_node_is_given_to_one_who_clears_it_and_to_another_if_he_does_not(deployment: Deployment) -> None:
    async with opened(deployment.url, "node") as node:
        for shard, link in zip(deployment.shards, node.store.links, strict=True):
            keys = lease_keys(shard.partitions[0])
            await link.ask(calls.renew(keys, b"dying", 0.001, b"info"), calls.renewed)
            while (dead := await link.ask(calls.take_dead(keys, 60.0, 0.0))) == []:
                pass
            assert dead == [b"dying"]
            assert await link.ask(calls.take_dead(keys, 60.0, 0.0)) == []
            with pytest.raises(Dead):
                await link.ask(calls.renew(keys, b"dying", 60.0), calls.renewed)
            await link.ask(calls.bury(keys, b"dying"))
            await link.ask(calls.renew(keys, b"late", 0.001, b"info"), calls.renewed)
            while await link.ask(calls.take_dead(keys, 0.001, 0.0)) == []:
                pass
            while (dead := await link.ask(calls.take_dead(keys, 60.0, 0.0))) == []:
                pass
            assert dead == [b"late"]
            await link.ask(calls.bury(keys, b"late"))


def tick_leases(node: Node, ahead: float) -> None:
    """As if it were so many seconds later; for the links it is not."""
    for lease in node.store._leases.values():
        lease.tick(node.reactor.now + ahead)


@trio_test
async def test_the_sessions_of_a_dead_node_are_cleared_by_another(deployment: Deployment, name: str) -> None:
    users = [f"{name}.{number}" for number in range(30)]
    async with opened(deployment.url, "alive") as alive:
        async with opened(deployment.url, "dying", lease_seconds=0.001) as dying:
            for user in users:
                await registered(dying, user)
                await dying.attach(user, "laptop", b"dying.1")
                await alive.attach(user, "phone", b"alive.1")
        for share in (0.5, 1.0):  # of its own lease: it is renewed, and then others have had the time to renew theirs
            tick_leases(alive, share * DEFAULTS["lease_seconds"])
            for user in users:  # they lie on all shards
                await alive.settle(user)
        with trio.fail_after(PATIENCE_SECONDS):
            while any(b"dying" in deployment.state(user)[b"on"] for user in users):
                tick_leases(alive, DEFAULTS["lease_seconds"])
                await alive.settle(name)
        assert {deployment.state(user)[b"on"] for user in users} == {b"phone=alive.1"}
        assert not alive.dead


@trio_test
async def test_a_node_that_was_taken_for_dead_hears_of_it(deployment: Deployment) -> None:
    async with opened(deployment.url, "late", lease_seconds=0.001) as late, opened(deployment.url, "other") as other:
        for shard, link in zip(deployment.shards, other.store.links, strict=True):
            while b"late" not in await link.ask(calls.take_dead(lease_keys(shard.partitions[0]), 60.0, 0.0)):
                pass
        late.store.tick(late.reactor.now)
        await late.wait_told(lambda: late.dead)


@trio_test
async def test_a_node_that_stood_still_knows_when_the_store_can_have_let_go_of_it(deployment: Deployment) -> None:
    """The store counts from a renewal, not from the beginning of a stop; and has let go a second before it says so."""
    async with opened(deployment.url, "still", lease_seconds=5.0) as node:
        renewed_at = node.reactor.now
        assert not node.store.may_be_dead(renewed_at + 3.9)
        assert node.store.may_be_dead(renewed_at + 4.0)


@trio_test
async def test_where_a_lease_can_not_be_renewed_its_users_are_sent_elsewhere_in_time(
    deployment: Deployment, name: str
) -> None:
    async with opened(deployment.url, "node", lease_seconds=5.0) as node:
        await registered(node, name)
        for link in node.store.links:
            link.drop("cut off")
        node.store.tick(node.reactor.now + 5.0 - margin(5.0) - 0.01)
        assert node.lost_leases == 0
        node.store.tick(node.reactor.now + 5.0 - margin(5.0))
        assert node.lost_leases == len(node.store.links)
        for link in node.store.links:
            await link.ask(calls.pack(b"PING"))  # it is back
        with pytest.raises(Unavailable, match="no lease"):
            await node.attach(name, "laptop", b"node.1")
        with trio.fail_after(PATIENCE_SECONDS):
            while not all(lease.is_held for lease in node.store._leases.values()):
                node.store.tick(node.reactor.now)
                await node.settle(name)
        await node.attach(name, "laptop", b"node.1")


@trio_test
async def test_a_suspect_that_renews_is_not_dead(deployment: Deployment) -> None:
    async with opened(deployment.url, "node") as node:
        for shard, link in zip(deployment.shards, node.store.links, strict=True):
            keys = lease_keys(shard.partitions[0])
            await link.ask(calls.renew(keys, b"slow", 0.001, b"info"), calls.renewed)
            while await link.ask(calls.pack(b"HEXISTS", keys.infos, b"suspect slow")) == 0:
                assert await link.ask(calls.take_dead(keys, 60.0, 3600.0)) == []
            assert await link.ask(calls.take_dead(keys, 60.0, 3600.0)) == []
            await link.ask(calls.renew(keys, b"slow", 60.0), calls.renewed)
            assert await link.ask(calls.take_dead(keys, 60.0, 0.0)) == []
            await link.ask(calls.leave(keys, b"slow"))


@trio_test
async def test_who_has_left_does_not_renew(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await node.store.leave()
        node.store.tick(node.reactor.now)
        await node.settle(name)
        assert not node.dead


@trio_test
async def test_what_was_left_behind_when_a_lease_was_lost_is_cleared_when_it_is_there_again(
    deployment: Deployment, name: str
) -> None:
    async with opened(deployment.url, "node", lease_seconds=5.0) as node:
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        node.store.tick(node.reactor.now + 5.0)  # all are sent away; that they left is never heard
        assert node.lost_leases == len(node.store.links)
        with trio.fail_after(PATIENCE_SECONDS):
            while not all(lease.is_held for lease in node.store._leases.values()):
                node.store.tick(node.reactor.now)
                await node.settle(name)
        assert b"on" not in deployment.state(name)


@trio_test
async def test_nodes_of_a_shard_whose_users_have_come_are_expected(deployment: Deployment) -> None:
    """Who is alive there counts as alive here, who is dead there is dead here; who takes a lease here keeps it."""
    async with opened(deployment.url, "node") as node:
        link = node.store.links[0]
        keys = lease_keys(link.shard.partitions[0])
        await link.ask(calls.renew(keys, b"here", 3600.0, b"info"), calls.renewed)
        await link.ask(calls.expect(keys, 0.001, [b"here", b"absent", b"dead gone"]))
        assert b"gone" in await link.ask(calls.take_dead(keys, 0.001, 0.0))
        dead: set[bytes] = set()
        with trio.fail_after(PATIENCE_SECONDS):
            while b"absent" not in dead:
                dead.update(await link.ask(calls.take_dead(keys, 60.0, 0.0)))
        assert b"here" not in dead
        with pytest.raises(Dead):
            await link.ask(calls.renew(keys, b"absent", 3600.0, b"info"), calls.renewed)
        await link.ask(calls.expect(keys, 3600.0, [b"absent"]))  # by a node that is late
        assert await link.ask(calls.pack(b"ZSCORE", keys.nodes, b"absent")) is None
        for dead_node in (b"absent", b"gone"):
            await link.ask(calls.bury(keys, dead_node))
        await link.ask(calls.leave(keys, b"here"))


@trio_test
async def test_who_clears_does_not_ask_for_partitions_that_have_moved(deployment: Deployment) -> None:
    """They would be refused there for ever; and the dead node must not be buried before they are cleared."""
    async with opened(deployment.url, "node") as node:
        link = node.store.links[0]
        whole = link.shard
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.store._leases[link]._clear, b"dying")
                for _ in range(2):  # it has asked for the first partitions; no answer can have come
                    await trio.lowlevel.checkpoint()
                link.shard = whole._replace(partitions=whole.partitions[:1])
        link.shard = whole
        assert caught.group_contains(Unavailable, match="has moved")


@trio_test
async def test_who_leaves_while_the_store_can_not_write_has_left_when_it_can(deployment: Deployment, name: str) -> None:
    """And until then the node keeps its lease: nobody would clear it else."""
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        redis_user = urlsplit(deployment.url).username or "default"
        try:
            for client in deployment.clients:
                client.acl_setuser(redis_user, enabled=True, commands=["-fcall"])
            node.store.detach(UserId(name), Place(b"laptop=node.1"), None)
            await node.settle(name)
            assert b"on" in deployment.state(name)
            await node.store.leave()
            node.store.tick(node.reactor.now)
            await node.settle(name)
        finally:
            for client in deployment.clients:
                client.acl_setuser(redis_user, enabled=True, categories=["+@all"])
        link = node.store.link_of(name)
        assert await link.ask(calls.pack(b"ZSCORE", lease_keys(link.shard.partitions[0]).nodes, b"node"))
        node.store.tick(node.reactor.now)
        await node.settle(name)
        assert b"on" not in deployment.state(name)
