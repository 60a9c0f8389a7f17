"""The report of a scenario as a page: plots over time, the bottleneck in a paragraph, all figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from imswarm.plot import Axis, Curve, Panel, drawing, html_page, table
from imswarm.report import Report, flat, readable

_MOST_CURVES = 8
_WRONG = ("lost", "duplicated", "reordered", "errors")
_APART = ("timeline", "bottleneck", "about")


def page(report: Report) -> str:
    timeline: Sequence[Mapping[str, Any]] = report["timeline"]
    wrong = {name: report[name] for name in _WRONG if report[name]}
    verdict = f"Wrong: {wrong}" if wrong else "No message was lost, doubled or reordered, and there was no error."
    rest = {name: value for name, value in report.items() if name not in _APART}
    body = (
        f"<p>{escape(report['about'])}</p>",
        f'<p class="{"bad" if wrong else "good"}"><strong>{escape(verdict)}</strong></p>',
        f"<p>{escape(report['bottleneck']['text'])}</p><p><small>{escape(report['bottleneck']['rule'])}</small></p>",
        drawing(_panels(timeline), Axis(0.0, max(timeline[-1]["s"], 1.0))),
        f"<h2>Figures</h2>{table((name, readable(value)) for name, value in flat(rest))}",
    )
    return html_page(f"imswarm {report['scenario']}", "\n".join(body))


def _panels(timeline: Sequence[Mapping[str, Any]]) -> list[Panel]:
    def curve(name: str, *path: str, scale: float = 1.0) -> Curve:
        return Curve(name, [(sample["s"], _at(sample, path, scale)) for sample in timeline])

    most = max(sample["sessions"] for sample in timeline)

    def per_session(name: str, key: str) -> Curve:
        """Where half of them are there at least: of a few it would show what an empty server takes."""
        kept = [sample for sample in timeline if sample[key] and sample["sessions"] > most / 2]
        return Curve(name, [(sample["s"], sample[key] / sample["sessions"] / 1000) for sample in kept])

    panels = [
        Panel("", [curve("sessions", "sessions")]),
        Panel("/s", [curve("messages sent", "sent_per_s"), curve("deliveries", "deliveries_per_s")]),
        Panel(" ms", [curve(f"latency {p}", "latency_ms", p) for p in ("p50", "p99", "max")], logarithmic=True),
        Panel(" %", [curve(name, "cores", name, scale=100) for name in _busiest(timeline)]),
        Panel(
            " KB",
            [per_session("workers, per session", "server_bytes"), per_session("store, per session", "redis_bytes")],
        ),
        Panel("/s", [curve("commands of the store", "redis_commands_per_s")]),
    ]
    if any(sample.get("presence_told_per_s") for sample in timeline):
        panels.insert(3, Panel("/s", [curve("presence told", "presence_told_per_s")]))
        told = [curve(f"presence {p}", "presence_ms", p) for p in ("p50", "p99", "max")]
        panels.insert(4, Panel(" ms", told, logarithmic=True))
    return panels


def _at(sample: Mapping[str, Any], path: Sequence[str], scale: float) -> float | None:
    value: Any = sample
    for name in path:
        value = None if value is None else value.get(name)
    return None if value is None else value * scale


def _busiest(timeline: Sequence[Mapping[str, Any]]) -> list[str]:
    """The processes that used most, as many as can be told apart, in the order of their names."""
    sums: dict[str, float] = {}
    for sample in timeline:
        for name, cores in sample["cores"].items():
            sums[name] = sums.get(name, 0.0) + cores
    return sorted(sorted(sums, key=lambda name: -sums[name])[:_MOST_CURVES])
