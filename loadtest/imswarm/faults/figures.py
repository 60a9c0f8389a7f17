"""What the run was like for its users: throughput, delay, and when traffic came back after each fault. Pure."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imswarm.evidence import GIVEN_UP, REFUSED, SENT, STORED, Evidence, is_group
from imswarm.stats import Histogram

BIN_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Injury:
    """A fault as it happened. `back_seconds`: after the mending, until every device had got something said later."""

    kind: str
    begin: float
    mended: float
    back_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A quarter of a second. Delays in milliseconds, of what was delivered in it; None if nothing was."""

    time: float
    answered_per_s: float
    delivered_per_s: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    messages: int
    ok: int
    failed: int
    unknown: int
    deliveries: int
    group_messages: int
    delay: Histogram
    moments: tuple[Moment, ...]
    injuries: tuple[Injury, ...]


def figures_of(evidence: Evidence, injuries: Sequence[Injury]) -> Figures:
    """Delay is from the sender's call to the application of each device of the recipient."""
    delay = Histogram()
    bins: dict[int, array[float]] = defaultdict(lambda: array("d"))
    for _, _, sent, delivered in evidence.delayed():
        delay.record(max(int((delivered - sent) * 1e9), 0))
        bins[int(delivered / BIN_SECONDS)].append(delivered - sent)
    outcomes = evidence.messages.outcome
    return Figures(
        messages=len(evidence.messages),
        ok=outcomes.count(STORED),
        failed=outcomes.count(REFUSED),
        unknown=outcomes.count(GIVEN_UP) + outcomes.count(SENT),
        group_messages=sum(map(is_group, evidence.messages.to)),
        deliveries=sum(len(log) for logs in evidence.deliveries for log in logs.values()),
        delay=delay,
        moments=_moments(evidence, bins),
        injuries=_with_recovery(evidence, injuries),
    )


def _moments(evidence: Evidence, delays: dict[int, array[float]]) -> tuple[Moment, ...]:
    answers: dict[int, int] = defaultdict(int)
    for time, outcome in zip(evidence.messages.answer_time, evidence.messages.outcome, strict=True):
        if outcome == STORED:
            answers[int(time / BIN_SECONDS)] += 1
    numbers = answers.keys() | delays.keys()
    if not numbers:
        return ()
    return tuple(
        _moment(number, answers.get(number, 0), sorted(delays.get(number, ())))
        for number in range(min(numbers), max(numbers) + 1)
    )


def _moment(number: int, answers: int, delays: Sequence[float]) -> Moment:
    def percentile_ms(share: float) -> float | None:
        return delays[int((len(delays) - 1) * share)] * 1000 if delays else None

    return Moment(
        time=number * BIN_SECONDS,
        answered_per_s=answers / BIN_SECONDS,
        delivered_per_s=len(delays) / BIN_SECONDS,
        p50_ms=percentile_ms(0.5),
        p99_ms=percentile_ms(0.99),
    )


def _with_recovery(evidence: Evidence, injuries: Sequence[Injury]) -> tuple[Injury, ...]:
    """In the order in which they began; they may be mended in another."""
    mended = sorted(injuries, key=lambda injury: injury.mended)
    came_back: dict[int, list[float]] = defaultdict(list)  # by device: when, for the first ones mended
    for device, _, sent, delivered in evidence.delayed():
        times = came_back[device]
        while len(times) < len(mended) and mended[len(times)].mended <= sent:
            times.append(delivered)
    recovered = [
        replace(injury, back_seconds=_last(number, list(came_back.values()), injury.mended))
        for number, injury in enumerate(mended)
    ]
    return tuple(sorted(recovered, key=lambda injury: injury.begin))


def _last(number: int, came_back: Sequence[Sequence[float]], mended: float) -> float | None:
    """None where some device never got anything that was said after it."""
    if not came_back or any(number >= len(times) for times in came_back):
        return None
    return max(times[number] for times in came_back) - mended
