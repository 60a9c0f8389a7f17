"""Where the keys lie. For a deployment that has data none of this may ever change."""

import hashlib
import random
from collections import Counter

from redis.crc import key_slot

from imserver.store.partitions import (
    PARTITIONS,
    SLOTS,
    channel_prefix,
    deployment_key,
    partition_of,
    slot_of_partition,
    tags,
    user_keys,
)

TAGS_SHA256 = "a030b4e6b2c201ae1897b9c9b12d3d2bad5ba1b0adb2b3221f28057db2df8fe9"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def random_names(count: int) -> list[str]:
    """User names as they are allowed, the same in every run."""
    chance = random.Random("names")
    rest = _LETTERS + "._-"
    return [chance.choice(_LETTERS) + "".join(chance.choices(rest, k=chance.randrange(64))) for _ in range(count)]


def test_tags_are_pinned() -> None:
    assert hashlib.sha256(b" ".join(tags())).hexdigest() == TAGS_SHA256


def test_partition_of_a_name_is_pinned() -> None:
    assert [partition_of(name) for name in ("alice", "bob", "#team", "z" * 64)] == [
        key_slot(name.encode()) % PARTITIONS for name in ("alice", "bob", "#team", "z" * 64)
    ]


def test_the_slot_is_the_one_that_redis_computes() -> None:
    assert [slot_of_partition(partition) for partition in range(PARTITIONS)] == [key_slot(tag) for tag in tags()]


def test_each_partition_has_its_band_of_slots() -> None:
    width = SLOTS // PARTITIONS
    assert [slot_of_partition(partition) // width for partition in range(PARTITIONS)] == list(range(PARTITIONS))


def test_shards_get_even_shares() -> None:
    for shards in (2, 3, 5, 16, 64):
        shares = Counter(slot_of_partition(partition) * shards // SLOTS for partition in range(PARTITIONS))
        assert max(shares.values()) - min(shares.values()) <= 2


def test_names_spread_over_partitions() -> None:
    users = Counter(partition_of(f"user{number}") for number in range(PARTITIONS * 20))
    assert len(users) == PARTITIONS
    assert max(users.values()) < 60


def test_all_keys_of_a_user_and_their_channels_share_a_slot() -> None:
    for name in random_names(2_000):
        keys = user_keys(name)
        channel = channel_prefix(keys.partition) + b"0badcafe"
        slots = {key_slot(key) for key in (keys.state, keys.log, keys.account, channel)}
        assert slots == {slot_of_partition(keys.partition)}
        assert len({keys.state, keys.log, keys.account}) == 3


def test_channels_and_deployment_keys_lie_in_their_partition() -> None:
    for partition in range(PARTITIONS):
        assert key_slot(channel_prefix(partition) + b"0badcafe") == slot_of_partition(partition)
    assert key_slot(deployment_key("keys")) == slot_of_partition(0)
