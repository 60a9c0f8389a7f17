"""Every metric: name, meaning and kind stand here and nowhere else.

A worker counts in plain integers (`counters.messages_in += 1` is all the hot path pays) and is asked for a `Statistics`
only when somebody looks. The supervisor adds them up, and `exposition` makes text of them for Prometheus.
"""

# ruff: noqa: RUF009 - the functions called in the rows of Counters return dataclasses.field(), as the rule wants it

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

CALL_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0)
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Histogram:
    """Counts observations into fixed buckets; an upper bound belongs to its bucket, as in Prometheus."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last one: above every bound
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


def _count(meaning: str) -> Any:
    return field(default=0, metadata={"meaning": meaning})


def _labelled(label: str, meaning: str) -> Any:
    return field(default_factory=dict, metadata={"meaning": meaning, "label": label})


def _buckets(bounds: Sequence[float], meaning: str) -> Any:
    return field(default_factory=lambda: Histogram(bounds), metadata={"meaning": meaning, "bounds": bounds})


@dataclass(slots=True)
class Counters:
    """What one worker counts. The rows of this class are the table of its metrics."""

    messages_in: int = _count("Messages that clients asked to send.")
    messages_out: int = _count("Log entries forwarded to sessions, live and from the backlog.")
    frames_in: int = _count("Frames received, whatever their kind.")
    bytes_in: int = _count("Bytes received from clients.")
    bytes_out: int = _count("Bytes sent to clients.")
    batches: int = _count("Turns of the reactor that had something to do.")
    batch_sockets: int = _count("Ready sockets, summed over all turns.")
    client_writes: int = _count("Writes to clients: each of all that a turn had for one of them, replies included.")
    store_calls: int = _count("Calls made to the store.")
    store_flushes: int = _count("Writes to the store's links; calls divided by this is how well they pipeline.")
    store_errors: int = _count("Calls that the store refused.")
    log_reads: int = _count("Reads of a log: after a gap, and for the backlog.")
    gaps: int = _count("Live entries that did not follow what was forwarded last, so the log was read.")
    epochs: int = _count("Times that a shard may have lost its newest entries: a replica took its primary's place.")
    regressions: int = _count("Logs that a session found shorter than they had been.")
    duplicates_dropped: int = _count("Live entries that a session had already forwarded.")
    repeats: int = _count("Messages sent again with the same id and stored once.")
    logins: int = _count("Successful logins.")
    sessions_opened: int = _count("Connections accepted.")
    sessions_closed: int = _count("Connections closed.")
    errors: dict[str, int] = _labelled("code", "Errors told to clients.")
    shed: dict[str, int] = _labelled("op", "Commands refused because there was too much to do.")
    logins_refused: dict[str, int] = _labelled(
        "reason", "Clients told to come back later: the line was full (line), the server was (full)."
    )
    byes: dict[str, int] = _labelled("code", "Sessions that the server ended.")
    store_call_seconds: Histogram = _buckets(CALL_SECONDS, "Seconds from a call to its reply, sampled.")
    batch_size: Histogram = _buckets(BATCH_SIZES, "Ready sockets in one turn of the reactor.")

    def shed_command(self, op: str) -> None:
        self.shed[op] = self.shed.get(op, 0) + 1

    def refuse_login(self, reason: str) -> None:
        self.logins_refused[reason] = self.logins_refused.get(reason, 0) + 1

    def snapshot(
        self, *, number: int, node: str, pid: int, ready: bool, why: str, gauges: Mapping[str, float]
    ) -> "Statistics":
        """The present state, to be encoded and sent; shares nothing with these counters.

        `why`: the reason when not `ready`, else "". `gauges` MUST have names from GAUGES only.
        """
        return Statistics(
            number=number,
            node=node,
            pid=pid,
            ready=ready,
            why=why,
            counters={row.name: row.read(self) for row in COUNTS},
            labelled={row.name: dict(row.read(self)) for row in LABELLED},
            gauges=dict(gauges),
            histograms={row.name: HistogramSnapshot.of(row.read(self)) for row in HISTOGRAMS},
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: its name, what it means, and its label if it has one."""

    name: str
    meaning: str
    label: str = ""
    bounds: tuple[float, ...] = ()
    combine: Callable[[Iterable[float]], float] = sum  # of a gauge of several workers

    def read(self, counters: Counters) -> Any:
        return getattr(counters, self.name)


