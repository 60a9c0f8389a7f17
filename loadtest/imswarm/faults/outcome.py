"""How a run is told: as JSON, as tables, as a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from imswarm.faults.figures import Injury
from imswarm.faults.incidents import INCIDENTS, Incident, count, is_around
from imswarm.faults.run import Outcome
from imswarm.faults.timeline import page
from imswarm.judge import KINDS
from imswarm.presence_judge import PRESENCE_KINDS
from imswarm.report import flat, print_json, readable

_TOLD = 10


def show_outcome(outcome: Outcome, html: Path | None, *, as_json: bool) -> None:
    """The report on standard output, the page in its file, and what is wrong on standard error."""
    if html is not None:
        table = [(name, readable(value)) for name, value in flat(summary(outcome))]
        html.write_text(page(outcome.figures, table, complaints(outcome), outcome.wrong), encoding="utf-8")
    for text in complaints(outcome):
        click.echo(text, err=True)
    if as_json:
        print_json(report(outcome))
    else:
        _print_tables(outcome)


def complaints(outcome: Outcome) -> Iterable[str]:
    """What is wrong, in words; the first few of each sort."""
    yield from map(str, outcome.verdict.violations[:_TOLD])
    yield from map(str, outcome.presence.violations[:_TOLD])
    yield from (f"nothing excuses it: {_placed(incident, outcome)}" for incident in outcome.unspared[:_TOLD])
    yield from (f"not in time: {what}" for what in outcome.missing[:_TOLD])
    yield from (f"unexpected: {what}" for what in outcome.troubles[:_TOLD])


def _placed(incident: Incident, outcome: Outcome) -> str:
    return f"{incident.time - _begin(outcome):.2f} s, {incident}"


def _begin(outcome: Outcome) -> float:
    """When the times of the report begin: the first moment of the run."""
    moments = outcome.figures.moments
    return moments[0].time if moments else 0.0


def summary(outcome: Outcome) -> dict[str, Any]:
    """The figures of a run, without the list of its faults."""
    figures, counts = outcome.figures, outcome.verdict.counts
    return {
        "scenario": "faults",
        "seconds": outcome.seconds,
        "faults_done": len(figures.injuries),
        "faults_planned": outcome.planned,
        "messages": figures.messages,
        "messages_per_s": figures.messages / outcome.seconds,
        "ok": figures.ok,
        "fail": figures.failed,
        "unknown": figures.unknown,
        "deliveries": figures.deliveries,
        "group_messages": figures.group_messages,
        **{kind: counts[kind] for kind in KINDS},
        **{kind: outcome.presence.counts[kind] for kind in PRESENCE_KINDS},
        "absences_judged": outcome.presence.absences,
        "unexcused": count(outcome.unspared),
        "tolerated": ", ".join(sorted(outcome.tolerated)) or "nothing",
        "missing": len(outcome.missing),
        "troubles": len(outcome.troubles),
        "delay_ms": figures.delay.summary_ms(),
        "probes": {
            "connects": outcome.probes.connects,
            "sent_elsewhere": outcome.probes.sent_elsewhere,
            "entry_ms": outcome.probes.entry.summary_ms(),
        },
    }


def report(outcome: Outcome) -> dict[str, Any]:
    """Everything; times of faults count from the first moment of the run."""
    return {
        **summary(outcome),
        "faults_by_kind": outcome.faults,
        "faults": [_told(injury, outcome) for injury in outcome.figures.injuries],
        "complaints": list(complaints(outcome)),
    }


def _told(injury: Injury, outcome: Outcome) -> dict[str, Any]:
    """Incidents are counted with every fault that was under way, excused or not."""
    return {
        "kind": injury.kind,
        "at_s": injury.begin - _begin(outcome),
        "lasted_s": injury.mended - injury.begin,
        "back_after_s": injury.back_seconds,
        **count(each for each in outcome.incidents if is_around(injury, each)),
    }


def _print_tables(outcome: Outcome) -> None:
    figures = Table(title="imswarm faults", show_header=False)
    figures.add_column("figure")
    figures.add_column("value", justify="right")
    for name, value in flat(summary(outcome)):
        figures.add_row(name, readable(value))
    faults = Table(title="faults")
    faults.add_column("kind")
    for name in ("at, s", "lasted, s", "traffic back after, s", *INCIDENTS):
        faults.add_column(name, justify="right")
    for told in report(outcome)["faults"]:
        faults.add_row(*map(readable, told.values()))
    Console().print(figures, faults)
