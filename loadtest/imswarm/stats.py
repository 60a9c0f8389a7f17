"""Counts and latencies of one client process; the parent adds those of all processes up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace

_SUB_BITS = 6
_MAX_MICROSECONDS = (1 << 32) - 1


def _bucket(microseconds: int) -> int:
    """Exact below 128 µs; above it 64 buckets for each power of two, hence within 1.6 %."""
    shift = microseconds.bit_length() - _SUB_BITS - 1
    return microseconds if shift <= 0 else (shift << _SUB_BITS) + (microseconds >> shift)


def _middle(bucket: int) -> float:
    """The middle of a bucket, in microseconds."""
    shift = max((bucket >> _SUB_BITS) - 1, 0)
    low = (bucket - (shift << _SUB_BITS)) << shift
    return low + ((1 << shift) - 1) / 2


_BUCKETS = _bucket(_MAX_MICROSECONDS) + 1


@dataclass(slots=True)
class Histogram:
    """Latencies in fixed buckets: recording costs the same and takes the same room for ever."""

    counts: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    max_ns: int = 0

    def record(self, nanoseconds: int) -> None:
        """Count one latency; more than 71 minutes counts as 71 minutes (`max_ns` stays exact)."""
        bucket = _bucket(nanoseconds // 1000)
        self.counts[bucket if bucket < _BUCKETS else -1] += 1
        if nanoseconds > self.max_ns:  # noqa: PLR1730 - a call of max() for every message costs more
            self.max_ns = nanoseconds

    def __add__(self, other: Histogram) -> Histogram:
        counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Histogram(counts, max(self.max_ns, other.max_ns))

    def percentile_ms(self, percent: float) -> float | None:
        """The latency in milliseconds that `percent` of those recorded do not exceed.

        None if nothing was recorded.
        """
        rank = self.count * percent / 100
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= rank:
                return min(_middle(bucket) / 1000, self.max_ns / 1e6)
        return None

    @property
    def count(self) -> int:
        return sum(self.counts)

    def summary_ms(self) -> dict[str, float | None]:
        """p50, p90, p99 and max in milliseconds; None where nothing was recorded."""
        summary = {f"p{percent}": self.percentile_ms(percent) for percent in (50, 90, 99)}
        return {**summary, "max": self.max_ns / 1e6 if any(self.counts) else None}


@dataclass(slots=True)
class Tally:
    """What happened since the last `take`.

    `shown`, `shown_offline`: how often a contact was shown to be there, or not to be.

    Latency is delivery minus sending; lateness is how long after its due time the generator
    itself sent a message (open loop only). `turned_away` were told at login to come back later,
    and did. Of sessions that come back: `entry` is from connecting to `synced`, `presence` from
    when a change was due until a contact was told; `waited` were delivered and count in no
    latency, since they were due while their recipient was out; `stray` belong to no conversation
    of this run; `shed` was refused because the server had too much to do.
    """

    logged_in: int = 0
    sent: int = 0
    answered: int = 0
    delivered: int = 0
    keepalives: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    shown: int = 0
    shown_offline: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    turned_away: int = 0
    waited: int = 0
    stray: int = 0
    presence_changes: int = 0
    departures: int = 0
    shed: int = 0
    entry: Histogram = field(default_factory=Histogram)
    presence: Histogram = field(default_factory=Histogram)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in _PARTS))

    def take(self) -> Tally:
        """Everything counted so far; this one starts again from zero.

        In place, because every session keeps a reference to it.
        """
        taken, fresh = replace(self), Tally()
        for name in _PARTS:
            setattr(self, name, getattr(fresh, name))
        return taken


_PARTS = tuple(part.name for part in fields(Tally))