def _rows(kind: type) -> tuple[Row, ...]:
    return tuple(Row(column.name, **column.metadata) for column in fields(Counters) if column.type == kind)


COUNTS = _rows(int)
LABELLED = _rows(dict[str, int])
HISTOGRAMS = _rows(Histogram)
GAUGES = (
    Row("sessions", "Connections open now."),
    Row("tcp_sessions", "Connections open now over TCP."),
    Row("websocket_sessions", "Connections open now over WebSocket."),
    Row("groups_followed", "Groups that have a follower here now."),
    Row("store_in_flight", "Calls without a reply yet."),
    Row(
        "overload_level",
        "What is shed: 0 nothing, 1 typing, 2 presence, 3 markers, 4 history, 5 logins; of all workers the most.",
        combine=max,
    ),
    Row("logins_waiting", "Logins in line."),
    Row("ready", "1 while delivery is proven to work. Over all workers: how many of them."),
)

# What the supervisor knows by itself.
INFO = Row("info", "Always 1; the label tells the version.", label="version")
START_TIME = Row("start_time_seconds", "When the server was started, in Unix seconds.")
SESSIONS_ALLOWED = Row("sessions_allowed", "Sessions that the limits allow, over all workers.")
STORE_RESTARTS = Row("store_restarts", "How often the embedded store was started again.")
WORKER_UP = Row("worker_up", "1 if the worker answered in time, else 0.", label="worker")
WORKER_RESTARTS = Row("worker_restarts", "How often the worker was started again after a crash.", label="worker")


class HistogramSnapshot(msgspec.Struct):
    """A histogram as it travels: `counts` has one more than `bounds`, the last being above every bound."""

    bounds: list[float]
    counts: list[int]
    sum: float

    @classmethod
    def of(cls, histogram: Histogram) -> "HistogramSnapshot":
        return cls(list(histogram.bounds), list(histogram.counts), histogram.sum)

    def plus(self, other: "HistogramSnapshot") -> "HistogramSnapshot":
        """Other bounds (a worker of another version): the newer ones win, since buckets can't be converted."""
        if self.bounds != other.bounds:
            return other
        counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        return HistogramSnapshot(self.bounds, counts, self.sum + other.sum)


class Statistics(msgspec.Struct):
    """What one worker answers to `{"do":"statistics"}`."""

    number: int
    node: str
    pid: int
    ready: bool
    why: str
    counters: dict[str, int]
    labelled: dict[str, dict[str, int]]
    gauges: dict[str, float]
    histograms: dict[str, HistogramSnapshot]


@dataclass(slots=True)
class Totals:
    """Sums of the statistics of several workers.

    **Invariant: a count over all workers never goes down.** What an ended worker reported last stays in the sum: else
    Prometheus would take the restart of one worker for a reset of the whole server, and invent a burst.
    """

    counters: dict[str, int] = field(default_factory=dict)
    labelled: dict[str, dict[str, int]] = field(default_factory=dict)
    histograms: dict[str, HistogramSnapshot] = field(default_factory=dict)

    def add(self, other: "Statistics | Totals") -> None:
        _add(self.counters, other.counters)
        for name, counts in other.labelled.items():
            _add(self.labelled.setdefault(name, {}), counts)
        for name, histogram in other.histograms.items():
            known = self.histograms.get(name)
            self.histograms[name] = histogram if known is None else known.plus(histogram)


def _add(sums: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        sums[name] = sums.get(name, 0) + count
