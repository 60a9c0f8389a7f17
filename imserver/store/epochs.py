"""Whether a shard may have lost what it acknowledged last.

Replication is asynchronous: a replica that takes its primary's place may lack the newest writes. What it has is a
prefix of them, so what is lost are the newest entries of logs, with their places in the dedupe index. Then the *epoch*
of the shard ends and another begins: those who sent what may be lost send it again (docs/decisions/0012-epochs.md).

Redis gives each history of writes a replication id. A promoted replica gives its own a new one and keeps the old one as
the second; an instance that starts again from its own append-only file has a new one and no second. The id of a
cluster's configuration (its config epoch) would tell less: it also changes when slots move, and a single instance with
a replica has none.

Pure; `redis_handshake` asks, before anything is written on a link.
"""

from typing import NamedTuple

from imserver.store.calls import Packed, pack
from imserver.store.partitions import tags

# For so long a client keeps what was confirmed, to send it again. Longer than most failovers take, and what a replica
# lags behind; far shorter than `dedupe_seconds` may sensibly be.
RESEND_SECONDS = 60
# Clocks of two clients, or of client and store, run at speeds that differ by less than this in that time.
_SKEW_SECONDS = 5
IN_DOUBT_SECONDS = float(RESEND_SECONDS + _SKEW_SECONDS)  # after the beginning of an epoch


class Lineage(NamedTuple):
    """What an instance says of itself in INFO."""

    run_id: bytes  # of the process
    role: bytes
    replid: bytes  # of the history of writes; empty: it doesn't tell
    is_promoted: bool  # another instance wrote the beginning


class Epoch(NamedTuple):
    """`id` is empty where the instance tells nothing."""

    id: bytes
    age_seconds: float


UNKNOWN = Epoch(b"", float("inf"))


def lineage_of(information: bytes) -> Lineage:
    """From the sections `server` and `replication` of INFO."""
    found = dict(line.split(b":", 1) for line in information.split(b"\r\n") if b":" in line)
    second = found.get(b"master_replid2", b"")
    return Lineage(
        found.get(b"run_id", b""), found.get(b"role", b""), found.get(b"master_replid", b""), bool(second.strip(b"0"))
    )


def is_another(known: Epoch, epoch: Epoch) -> bool:
    """Whether what was acknowledged in the epoch `known` may be lost."""
    return bool(known.id and epoch.id) and known.id != epoch.id


def epoch_key(first_partition: int) -> bytes:
    """That of a shard lies in the first of its partitions."""
    return b"{%b}epoch" % tags()[first_partition]


def ask(key: bytes, lineage: Lineage) -> Packed:
    return pack(b"FCALL", b"im_epoch_2", 1, key, lineage.replid, b"promoted" if lineage.is_promoted else b"same")


def answered(reply: list[bytes]) -> Epoch:
    return Epoch(reply[0], int(reply[1]) / 1000)
