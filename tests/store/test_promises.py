"""A store that is not configured for what is promised is refused when a worker starts, with the line to change."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from redis import Redis

from imserver.config import Durability, Settings
from imserver.errors import SetupError
from imserver.observe import log
from imserver.store.durability import hold_to
from imserver.store.embedded import temporary_store
from imserver.store.shards import find_shards
from tests.conftest import required
from tests.store.redis_process import RedisProcess, cluster, replica_of, running

GOOD: dict[Durability, dict[str, str]] = {
    "process": {"appendonly": "yes", "appendfsync": "no"},
    "disk": {"appendonly": "yes", "appendfsync": "always"},
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with running(RedisProcess(required("redis-server"), tmp_path_factory.mktemp("redis"))) as process:
        yield process


@pytest.fixture
def redis(process: RedisProcess) -> Iterator["Redis"]:
    with process.client() as client:
        yield client
        client.config_set("no-appendfsync-on-rewrite", "no")
        client.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def said() -> Iterator[StringIO]:
    """What was logged."""
    stream = StringIO()
    log.configure("warning", stream)
    yield stream
    log.configure("critical")


def configure(redis: "Redis", **options: str) -> None:
    for name, value in options.items():
        redis.config_set(name.replace("_", "-"), value)


def checked(process: RedisProcess, durability: Durability) -> Durability:
    (shard,) = hold_to(find_shards(process.url), durability, warn=True)
    return shard.durability


def refusal(process: RedisProcess, durability: Durability) -> str:
    with pytest.raises(SetupError) as caught:
        checked(process, durability)
    return str(caught.value)


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_a_good_one(process: RedisProcess, redis: "Redis", durability: Durability, said: StringIO) -> None:
    configure(redis, **GOOD[durability])
    assert checked(process, durability) == durability
    assert said.getvalue() == ""


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_without_file(process: RedisProcess, redis: "Redis", durability: Durability) -> None:
    configure(redis, **GOOD[durability] | {"appendonly": "no"})
    assert refusal(process, durability) == (
        f"durability = {durability}: {process.url} has `appendonly no`: a Redis that is killed loses what was "
        "acknowledged. Its configuration needs the line `appendonly yes`"
    )


@pytest.mark.parametrize("appendfsync", ["no", "everysec"])
def test_disk_without_synchronizing(process: RedisProcess, redis: "Redis", appendfsync: str) -> None:
    configure(redis, appendonly="yes", appendfsync=appendfsync)
    assert refusal(process, "disk") == (
        f"durability = disk: {process.url} has `appendfsync {appendfsync}`: a power failure loses what was "
        "acknowledged. Its configuration needs the line `appendfsync always`"
    )


def test_disk_not_during_rewrites(process: RedisProcess, redis: "Redis") -> None:
    configure(redis, **GOOD["disk"], no_appendfsync_on_rewrite="yes")
    assert refusal(process, "disk").endswith("needs the line `no-appendfsync-on-rewrite no`")


def test_everything_wrong_is_told_at_once(process: RedisProcess, redis: "Redis") -> None:
    configure(redis, appendonly="no", appendfsync="no", maxmemory_policy="allkeys-lru")
    lines = refusal(process, "disk").splitlines()
    assert [line.rpartition("the line ")[2] for line in lines] == [
        "`maxmemory-policy noeviction`",
        "`appendonly yes`",
        "`appendfsync always`",
    ]


def test_process_stands_a_synchronizing_store(process: RedisProcess, redis: "Redis") -> None:
    configure(redis, **GOOD["disk"])
    assert checked(process, "process") == "process"


def test_writes_that_are_postponed_are_warned_of(process: RedisProcess, redis: "Redis", said: StringIO) -> None:
    """With `everysec` Redis replies without writing while the disk is busy."""
    configure(redis, appendonly="yes", appendfsync="everysec")
    assert checked(process, "process") == "process"
    assert "has `appendfsync everysec`: Redis postpones writes while the disk is busy" in said.getvalue()
    assert "needs the line `appendfsync no`" in said.getvalue()
    said.truncate(0)
    hold_to(find_shards(process.url), "process", warn=False)  # one worker says it for all
    assert said.getvalue() == ""


def test_a_store_that_may_not_be_asked(process: RedisProcess, redis: "Redis", said: StringIO) -> None:
    configure(redis, appendonly="no")
    redis.execute_command("ACL", "SETUSER", "tenant", "on", ">secret", "~*", "&*", "+@all", "-config")  # type: ignore[no-untyped-call]
    url = process.url.replace("//", "//tenant:secret@")
    (shard,) = hold_to(find_shards(url), "process", warn=True)
    assert shard.durability == "process"
    assert "durability can't be checked" in said.getvalue()
    assert "secret" not in said.getvalue()


def test_a_store_that_is_away(tmp_path: Path) -> None:
    process = RedisProcess(required("redis-server"), tmp_path)
    with running(process):
        shards = find_shards(process.url)
    with pytest.raises(SetupError, match="can't be used"):
        hold_to(shards, "process", warn=True)


def test_replica_needs_a_replica(process: RedisProcess, redis: "Redis", tmp_path: Path) -> None:
    configure(redis, appendonly="yes")
    assert refusal(process, "replica") == (
        f"durability = replica: {process.url} has no replica that is connected. A replica's configuration needs the "
        "line `replicaof HOST PORT`"
    )
    with replica_of(process, tmp_path):
        assert checked(process, "replica") == "replica"


def test_a_primary_without_file_is_warned_of(
    process: RedisProcess, redis: "Redis", tmp_path: Path, said: StringIO
) -> None:
    configure(redis, appendonly="no")
    with replica_of(process, tmp_path):
        assert checked(process, "replica") == "replica"
    assert "killed and started again is empty, and makes its replicas empty, too" in said.getvalue()


def test_every_shard_is_looked_at(tmp_path: Path) -> None:
    with cluster(required("redis-server"), tmp_path) as nodes:
        for node in nodes[:2]:
            with node.client() as client:
                configure(client, **GOOD["process"])
        with pytest.raises(SetupError) as caught:
            hold_to(find_shards(nodes[0].url), "process", warn=True)
        assert str(caught.value).startswith(f"durability = process: {nodes[2].url} has `appendonly no`")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_the_embedded_store_keeps_its_promise(tmp_path: Path, durability: Durability) -> None:
    with temporary_store(Settings(data=str(tmp_path), durability=durability)) as url, Redis.from_url(url) as store:
        assert hold_to(find_shards(url), durability, warn=True)[0].durability == durability
        assert store.config_get("appendfsync") == {"appendfsync": GOOD[durability]["appendfsync"]}


def test_the_default() -> None:
    assert Settings().durability == "process"
