"""The page that shows a run: faults, throughput and delay over time. One file, nothing to be fetched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from imswarm.faults.figures import Figures, Injury, Moment

_LEFT, _WIDTH, _RIGHT = 70, 1000, 20
_FAULTS_HEIGHT, _PANEL_HEIGHT, _GAP = 110, 180, 34
_LANES = 5
_TICKS = 10
_LEAST_MS = 1.0
_GOOD = "No message was lost, doubled, reordered, invented or disputed; nobody was shown wrongly to contacts."

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>imswarm faults</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 14px/1.5 system-ui, sans-serif; max-width: 1120px; margin: 2em auto; padding: 0 1em; }}
svg {{ width: 100%; height: auto; }} svg text {{ font: 11px system-ui, sans-serif; fill: currentColor; }}
.grid {{ stroke: currentColor; stroke-opacity: .15; }} .fault {{ fill: #d64545; fill-opacity: .28; }}
.line {{ fill: none; stroke-width: 1.4; }} .one {{ stroke: #1f77b4; }} .two {{ stroke: #e08a00; }}
.one-name {{ fill: #1f77b4; }} .two-name {{ fill: #e08a00; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .15em .8em .15em 0; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }} pre {{ overflow-x: auto; }}
.good {{ color: #2a8a3e; }} .bad {{ color: #d64545; }}
</style></head><body><h1>imswarm faults</h1><p class="{mood}"><strong>{verdict}</strong></p>
{drawing}
<h2>Figures</h2><table>{figures}</table>
<h2>Faults</h2>
<table><tr><th>fault</th><th>at, s</th><th>lasted, s</th><th>traffic back after, s</th></tr>{faults}</table>
{complaints}
</body></html>
"""

Point = tuple[float, float]


def page(figures: Figures, table: Iterable[tuple[str, str]], complaints: Iterable[str], count: int) -> str:
    """The HTML. `table`: names and values to show; `count`: all that is wrong, of which `complaints` tell some."""
    begin = figures.moments[0].time if figures.moments else 0.0
    return _PAGE.format(
        mood="bad" if count else "good",
        verdict=f"Wrong: {count:,}" if count else _GOOD,
        drawing=_drawing(figures, begin),
        figures="".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in table),
        faults="".join(_fault_row(injury, begin) for injury in figures.injuries),
        complaints="".join(f"<pre>{escape(complaint)}</pre>" for complaint in complaints),
    )


def _fault_row(injury: Injury, begin: float) -> str:
    back = "-" if injury.back_seconds is None else f"{injury.back_seconds:.2f}"
    cells = (escape(injury.kind), f"{injury.begin - begin:.1f}", f"{injury.mended - injury.begin:.2f}", back)
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _drawing(figures: Figures, begin: float) -> str:
    moments = figures.moments
    seconds = max(moments[-1].time - begin, 1.0) if moments else 1.0
    panels_top = _FAULTS_HEIGHT
    height = panels_top + 2 * (_PANEL_HEIGHT + _GAP)

    def x_of(time: float) -> float:
        return _LEFT + (time - begin) / seconds * _WIDTH

    parts = [
        *_fault_marks(figures.injuries, x_of, height - _GAP),
        *_throughput(moments, x_of, panels_top),
        *_delays(moments, x_of, panels_top + _PANEL_HEIGHT + _GAP),
        *_time_axis(seconds, x_of, begin, height - 12),
    ]
    return f'<svg viewBox="0 0 {_LEFT + _WIDTH + _RIGHT} {height}" role="img">{"".join(parts)}</svg>'


def _fault_marks(injuries: Sequence[Injury], x_of: Callable[[float], float], bottom: float) -> Iterable[str]:
    for number, injury in enumerate(injuries):
        left = x_of(injury.begin)
        width = max(x_of(injury.mended) - left, 2.0)
        top = 18 + number % _LANES * 18
        title = f"<title>{escape(injury.kind)}</title>"
        yield f'<rect class="fault" x="{left:.1f}" y="{top - 10}" width="{width:.1f}" height="{bottom - top + 10:.0f}">'
        yield f'{title}</rect><text x="{left + 2:.1f}" y="{top}">{escape(injury.kind)}</text>'


def _throughput(moments: Sequence[Moment], x_of: Callable[[float], float], top: float) -> Iterable[str]:
    most = max((max(moment.answered_per_s, moment.delivered_per_s) for moment in moments), default=1.0) or 1.0

    def y_of(rate: float) -> float:
        return top + _PANEL_HEIGHT * (1 - rate / most)

    for share in (0.0, 0.5, 1.0):
        yield _level(y_of(share * most), f"{share * most:,.0f}/s")
    yield _curve([(x_of(moment.time), y_of(moment.delivered_per_s)) for moment in moments], "two")
    yield _curve([(x_of(moment.time), y_of(moment.answered_per_s)) for moment in moments], "one")
    yield _legend(top, "messages answered", "deliveries to recipients")


def _delays(moments: Sequence[Moment], x_of: Callable[[float], float], top: float) -> Iterable[str]:
    most = max((moment.p99_ms or 0.0 for moment in moments), default=0.0)
    decades = max(math.ceil(math.log10(max(most, 10.0) / _LEAST_MS)), 1)

    def y_of(milliseconds: float) -> float:
        return top + _PANEL_HEIGHT * (1 - math.log10(max(milliseconds, _LEAST_MS) / _LEAST_MS) / decades)

    for decade in range(decades + 1):
        yield _level(y_of(_LEAST_MS * 10**decade), f"{_LEAST_MS * 10**decade:,.0f} ms")
    for stretch in _stretches(moments):
        yield _curve([(x_of(time), y_of(p99_ms)) for time, _, p99_ms in stretch], "two")
        yield _curve([(x_of(time), y_of(p50_ms)) for time, p50_ms, _ in stretch], "one")
    yield _legend(top, "median delay", "99th percentile")


def _stretches(moments: Sequence[Moment]) -> list[list[tuple[float, float, float]]]:
    """Time, median and 99th percentile; a new list after every moment in which nothing was delivered."""
    stretches: list[list[tuple[float, float, float]]] = [[]]
    for moment in moments:
        if moment.p50_ms is not None and moment.p99_ms is not None:
            stretches[-1].append((moment.time, moment.p50_ms, moment.p99_ms))
        elif stretches[-1]:
            stretches.append([])
    return stretches


def _time_axis(seconds: float, x_of: Callable[[float], float], begin: float, y: float) -> Iterable[str]:
    step = max(round(seconds / _TICKS), 1)
    for second in range(0, int(seconds) + 1, step):
        yield f'<text x="{x_of(begin + second):.1f}" y="{y}" text-anchor="middle">{second} s</text>'


def _level(y: float, text: str) -> str:
    line = f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _curve(points: Sequence[Point], name: str) -> str:
    return f'<polyline class="line {name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _legend(top: float, one: str, two: str) -> str:
    names = f'<tspan class="one-name">{one}</tspan> · <tspan class="two-name">{two}</tspan>'
    return f'<text x="{_LEFT + _WIDTH}" y="{top - 6}" text-anchor="end">{names}</text>'
