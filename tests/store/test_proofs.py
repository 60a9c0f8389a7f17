"""When a link gives on what has come, step by step: Redis sends what the test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio.testing import trio_test, wait_all_tasks_blocked

from imserver.errors import Unavailable
from imserver.store import calls
from imserver.store.calls import Appended
from imserver.store.partitions import PARTITIONS
from imserver.store.shards import Shard
from tests.store.answers import Answers
from tests.store.node import Node, serving
from tests.store.scripted_redis import ScriptedRedis, scripted_redis

APPENDED = b"*2\r\n$3\r\n1-0\r\n$3\r\n0-0\r\n"
PONG = b"+PONG\r\n"
PING = [b"PING"]


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Node, ScriptedRedis]]:
    async with scripted_redis() as redis:
        shard = Shard(redis.url, list(range(PARTITIONS)), clustered=False)
        async with serving(Node([shard], "node"), with_leases=False) as node:
            yield node, redis


async def function_asked(redis: ScriptedRedis) -> bool:
    return bool((await redis.asked())[0] == b"FCALL")


@trio_test
async def test_the_next_reply_is_the_proof() -> None:
    async with linked() as (node, redis):
        answers = Answers(node, "alice")
        answers.append(1)
        assert await function_asked(redis)
        await redis.send(APPENDED)
        assert await redis.asked() == PING
        assert answers.order == []
        await redis.send(PONG)
        await answers.wait_all()
        assert isinstance(answers.results[0], Appended)


@trio_test
async def test_a_reply_to_what_was_asked_before_is_no_proof() -> None:
    """Both may have been executed in one turn."""
    async with linked() as (node, redis):
        answers = Answers(node, "alice")
        answers.append(2)
        assert await function_asked(redis)
        assert await function_asked(redis)
        await redis.send(APPENDED)
        await wait_all_tasks_blocked(0.01)
        assert not redis.was_asked()  # a reply is on its way
        await redis.send(APPENDED)
        assert await redis.asked() == PING
        assert answers.order == []
        await redis.send(PONG)
        await answers.wait_all()
        assert answers.order == [0, 1]


@trio_test
async def test_a_busy_link_needs_no_ping() -> None:
    async with linked() as (node, redis):
        answers = Answers(node, "alice")
        answers.append(2)
        assert await function_asked(redis)
        assert await function_asked(redis)
        await redis.send(APPENDED)
        await wait_all_tasks_blocked(0.01)
        answers.append(1)  # after the first reply, before the second
        assert await function_asked(redis)
        await redis.send(APPENDED + APPENDED)
        while len(answers.order) < 1:
            await wait_all_tasks_blocked(0.01)
        assert answers.order == [0]  # the others came with the proof, and are not proven by it


@trio_test
async def test_what_comes_while_a_proof_is_on_its_way_gets_its_own() -> None:
    async with linked() as (node, redis):
        await redis.publish(b"x alice node.1 revoked")
        assert await redis.asked() == PING
        await redis.publish(b"x bob node.2 revoked")
        await wait_all_tasks_blocked(0.01)
        await redis.send(PONG)
        assert await redis.asked() == PING
        assert [user for user, _, _ in node.expelled] == ["alice"]
        await redis.send(PONG)
        await node.wait_told(lambda: [user for user, _, _ in node.expelled] == ["alice", "bob"])
        await wait_all_tasks_blocked(0.01)
        assert not redis.was_asked()


@trio_test
async def test_a_read_is_no_proof() -> None:
    """After a failed write Redis goes on reading."""
    async with linked() as (node, redis):
        answers = Answers(node, "alice")
        answers.append(1)
        assert await function_asked(redis)
        node.store.links[0].call(calls.pack(b"GET", b"key"), lambda reply: None)
        assert await redis.asked() == [b"GET", b"key"]
        await redis.send(APPENDED)
        await wait_all_tasks_blocked(0.01)
        node.store.links[0].call(calls.pack(b"GET", b"key"), lambda reply: None)
        assert await redis.asked() == [b"GET", b"key"]
        await redis.send(b"$-1\r\n$-1\r\n")
        assert await redis.asked() == PING
        assert answers.order == []
        await redis.send(b"-MISCONF Errors writing to the AOF file\r\n")
        await answers.wait_all()
        assert isinstance(answers.results[0], Unavailable)


@trio_test
async def test_a_ping_that_is_forbidden_ends_the_link() -> None:
    async with linked() as (node, redis):
        await redis.publish(b"x alice node.1 revoked")
        assert await redis.asked() == PING
        await redis.send(b"-NOPERM this user has no permissions to run the 'ping' command\r\n")
        await node.wait_told(lambda: node.ups == 2)
        assert node.expelled == []


@trio_test
async def test_what_came_before_nonsense_is_asked_again() -> None:
    async with linked() as (node, redis):
        answers = Answers(node, "alice")
        answers.append(2)
        assert await function_asked(redis)
        assert await function_asked(redis)
        await redis.send(APPENDED + b"nonsense\r\n")
        assert await function_asked(redis)
        assert await function_asked(redis)
        await redis.send(APPENDED + APPENDED)
        assert await redis.asked() == PING
        await redis.send(PONG)
        await answers.wait_all()
        assert answers.order == [0, 1]
        assert redis.connections == 2
