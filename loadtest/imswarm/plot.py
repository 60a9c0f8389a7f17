"""Curves over one axis, as SVG in a page that needs nothing to be fetched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

LEFT, WIDTH, RIGHT = 70, 1000, 40
PANEL_HEIGHT, GAP = 180, 34
_TICKS = 10
_LEAST = 1.0
"""The lowest value that a logarithmic panel shows."""

_COLOURS = ("#1f77b4", "#e08a00", "#2a8a3e", "#d64545", "#8a5fbf", "#8c564b", "#d077b4", "#7f7f7f")

STYLE = """:root { color-scheme: light dark; }
body { font: 14px/1.5 system-ui, sans-serif; max-width: 1120px; margin: 2em auto; padding: 0 1em; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
.grid { stroke: currentColor; stroke-opacity: .15; } .line { fill: none; stroke-width: 1.4; }
table { border-collapse: collapse; } td, th { padding: .15em .8em .15em 0; text-align: right; }
td:first-child, th:first-child { text-align: left; } pre { overflow-x: auto; }
.good { color: #2a8a3e; } .bad { color: #d64545; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
{style}</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """`points`: x and value, in order; None where there was nothing to measure, which leaves a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Some curves over each other. `unit` stands behind each level; `logarithmic`: from 1, a level for each decade."""

    unit: str
    curves: Sequence[Curve]
    logarithmic: bool = False

    @property
    def most(self) -> float:
        return max((value for curve in self.curves for _, value in curve.points if value is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """What all panels share: x from `begin` to `end`; `unit` stands behind each tick."""

    begin: float
    end: float
    unit: str = "s"

    def x_of(self, value: float) -> float:
        return LEFT + (value - self.begin) / max(self.end - self.begin, 1e-9) * WIDTH

    def ticks(self) -> Iterable[float]:
        """Whole numbers above `begin`."""
        length = self.end - self.begin
        step = max(round(length / _TICKS), 1)
        return (self.begin + tick for tick in range(0, int(length) + 1, step))


def html_page(title: str, body: str, style: str = "") -> str:
    return _PAGE.format(title=escape(title), style=STYLE + style, body=body)


def no_marks(bottom: float) -> Iterable[str]:
    return ()


def drawing(
    panels: Sequence[Panel], axis: Axis, top: float = 0.0, marks: Callable[[float], Iterable[str]] = no_marks
) -> str:
    """The panels, one below the other. `marks(bottom)`: what is drawn first, `top` high above them and through them."""
    tops = [top + 20 + number * (PANEL_HEIGHT + GAP) for number in range(len(panels))]
    height = top + 20 + len(panels) * (PANEL_HEIGHT + GAP)
    parts = [*marks(height - GAP)]
    for panel, panel_top in zip(panels, tops, strict=True):
        parts += _panel(panel, axis, panel_top)
    for tick in axis.ticks():
        place = f'x="{axis.x_of(tick):.1f}" y="{height - 12:.0f}" text-anchor="middle"'
        parts.append(f"<text {place}>{tick - axis.begin:g} {axis.unit}</text>")
    return f'<svg viewBox="0 0 {LEFT + WIDTH + RIGHT} {height:.0f}" role="img">{"".join(parts)}</svg>'


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> str:
    """An HTML table; every cell is text."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def _panel(panel: Panel, axis: Axis, top: float) -> Iterable[str]:
    y_of, levels = (_decades if panel.logarithmic else _linear)(panel.most, top)
    for level in levels:
        yield _level(y_of(level), f"{_shown(level)}{panel.unit}")
    for number, curve in reversed(list(enumerate(panel.curves))):
        for stretch in _stretches(curve.points):
            points = " ".join(f"{axis.x_of(x):.1f},{y_of(value):.1f}" for x, value in stretch)
            yield f'<polyline class="line" stroke="{_COLOURS[number % len(_COLOURS)]}" points="{points}"/>'
    yield _legend(top, [curve.name for curve in panel.curves])


def _linear(most: float, top: float) -> tuple[Callable[[float], float], list[float]]:
    most = most or 1.0
    return lambda value: top + PANEL_HEIGHT * (1 - value / most), [share * most for share in (0.0, 0.5, 1.0)]


def _decades(most: float, top: float) -> tuple[Callable[[float], float], list[float]]:
    decades = max(math.ceil(math.log10(max(most, 10.0) / _LEAST)), 1)

    def y_of(value: float) -> float:
        return top + PANEL_HEIGHT * (1 - math.log10(max(value, _LEAST) / _LEAST) / decades)

    return y_of, [_LEAST * 10**decade for decade in range(decades + 1)]


def _stretches(points: Sequence[tuple[float, float | None]]) -> list[list[Point]]:
    """A new list after every point without a value."""
    stretches: list[list[Point]] = [[]]
    for x, value in points:
        if value is not None:
            stretches[-1].append((x, value))
        elif stretches[-1]:
            stretches.append([])
    return stretches


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _level(y: float, text: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'


def _legend(top: float, names: Sequence[str]) -> str:
    """In `style`, since `fill` alone would not win against the page's style for text."""
    spans = (
        f'<tspan style="fill:{_COLOURS[number % len(_COLOURS)]}">{escape(name)}</tspan>'
        for number, name in enumerate(names)
    )
    return f'<text x="{LEFT + WIDTH}" y="{top - 6:.0f}" text-anchor="end">{" · ".join(spans)}</text>'
