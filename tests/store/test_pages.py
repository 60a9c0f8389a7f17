"""Many logs read at once over one link: few pages are under way at a time, and everybody gets an answer."""

from collections.abc import Iterator

import pytest
import trio
from trio.testing import trio_test

from imserver.errors import ImError
from imserver.model import START, Entry, UserId
from imserver.store.pages import AT_ONCE
from imserver.store.partitions import PARTITIONS
from imserver.store.shards import Shard
from imserver.store.store import NOBODY
from tests.conftest import required
from tests.store.node import PATIENCE_SECONDS, Node, message, opened, serving
from tests.store.proxy import proxied
from tests.store.redis_process import RedisProcess, running

_READERS = 50


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with running(RedisProcess(required("redis-server"), tmp_path_factory.mktemp("redis"))) as process:
        yield process


class Readers:
    """So many that read one log, all in one turn; and what came, in its order."""

    def __init__(self, node: Node, log: str) -> None:
        self.answers: list[str] = []
        self.most_under_way = 0
        self._node, self._log = node, log
        self._more = trio.Event()

    def read(self) -> None:
        with self._node.reactor.batch():
            for _ in range(_READERS):
                self._node.store.read(UserId(self._log), START, 10, self._on_page)
            self.most_under_way = self._node.store.in_flight

    def note(self, answer: str) -> None:
        self.answers.append(answer)
        self._more.set()

    def _on_page(self, page: list[Entry] | ImError) -> None:
        self.most_under_way = max(self.most_under_way, self._node.store.in_flight)
        self.note("error" if isinstance(page, ImError) else f"{len(page)} entries")

    async def wait(self, count: int) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while len(self.answers) < count:
                self._more = trio.Event()
                await self._more.wait()


async def said_twice(node: Node, log: str) -> None:
    await node.store.accounts.register(UserId(log), "hash")
    for number in range(2):
        await node.say(log, f"m{number}")


@trio_test
async def test_a_message_does_not_wait_for_all_who_read(redis: RedisProcess, name: str) -> None:
    async with opened(redis.url, "node") as node:
        await said_twice(node, name)
        readers, what = Readers(node, name), message("someone", name, "late")
        readers.read()
        node.store.append(name, what.dedupe, what.content, NOBODY, lambda answer: readers.note("stored"))
        await readers.wait(_READERS + 1)
    assert readers.most_under_way <= AT_ONCE + 1
    assert readers.answers.index("stored") <= 2 * AT_ONCE
    pages = [answer for answer in readers.answers if answer != "stored"]
    assert pages == sorted(pages) == [*filter("2 entries".__eq__, pages), *filter("3 entries".__eq__, pages)]


@trio_test
async def test_who_waits_when_the_link_is_lost_is_read_when_it_is_back(redis: RedisProcess, name: str) -> None:
    async with proxied(redis.port) as proxy:
        shards = [Shard(proxy.url, list(range(PARTITIONS)), clustered=False)]
        async with serving(Node(shards, "node")) as node:
            await said_twice(node, name)
            readers = Readers(node, name)
            proxy.cut_after("from_redis", 300)
            readers.read()
            await readers.wait(_READERS)
    assert readers.answers == ["2 entries"] * _READERS
    assert proxy.connections > 1


@trio_test
async def test_nobody_waits_longer_for_a_store_that_does_not_answer(redis: RedisProcess, name: str) -> None:
    """Whoever waits in line hears of it with the next time-out, not four at a time."""
    async with proxied(redis.port) as proxy:
        shards = [Shard(proxy.url, list(range(PARTITIONS)), clustered=False)]
        async with serving(Node(shards, "node", timeout_seconds=1.0)) as node:
            await said_twice(node, name)
            readers = Readers(node, name)
            proxy.stall()
            readers.read()
            now = node.reactor.now
            for late in (2.0, 4.0):
                node.store.tick(now + late)
            await readers.wait(_READERS)
            proxy.resume()
    assert readers.answers == ["error"] * _READERS
