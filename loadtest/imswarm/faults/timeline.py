"""The page that shows a run: faults, throughput and delay over time. One file, nothing to be fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from imswarm.faults.figures import Figures, Injury, Moment
from imswarm.plot import Axis, Curve, Panel, drawing, html_page, table

_FAULTS_HEIGHT = 90
_LANES = 5
_GOOD = "No message was lost, doubled, reordered, invented or disputed; nobody was shown wrongly to contacts."
_STYLE = ".fault { fill: #d64545; fill-opacity: .28; }\n"


def page(figures: Figures, rows: Iterable[tuple[str, str]], complaints: Iterable[str], count: int) -> str:
    """The HTML. `rows`: names and values to show; `count`: all that is wrong, of which `complaints` tell some."""
    begin = figures.moments[0].time if figures.moments else 0.0
    verdict = f"Wrong: {count:,}" if count else _GOOD
    body = (
        f'<p class="{"bad" if count else "good"}"><strong>{verdict}</strong></p>',
        _drawing(figures, begin),
        f"<h2>Figures</h2>{table(rows)}",
        "<h2>Faults</h2>",
        table(
            (_fault_row(injury, begin) for injury in figures.injuries),
            ("fault", "at, s", "lasted, s", "traffic back after, s"),
        ),
        *(f"<pre>{escape(complaint)}</pre>" for complaint in complaints),
    )
    return html_page("imswarm faults", "\n".join(body), _STYLE)


def _fault_row(injury: Injury, begin: float) -> tuple[str, ...]:
    back = "-" if injury.back_seconds is None else f"{injury.back_seconds:.2f}"
    return injury.kind, f"{injury.begin - begin:.1f}", f"{injury.mended - injury.begin:.2f}", back


def _drawing(figures: Figures, begin: float) -> str:
    moments = figures.moments
    axis = Axis(begin, max(moments[-1].time, begin + 1.0) if moments else begin + 1.0)
    return drawing(_panels(moments), axis, _FAULTS_HEIGHT, lambda bottom: _marks(figures.injuries, axis, bottom))


def _panels(moments: Sequence[Moment]) -> list[Panel]:
    answered = Curve("messages answered", [(moment.time, moment.answered_per_s) for moment in moments])
    delivered = Curve("deliveries to recipients", [(moment.time, moment.delivered_per_s) for moment in moments])
    median = Curve("median delay", [(moment.time, moment.p50_ms) for moment in moments])
    slowest = Curve("99th percentile", [(moment.time, moment.p99_ms) for moment in moments])
    return [Panel("/s", [answered, delivered]), Panel(" ms", [median, slowest], logarithmic=True)]


def _marks(injuries: Sequence[Injury], axis: Axis, bottom: float) -> Iterable[str]:
    for number, injury in enumerate(injuries):
        left = axis.x_of(injury.begin)
        width = max(axis.x_of(injury.mended) - left, 2.0)
        top = 18 + number % _LANES * 18
        title = f"<title>{escape(injury.kind)}</title>"
        yield f'<rect class="fault" x="{left:.1f}" y="{top - 10}" width="{width:.1f}" height="{bottom - top + 10:.0f}">'
        yield f'{title}</rect><text x="{left + 2:.1f}" y="{top}">{escape(injury.kind)}</text>'
