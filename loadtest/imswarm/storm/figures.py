"""What the records of a storm mean. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from imswarm.report import Report, per
from imswarm.storm.flow import FlowRecord
from imswarm.storm.process import Record

_KINDS_SHOWN = 20
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the machine's monotonic clock, in nanoseconds.

    `killed`: when it was; `answered`: when the store answered again (None: it was not the store); `recovered`: when
    everybody was live and everything delivered again.
    """

    killed: int
    answered: int | None
    recovered: int


def storm_figures(records: Sequence[Record], moments: Moments) -> Report:
    flows = [flow for record in records for flow in record.flows]
    lost = {number: times for record in records for number, times in record.lost.items()}
    returns = _returns(records, moments.killed)
    return {
        "recovered_s": (moments.recovered - moments.killed) / _SECOND,
        "sessions_lost": len(lost),
        "reconnected_s": _summary([time / _SECOND for time in returns], unit=1),
        **_report_admission(records, returns),
        "delay_ms": {
            "before": _summary(_delays(flows, lambda due, end: end < moments.killed)),
            "during": _summary(_during(flows, moments)),
            "during_both_stayed": _summary(_during([f for f in flows if not _moved(f, lost)], moments)),
            "during_one_moved": _summary(_during([f for f in flows if _moved(f, lost) == 1], moments)),
            "during_both_moved": _summary(_during([f for f in flows if _moved(f, lost) == 2], moments)),
            "after": _summary(_delays(flows, lambda due, end: due > moments.recovered)),
        },
        **_report_store(flows, moments),
        "client_lag_ms": 1000 * max(record.lag for record in records),
        "messages": sum(len(flow.due) for flow in flows),
        "lost": sum(flow.lost for flow in flows),
        "duplicated": sum(flow.duplicated for flow in flows),
        "reordered": sum(flow.reordered for flow in flows),
        **_report_errors(records, flows),
    }


def _returns(records: Sequence[Record], killed: int) -> list[int]:
    """How long after the kill each session that was lost was live again."""
    live = (times for record in records for times in record.live.values())
    return [time - killed for times in live for time in times if time > killed]


def _report_admission(records: Sequence[Record], returns: Sequence[int]) -> Report:
    seconds = (max(returns) - min(returns)) / _SECOND if returns else 0.0
    busiest = Counter(time // _SECOND for time in returns).most_common(1)
    refusals = sum((record.refusals for record in records), Counter())
    return {
        "logins_per_s": per(len(returns), seconds),
        "logins_busiest_s": busiest[0][1] if busiest else 0,
        "attempts": sum(record.attempts for record in records),
        "refusals": dict(refusals.most_common(_KINDS_SHOWN)),
    }


def _moved(flow: FlowRecord, lost: Iterable[int]) -> int:
    """How many of its two sessions had to connect again."""
    return (flow.sender in lost) + (flow.recipient in lost)


def _during(flows: Iterable[FlowRecord], moments: Moments) -> list[float]:
    """Of all that was under way at the kill, or fell due before all was well again."""
    return _delays(flows, lambda due, end: due <= moments.recovered and end >= moments.killed)


def _delays(flows: Iterable[FlowRecord], counts: Callable[[int, int], bool]) -> list[float]:
    """Seconds from the time at which a message was due, whenever its sender could send it."""
    return [
        (delivered - due) / _SECOND
        for flow in flows
        for due, delivered in zip(flow.due, flow.delivered, strict=True)
        if delivered and counts(due, delivered)
    ]


def _report_store(flows: Sequence[FlowRecord], moments: Moments) -> Report:
    """`traffic_back_s`: from the store's first answer until all that was due before it is delivered."""
    answered = moments.answered
    if answered is None:
        return {"store_away_s": None, "first_delivery_s": None, "traffic_back_s": None}
    late = [
        delivered
        for flow in flows
        for due, delivered in zip(flow.due, flow.delivered, strict=True)
        if due <= answered < delivered
    ]
    return {
        "store_away_s": (answered - moments.killed) / _SECOND,
        "first_delivery_s": (min(late) - answered) / _SECOND if late else 0.0,
        "traffic_back_s": (max(late) - answered) / _SECOND if late else 0.0,
    }


def _report_errors(records: Sequence[Record], flows: Sequence[FlowRecord]) -> Report:
    errors = sum((record.errors for record in records), Counter())
    unanswered = sum(len(flow.due) - flow.answered for flow in flows)
    if unanswered:
        errors["sent and never answered"] += unanswered
    return {"errors": errors.total(), "error_kinds": dict(errors.most_common(_KINDS_SHOWN))}


def _summary(seconds: Sequence[float], unit: float = 1000) -> dict[str, float | None]:
    """`unit`: how many of them are a second."""
    ordered = sorted(seconds)
    names = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: unit * ordered[ceil(len(ordered) * share) - 1] if ordered else None for name, share in names.items()}
