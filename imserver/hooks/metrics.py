"""What is counted of each hook, and the page for Prometheus. All names stand here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


def _count(meaning: str) -> Any:
    return field(default=0, metadata={"meaning": meaning})


@dataclass(slots=True)
class HookCounters:
    """What one hook counts. The rows are the table of its metrics: imserver_hook_<name>{hook="..."}."""

    posts: int = _count("POSTs, repeats among them.")
    delivered: int = _count("Entries that the endpoint has taken.")
    skipped: int = _count("Entries that the hook does not want.")
    given_up: int = _count("Entries that were given up after give_up_seconds.")
    replies: int = _count("Replies of the endpoint that were sent.")
    replies_refused: int = _count("Replies of the endpoint that could not be sent.")
    lost: int = _count("Times that the server no longer had what the hook had not read yet.")
    sessions_lost: int = _count("Sessions with the server that ended by an error.")
    failures: dict[str, int] = field(
        default_factory=dict, metadata={"meaning": "POSTs that failed.", "label": "reason"}
    )

    def fail(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class HookView:
    """One hook at this moment. `failing_seconds`: since when no POST has succeeded; 0: they do."""

    name: str
    counters: HookCounters
    is_connected: bool
    is_parked: bool
    failing_seconds: float


GAUGES: tuple[tuple[str, str, Callable[[HookView], float]], ...] = (
    ("connected", "1 while the hook has a session with the server.", lambda view: view.is_connected),
    ("parked", "1 while the endpoint has failed for so long that it is tried rarely.", lambda view: view.is_parked),
    ("failing_seconds", "For how long no POST has succeeded.", lambda view: view.failing_seconds),
)


def render(views: Sequence[HookView]) -> bytes:
    """Prometheus text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(views))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, views: Sequence[HookView]) -> None:
        self._views = views

    def collect(self) -> Iterator[Metric]:
        for row in fields(HookCounters):
            yield self._counter(row)
        for name, meaning, read in GAUGES:
            gauge = GaugeMetricFamily(f"imserver_hook_{name}", meaning, labels=["hook"])
            for view in self._views:
                gauge.add_metric([view.name], read(view))
            yield gauge

    def _counter(self, row: "Field[Any]") -> Metric:
        label = row.metadata.get("label")
        labels = ["hook", label] if label else ["hook"]
        family = CounterMetricFamily(f"imserver_hook_{row.name}", row.metadata["meaning"], labels=labels)
        for view in self._views:
            counted = getattr(view.counters, row.name)
            if label:
                for value, count in counted.items():
                    family.add_metric([view.name, value], count)
            else:
                family.add_metric([view.name], counted)
        return family
