"""What a link does when Redis refuses, step by step: it is made anew, and repeats what has no answer, in order."""

from pathlib import Path

import pytest
from trio.testing import trio_test

from imserver.store.redis_handshake import HandshakeFailed, shake_hands
from tests.conftest import required
from tests.store.answers import Answers
from tests.store.redis_process import RedisProcess, free_ports, running
from tests.store.scripted_redis import ScriptedRedis
from tests.store.test_proofs import APPENDED, PING, PONG, linked


async def dedupes_asked(redis: ScriptedRedis, count: int) -> list[bytes]:
    return [(await redis.asked())[5] for _ in range(count)]


@pytest.mark.parametrize(
    "refusal",
    [
        "MOVED 42 10.0.0.1:6379",
        "ASK 42 10.0.0.1:6379",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down",
        "ERR Function not found",
    ],
)
@trio_test
async def test_what_was_refused_for_now_is_asked_again_before_what_came_later(refusal: str) -> None:
    async with linked() as (node, redis):
        answers = Answers(node, "alice")
        answers.append(3)
        asked = await dedupes_asked(redis, 3)
        # The answer to the last one must not be believed: it would overtake the refused one.
        await redis.send(APPENDED + f"-{refusal}\r\n".encode() + APPENDED)
        assert await dedupes_asked(redis, 3) == asked
        assert answers.order == []
        await redis.send(3 * APPENDED)
        assert await redis.asked() == PING
        await redis.send(PONG)
        await answers.wait_all()
        assert answers.order == [0, 1, 2]
        assert redis.connections == node.ups == 2


@trio_test
async def test_slots_that_are_taken_away_are_noticed_without_any_call() -> None:
    async with linked() as (node, redis):
        await redis.send(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n")
        await node.wait_told(lambda: node.ups == 2)
        assert redis.connections == 2


@trio_test
async def test_no_link_leads_to_a_replica(tmp_path: Path) -> None:
    """Not even where its primary is away, and it could serve subscriptions."""
    (nobody,) = free_ports(1)
    replica = RedisProcess(required("redis-server"), tmp_path, "--replicaof", f"127.0.0.1 {nobody}")
    with running(replica), pytest.raises(HandshakeFailed, match="a replica, which takes no writes"):
        await shake_hands(replica.url, client_name="node", channels=())
