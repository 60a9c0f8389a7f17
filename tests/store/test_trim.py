"""Logs and their dedupe indexes stay within bounds, and never contradict each other.

The index covers a suffix of the log, so: no dedupe field without its entry, and none missing for an entry within the
window that is still kept.
"""

import random
import time

import pytest
from trio.testing import trio_test

from imserver.model import START, Position, UserId, position_order
from imserver.store import calls
from imserver.store.calls import Appended, Bounds
from tests.store.deployment import Deployment
from tests.store.node import Node, message, neighbours, opened

NEVER = 86_400


def born(at: bytes) -> float:
    return position_order(at)[0] / 1000


def assert_consistent(deployment: Deployment, name: str) -> None:
    """Every field has its entry; what is missing is a prefix of the log."""
    log = [at for at, _ in deployment.log(name)]
    indexed = set(deployment.dedupe(name).values())
    assert indexed <= set(log)
    assert [at for at in log if at in indexed] == log[len(log) - len(indexed) :]


async def filled(node: Node, name: str, count: int) -> list[Position]:
    await node.store.accounts.register(UserId(name), "hash")
    return [(await node.say(name, f"m{number}")).at for number in range(count)]


@trio_test
async def test_nothing_is_cut_within_the_bounds(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        ats = await filled(node, name, 10)
        assert await node.trim(name, Bounds(10, NEVER, NEVER)) == 0
    assert [at for at, _ in deployment.log(name)] == ats
    assert len(deployment.dedupe(name)) == 10


@trio_test
async def test_by_count(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        ats = await filled(node, name, 30)
        await node.trim(name, Bounds(10, NEVER, NEVER))
        assert [at for at, _ in deployment.log(name)] == ats[20:]
        assert sorted(deployment.dedupe(name).values(), key=position_order) == ats[20:]
        assert (await node.read(name, START))[0].prev == ats[19]  # it shows that something is gone
        assert await node.say(name, "m25") == Appended(ats[25], None)
        assert (await node.say(name, "m5")).prev == ats[29]  # forgotten: stored as new
    assert_consistent(deployment, name)


@trio_test
async def test_by_age(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        ats = await filled(node, name, 10)
        await node.trim(name, Bounds(100, 60, 60), now=born(ats[-1]) + 30)
        assert len(deployment.log(name)) == 10
        await node.trim(name, Bounds(100, 60, 60), now=born(ats[-1]) + 61)
        assert deployment.log(name) == []
        assert deployment.dedupe(name) == {}
        said = await node.say(name, "m99")
    assert said.prev == ats[-1]
    assert deployment.state(name)[b"last"] == said.at


@trio_test
async def test_the_dedupe_window_is_shorter_than_the_log(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        ats = await filled(node, name, 10)
        assert await node.trim(name, Bounds(100, 3600, 60), now=born(ats[-1]) + 61) == 10
        assert len(deployment.log(name)) == 10
        assert deployment.dedupe(name) == {}
        assert await node.trim(name, Bounds(100, 3600, 60), now=born(ats[-1]) + 61) == 0
        await node.say(name, "new")
    assert len(deployment.dedupe(name)) == 1
    assert_consistent(deployment, name)


@trio_test
async def test_one_call_does_a_bounded_amount(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        ats = await filled(node, name, calls.TRIM_STEPS + 50)
        assert await node.trim(name, Bounds(1, NEVER, NEVER)) == calls.TRIM_STEPS
        assert_consistent(deployment, name)
        assert await node.trim(name, Bounds(1, NEVER, NEVER)) == 49
    assert [at for at, _ in deployment.log(name)] == ats[-1:]
    assert_consistent(deployment, name)


@trio_test
async def test_the_store_trims_by_itself(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node", bounds=Bounds(20, NEVER, NEVER)) as node:
        await filled(node, name, 500)
        await node.settle(name)
    assert len(deployment.log(name)) < 200
    assert_consistent(deployment, name)


@trio_test
async def test_the_log_of_one_who_only_sends_is_trimmed_too(deployment: Deployment, name: str) -> None:
    sender, recipient = neighbours(name)
    async with opened(deployment.url, "node", bounds=Bounds(20, NEVER, NEVER)) as node:
        for user in (sender, recipient):
            await node.store.accounts.register(UserId(user), "hash")
        for number in range(200):
            await node.append_both(recipient, sender, message(sender, recipient, f"m{number}"))
        for user in (sender, recipient):
            await node.settle(user)
            assert len(deployment.log(user)) < 100
            assert_consistent(deployment, user)


@trio_test
async def test_what_the_index_has_forgotten_is_found_in_the_log_when_asked_for(
    deployment: Deployment, name: str
) -> None:
    sender, recipient = neighbours(name)
    async with opened(deployment.url, "node") as node:
        for user in (sender, recipient):
            await node.store.accounts.register(UserId(user), "hash")
        first, second = (message(sender, recipient, message_id) for message_id in ("m1", "m11"))
        delivered = await node.append(recipient, first)
        assert isinstance(delivered, Appended)
        await node.append(recipient, second)
        await node.trim(recipient, Bounds(1000, NEVER, 0), now=time.time() + 1)
        assert deployment.dedupe(recipient) == {}
        again = len(first.content) - len(b'"hello"}')
        assert await node.append(recipient, first, again=again) == Appended(delivered.at, None)
        recorded = await node.append_both(recipient, sender, first, again=again)
        assert recorded == Appended(Position(deployment.log(sender)[0][0]), START)
        third = message(sender, recipient, "m")
        appended = await node.append(recipient, third, again=len(third.content) - len(b'"hello"}'))
        assert isinstance(appended, Appended)
        assert appended.prev is not None  # the beginning of another's id is another id
        assert len(deployment.log(recipient)) == 3


@pytest.mark.parametrize("seed", range(3))
@trio_test
async def test_the_index_never_contradicts_the_log(deployment: Deployment, name: str, seed: int) -> None:
    """Whatever appends, repeats and cuts come in whatever order."""
    chance = random.Random(seed)
    async with opened(deployment.url, "node") as node:
        await node.store.accounts.register(UserId(name), "hash")
        for _ in range(150):
            if chance.random() < 0.8:
                await node.say(name, f"m{chance.randrange(60)}")
                continue
            bounds = Bounds(chance.choice((1, 5, 20)), chance.choice((1, 3600)), chance.choice((1, 3600)))
            await node.trim(name, bounds, now=time.time() + chance.choice((-1, 0, 0.9, 1, 1.1)))
            assert_consistent(deployment, name)
    assert_consistent(deployment, name)
