"""What a reply promises: whatever is given on has been written, although Redis may send it before."""

import resource
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from trio.testing import trio_test, wait_all_tasks_blocked

from imserver.config import Durability
from imserver.errors import Unavailable
from imserver.model import START
from imserver.store import calls
from imserver.store.calls import Appended
from imserver.store.partitions import PARTITIONS
from imserver.store.shards import Shard
from tests.conftest import required
from tests.store.answers import Answers, ids_in, registered
from tests.store.deployment import deployment_at
from tests.store.node import Node, serving
from tests.store.proxy import Proxy, proxied
from tests.store.redis_process import RedisProcess, running, wait_until

APPENDED = b"$3\r\n0-0\r\n"  # the end of the reply to the first append
# In a turn of its event loop Redis reads 16 to 40 KB of a connection and sends 64 to 128 KB. The replies to these GETs
# are more than that, the last ones less: they and the append are executed while some output is still unsent.
KEY, VALUE = b"k" * 400, b"v" * 1900  # 1,700 to 2,100 will do
QUESTIONS = 110


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    program = tmp_path / "redis-server"
    # A file that may not grow is a full disk, unless the signal that announces it ends the process first.
    program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {required('redis-server')} \"$@\"\n")
    program.chmod(0o700)
    options = ("--appendonly", "yes", "--appendfsync", "no", "--enable-debug-command", "yes")
    with running(RedisProcess(program, tmp_path / "redis", *options)) as process:
        yield process


@asynccontextmanager
async def node_behind_proxy(redis: RedisProcess, durability: Durability) -> AsyncIterator[tuple[Node, Proxy]]:
    with redis.client() as client:  # over the link itself it would make Redis's buffer for what it reads a larger one
        client.function_load(calls.library(), replace=True)
    async with proxied(redis.port) as proxy:
        shard = Shard(proxy.url, list(range(PARTITIONS)), clustered=False, durability=durability)
        async with serving(Node([shard], "node")) as node:
            yield node, proxy


# -- replies that come before the write


async def be_answered_early(redis: RedisProcess, node: Node, proxy: Proxy, answers: Answers) -> None:
    """Redis has sent the reply to an append, and is held up just before it writes the entry."""
    with redis.client() as client:
        client.set(KEY, VALUE)
        client.execute_command("DEBUG", "AOF-FLUSH-SLEEP", 60_000_000)
    redis.stop()
    proxy.passed = b""
    with node.reactor.batch():
        for _ in range(QUESTIONS):
            node.store.links[0].call(calls.pack(b"GET", KEY), lambda reply: None)
        answers.append(1)
    await wait_all_tasks_blocked(0.05)  # all of it lies before Redis
    redis.resume()
    await proxy.wait_passed(APPENDED)


@trio_test
async def test_redis_replies_before_it_writes(redis: RedisProcess, name: str) -> None:
    """The hole that is to be closed: a link that takes `process` for `disk` loses what it acknowledged."""
    async with node_behind_proxy(redis, "disk") as (node, proxy):
        await registered(node, name)
        answers = Answers(node, name)
        await be_answered_early(redis, node, proxy, answers)
        await answers.wait_all()
        assert isinstance(answers.results[0], Appended)
        redis.kill()
        redis.start()
        with deployment_at(redis.url) as oracle:
            assert ids_in(oracle, name) == []


@trio_test
async def test_a_reply_is_given_on_when_its_entry_is_written(redis: RedisProcess, name: str) -> None:
    async with node_behind_proxy(redis, "process") as (node, proxy):
        await registered(node, name)
        answers = Answers(node, name)
        await be_answered_early(redis, node, proxy, answers)
        await wait_all_tasks_blocked(0.05)
        assert answers.order == []
        assert node.store.in_flight > QUESTIONS
        redis.kill()
        redis.start()
        await answers.wait_all()  # it was sent again
        first = answers.results[0]
        assert isinstance(first, Appended)
        assert first.prev == START
        with deployment_at(redis.url) as oracle:
            assert ids_in(oracle, name) == [b"m0"]


@trio_test
async def test_what_is_published_waits_with_the_replies(redis: RedisProcess, name: str) -> None:
    async with node_behind_proxy(redis, "process") as (node, proxy):
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        answers = Answers(node, name)
        await be_answered_early(redis, node, proxy, answers)
        await wait_all_tasks_blocked(0.05)
        assert node.entries == []
        redis.kill()
        redis.start()
        await answers.wait_all()
        await node.settle(name)
        assert [entry.prev for _, entry, _ in node.entries] == [START]


@trio_test
async def test_a_quiet_link_asks_for_a_proof_once(redis: RedisProcess, name: str) -> None:
    """And not for a proof of the proof."""
    async with node_behind_proxy(redis, "process") as (node, _):
        await registered(node, name)
        await node.say(name, "m1")
        await wait_all_tasks_blocked(0.05)
        assert node.store.in_flight == 0
        with redis.client() as client:
            client.config_resetstat()
            await node.say(name, "m2")
            await wait_all_tasks_blocked(0.05)
            assert client.info("commandstats")["cmdstat_ping"]["calls"] == 1


@trio_test
async def test_a_disk_does_not_need_a_proof(redis: RedisProcess, name: str) -> None:
    async with node_behind_proxy(redis, "disk") as (node, _):
        await registered(node, name)
        with redis.client() as client:
            client.config_resetstat()
            await node.say(name, "m1")
            await wait_all_tasks_blocked(0.05)
            assert "cmdstat_ping" not in client.info("commandstats")


# -- a full disk


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process, which only Linux can")
@trio_test
async def test_what_could_not_be_written_is_not_acknowledged(redis: RedisProcess, name: str) -> None:
    """Redis replies to the append whose write fails as if nothing were; it only refuses what comes later."""
    async with node_behind_proxy(redis, "process") as (node, proxy):
        await registered(node, name)
        answers = Answers(node, name)
        fill_disk(redis)
        answers.append(1)
        await answers.wait_all()
        await proxy.wait_passed(APPENDED)
        assert isinstance(answers.results[0], Unavailable)
        assert [entry.prev for entry in await node.read(name, START)] == [START]  # reading goes on
        make_room(redis)
        again = Answers(node, name)
        again.append(1)
        await again.wait_all()
        repeat = again.results[0]
        assert isinstance(repeat, Appended)
        assert repeat.prev is None
    redis.kill()
    redis.start()
    with deployment_at(redis.url) as oracle:
        assert [at for at, _ in oracle.log(name)] == [repeat.at]


def fill_disk(redis: RedisProcess) -> None:
    """Nothing can be appended any more."""
    resource.prlimit(redis.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))


def make_room(redis: RedisProcess) -> None:
    """Returns when Redis has noticed."""
    resource.prlimit(redis.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with redis.client() as client:
        wait_until(lambda: client.info("persistence")["aof_last_write_status"] == "ok", "the file is written again")
