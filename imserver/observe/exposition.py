"""The metrics as text for Prometheus.

    imserver_<name>                        over all workers
    imserver_worker_<name>{worker="0"}     the same, of one worker

Two names instead of one with a label `worker="all"`: a sum over that label would count everything twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from imserver.observe import metrics
from imserver.observe.metrics import Histogram, HistogramSnapshot, Row, Statistics, Totals

CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, seen from the supervisor."""

    number: int
    node: str
    pid: int
    is_alive: bool
    uptime_seconds: float
    restarts: int
    statistics: Statistics | None  # None: it did not answer in time


@dataclass(frozen=True, slots=True)
class ServerView:
    """The whole server, seen from the supervisor."""

    version: str
    started: float  # Unix seconds
    sessions_allowed: int
    store_restarts: int
    workers: Sequence[WorkerView]
    totals: Totals  # of all workers there ever were


def render(view: ServerView) -> bytes:
    """Prometheus text; serve it as CONTENT_TYPE."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(view))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, view: ServerView) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        view = self._view
        answered = [worker.statistics for worker in view.workers if worker.statistics is not None]
        yield from _server(view)
        yield from _workers(view.workers)
        for row in metrics.COUNTS:
            yield from _counts(row, view.totals, answered)
        for row in metrics.LABELLED:
            yield from _labelled(row, view.totals, answered)
        for row in metrics.GAUGES:
            yield from _gauges(row, answered)
        for row in metrics.HISTOGRAMS:
            yield from _histograms(row, view.totals, answered)


def _server(view: ServerView) -> Iterator[Metric]:
    info = _gauge(metrics.INFO)
    info.add_metric([view.version], 1)
    yield info
    for row, value in (
        (metrics.START_TIME, view.started),
        (metrics.SESSIONS_ALLOWED, view.sessions_allowed),
    ):
        gauge = _gauge(row)
        gauge.add_metric([], value)
        yield gauge
    store_restarts = _counter(metrics.STORE_RESTARTS)
    store_restarts.add_metric([], view.store_restarts)
    yield store_restarts


def _workers(workers: Iterable[WorkerView]) -> Iterator[Metric]:
    up, restarts = _gauge(metrics.WORKER_UP), _counter(metrics.WORKER_RESTARTS)
    for worker in workers:
        up.add_metric([str(worker.number)], 0 if worker.statistics is None else 1)
        restarts.add_metric([str(worker.number)], worker.restarts)
    yield up
    yield restarts


def _counts(row: Row, totals: Totals, answered: Iterable[Statistics]) -> Iterator[Metric]:
    whole, each = _counter(row), _counter(row, of_worker=True)
    whole.add_metric([], totals.counters.get(row.name, 0))
    for worker in answered:
        each.add_metric([str(worker.number)], worker.counters.get(row.name, 0))
    yield whole
    yield each


def _labelled(row: Row, totals: Totals, answered: Iterable[Statistics]) -> Iterator[Metric]:
    whole, each = _counter(row), _counter(row, of_worker=True)
    for value, count in totals.labelled.get(row.name, {}).items():
        whole.add_metric([value], count)
    for worker in answered:
        for value, count in worker.labelled.get(row.name, {}).items():
            each.add_metric([str(worker.number), value], count)
    yield whole
    yield each


def _gauges(row: Row, answered: Sequence[Statistics]) -> Iterator[Metric]:
    whole, each = _gauge(row), _gauge(row, of_worker=True)
    whole.add_metric([], row.combine([0.0, *(worker.gauges.get(row.name, 0) for worker in answered)]))
    for worker in answered:
        each.add_metric([str(worker.number)], worker.gauges.get(row.name, 0))
    yield whole
    yield each


def _histograms(row: Row, totals: Totals, answered: Iterable[Statistics]) -> Iterator[Metric]:
    empty = HistogramSnapshot.of(Histogram(row.bounds))
    whole = HistogramMetricFamily(*_name(row))
    each = HistogramMetricFamily(*_name(row, of_worker=True), labels=["worker"])
    _observe(whole, [], totals.histograms.get(row.name, empty))
    for worker in answered:
        _observe(each, [str(worker.number)], worker.histograms.get(row.name, empty))
    yield whole
    yield each


def _observe(family: HistogramMetricFamily, labels: list[str], histogram: HistogramSnapshot) -> None:
    buckets: list[tuple[str, float]] = []
    cumulative = 0
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        cumulative += count
        buckets.append((bound, cumulative))
    family.add_metric(labels, buckets, histogram.sum)


def _name(row: Row, *, of_worker: bool = False) -> tuple[str, str]:
    return f"imserver_{'worker_' if of_worker else ''}{row.name}", row.meaning


def _labels(row: Row, of_worker: bool) -> list[str]:
    return ["worker"] * of_worker + [row.label] * bool(row.label)


def _counter(row: Row, *, of_worker: bool = False) -> CounterMetricFamily:
    return CounterMetricFamily(*_name(row, of_worker=of_worker), labels=_labels(row, of_worker))


def _gauge(row: Row, *, of_worker: bool = False) -> GaugeMetricFamily:
    return GaugeMetricFamily(*_name(row, of_worker=of_worker), labels=_labels(row, of_worker))
