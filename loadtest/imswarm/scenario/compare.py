"""`imswarm compare`: the figures of two runs, and how many times the first the second is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from imswarm.report import Report, flat, ratio, readable

_LEFT_OUT = ("timeline",)


class CompareError(Exception):
    """A file is not a report; the text says which."""


def read_report(path: Path) -> dict[str, Any]:
    """Raises CompareError."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompareError(f"{path}: {error}") from error
    if not isinstance(report, dict) or "scenario" not in report:
        raise CompareError(f"{path}: not the report of a run, which `imswarm ... --json` prints")
    return report


def compared(first: Report, second: Report) -> list[dict[str, Any]]:
    """Every figure that either has. `ratio`: the second by the first; None where one is missing, no number, or zero."""
    ones, others = _figures(first), _figures(second)
    rows = []
    for name in dict.fromkeys((*ones, *others)):
        one, other = ones.get(name), others.get(name)
        rows.append({"figure": name, "first": one, "second": other, "ratio": ratio(_number(other), _number(one))})
    return rows


def _figures(report: Report) -> dict[str, object]:
    return dict(flat({name: value for name, value in report.items() if name not in _LEFT_OUT}))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def print_comparison(names: tuple[str, str], rows: list[dict[str, Any]]) -> None:
    table = Table(title="imswarm compare")
    table.add_column("figure")
    for name in (*names, "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row["figure"], *(readable(row[column]) for column in ("first", "second", "ratio")))
    Console().print(table)
