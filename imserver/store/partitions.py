"""Which shard holds what: user -> partition -> hash tag -> cluster slot.

A deployment has 1024 partitions for its whole life. A user's partition follows from the name alone; all keys of one
user carry the tag of its partition, so they share a slot and one function can change them together. The tags are chosen
so that partition p lies in the cluster slots 16p to 16p+15: however slots are shared out in ranges, every shard gets
its even share (tags like {0}, {1}, ... left half the shards of a peer idle).

**Invariant:** nothing here may ever change for a deployment that has data; tests/store/test_partitions.py pins it.
"""

import re
from binascii import crc_hqx  # CRC-16/XMODEM with a start of 0: the very checksum Redis Cluster uses for slots
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple

PARTITIONS = 1024
SLOTS = 16384
_BAND = SLOTS // PARTITIONS
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TAG = re.compile(rb"\{([0-9a-z]{3})\}")


@cache
def tags() -> tuple[bytes, ...]:
    """The hash tag of each partition: for each band of slots the first word of three digits that falls into it."""
    found: dict[int, bytes] = {}
    for word in product(_DIGITS, repeat=3):
        tag = "".join(word).encode()
        found.setdefault(crc_hqx(tag, 0) % SLOTS // _BAND, tag)
        if len(found) == PARTITIONS:
            break
    return tuple(found[partition] for partition in range(PARTITIONS))


@cache
def _by_tag() -> dict[bytes, int]:
    return {tag: partition for partition, tag in enumerate(tags())}


def partition_of_call(command: bytes) -> int | None:
    """The partition that a packed command concerns, by the tag of its first key. None: it has no key."""
    found = _TAG.search(command)  # nothing that comes before the keys has braces
    return None if found is None else _by_tag().get(found[1])


def partition_of(name: str) -> int:
    """The partition of a user or a group."""
    return crc_hqx(name.encode(), 0) % PARTITIONS


def slot_of_partition(partition: int) -> int:
    """The cluster slot that holds all keys and channels of a partition."""
    return crc_hqx(tags()[partition], 0) % SLOTS


def _expiring(state: bytes) -> bytes:
    return state.replace(b"}u:", b"}e:", 1)


class UserKeys(NamedTuple):
    """The keys of one user, all in one slot.

    state    hash: `last` position, `on` (who is connected where), `c:<device>` cursors, `<user>/<device>/<id>` dedupe
    log      stream: the user's log
    account  hash: password hash, creation time, disabled, devices, token generations
    roster   hash: contacts and blocks; versions  sorted set: the version of each
    groups   hash: group -> where the membership began; cursors of the devices in the groups' logs
    packed   state and log, packed as arguments of a call: made with every message, the same for all

    A group has state, log and packed in the same form, under its own name; what else it has is in GroupKeys.
    """

    partition: int
    state: bytes
    log: bytes
    account: bytes
    roster: bytes
    versions: bytes
    groups: bytes
    packed: bytes

    @property
    def conversations(self) -> bytes:
        """Hash: marks and switches of each. Made when it is asked for, seldom; the others are kept by thousands."""
        return self.state.replace(b"}u:", b"}c:", 1)

    @property
    def changes(self) -> bytes:
        """Sorted set: the version of each conversation."""
        return self.state.replace(b"}u:", b"}d:", 1)

    @property
    def waiting(self) -> bytes:
        """Hash: messages that are to be said later."""
        return self.state.replace(b"}u:", b"}w:", 1)

    @property
    def expiring(self) -> bytes:
        """Sorted set: when entries of the log expire."""
        return _expiring(self.state)


@lru_cache(maxsize=65536)
def user_keys(user: str) -> UserKeys:
    """The keys of `user`, kept for those seen lately: they are asked for with every message."""
    partition = partition_of(user)
    tag, name = tags()[partition], user.encode()
    state, log, account, roster, versions, groups = (
        b"{%b}%b:%b" % (tag, kind, name) for kind in (b"u", b"l", b"a", b"k", b"v", b"g")
    )
    packed = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(state), state, len(log), log)
    return UserKeys(partition, state, log, account, roster, versions, groups, packed)


class GroupKeys(NamedTuple):
    """The keys of one group, all in one slot.

    state    hash: as a user's, and what the group is called; `on` has the nodes that host followers
    log      stream: the group's log
    members  hash: user -> standing
    packed   all three, packed as arguments of a call
    """

    partition: int
    state: bytes
    log: bytes
    members: bytes
    packed: bytes

    @property
    def expiring(self) -> bytes:
        """Sorted set: as a user's."""
        return _expiring(self.state)


@lru_cache(maxsize=16384)
def group_keys(group: str) -> GroupKeys:
    """The keys of `group`, kept for those seen lately."""
    keys = user_keys(group)
    members = b"{%b}m:%b" % (tags()[keys.partition], group.encode())
    packed = b"%b$%d\r\n%b\r\n" % (keys.packed, len(members), members)
    return GroupKeys(keys.partition, keys.state, keys.log, members, packed)


def channel_prefix(partition: int) -> bytes:
    """Of the channels on which entries of a partition are published: a node's id completes it."""
    return b"{%b}n:" % tags()[partition]


def due_key(partition: int) -> bytes:
    """Sorted set: when each waiting message of the partition is due."""
    return b"{%b}due" % tags()[partition]


class Hosting(NamedTuple):
    """The users of one partition who have a session at one node; their set lies under `key`."""

    partition: int
    node: bytes

    @property
    def key(self) -> bytes:
        return b"{%b}h:%b" % (tags()[self.partition], self.node)


class LeaseKeys(NamedTuple):
    """Of one shard.

    nodes  sorted set: node -> when its lease ends (ms, the store's clock)
    infos  hash: node -> what it says of itself
    """

    nodes: bytes
    infos: bytes


def lease_keys(first_partition: int) -> LeaseKeys:
    """Those of a shard lie in the first of its partitions."""
    tag = tags()[first_partition]
    return LeaseKeys(b"{%b}nodes" % tag, b"{%b}infos" % tag)


def deployment_key(name: str) -> bytes:
    """A key that belongs to the deployment, not to a user (token keys): few and small, in partition 0."""
    return b"{%b}%b" % (tags()[0], name.encode())
