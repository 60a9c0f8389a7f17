"""What a run prints: progress on standard error; a table or JSON on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

_LINE_EVERY_SECONDS = 5.0

Report = Mapping[str, Any]
"""Figures by name, some of them mappings again; None where something could not be measured."""


def per(count: float, seconds: float | None) -> float | None:
    """A rate; None if the time is not known, or too short to be seen."""
    return count / seconds if seconds else None


def ratio(figure: float | None, floor: float | None) -> float | None:
    return figure / floor if figure is not None and floor else None


class Progress:
    """One changing line on a terminal; elsewhere a line for each stage, and now and then more."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._stage = ""
        self._begin = 0.0
        self._next_line = 0.0

    def stage(self, text: str) -> None:
        """A new stage of the run begins."""
        self._stage = text
        self._begin = time.monotonic()
        self._next_line = self._begin + _LINE_EVERY_SECONDS
        self._write(text)

    def show(self, sessions: int, delivered: int) -> None:
        """How the stage goes on."""
        now = time.monotonic()
        if self._stream.isatty() or now >= self._next_line:
            self._next_line = now + _LINE_EVERY_SECONDS
            passed = now - self._begin
            text = f"{self._stage}: {passed:.0f} s, {sessions:,} sessions, {delivered:,} delivered"
            self._write(text)

    def end(self) -> None:
        """Leave a clean line to what is printed next."""
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}" if self._stream.isatty() else f"{text}\n")
        self._stream.flush()


def print_json(report: Report) -> None:
    print(json.dumps(report))


def print_table(report: Report) -> None:
    table = Table(title=f"imswarm {report['scenario']}", show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in flat(report):
        table.add_row(name, readable(value))
    Console().print(table)


def flat(report: Report, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in report.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name} ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, part in enumerate(value, 1):
                yield from flat(part, f"{prefix}{name} {number} ")
        else:
            yield f"{prefix}{name}", value


def readable(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        case list() | tuple():
            return ", ".join(map(readable, value))
    return str(value)
