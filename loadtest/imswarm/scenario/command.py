"""`imswarm run` and `imswarm compare`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from imswarm.command import (
    cores_of,
    deployment_of,
    exit_if_wrong,
    failures_reported,
    processes_for,
    terminable,
    workers_for,
)
from imswarm.options import JSON, POSITIVE, SECONDS, TARGET, option, with_options
from imswarm.report import Progress, Report, print_json, print_table
from imswarm.scenario.compare import CompareError, compared, print_comparison, read_report
from imswarm.scenario.page import page
from imswarm.scenario.run import Stage, run_scenario
from imswarm.scenario.script import ScenarioError, changed, find_scenario, known_scenarios, load_scenario

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("scenario")
@with_options(TARGET)
@option("--sessions", type=click.IntRange(2, 1_000_000), help="Instead of what the scenario says; so are the next two.")
@option("--seconds", type=SECONDS, help="How long to measure.")
@option("--workers", type=POSITIVE, help="Workers of the server started here.")
@option("--processes", type=POSITIVE, help="Client processes; by default as many as descriptors ask for.")
@option("--prefix", default="swarm", help="Accounts are named PREFIX0, PREFIX1, ...")
@option("--report", "report_file", type=FILE, help="Write the report, with its timeline, into this file.")
@option("--html", type=FILE, help="Draw the run into this file.")
def run(
    scenario: str,
    sessions: int | None,
    seconds: float | None,
    processes: int | None,
    report_file: Path | None,
    html: Path | None,
    **values: Any,
) -> None:
    """Play a SCENARIO: a TOML file, or the name of one in loadtest/scenarios."""
    try:
        path = find_scenario(scenario)
        script = changed(load_scenario(path), sessions, seconds, values["workers"])
    except ScenarioError as error:
        raise click.UsageError(f"{error}\nThere are: {', '.join(known_scenarios())}.") from error
    if values["workers"] is None:
        values["workers"] = max(script.server.workers, workers_for(script.people.sessions, None))
    values["settings"] = script.environment
    progress = Progress()
    with failures_reported(progress), terminable(), ExitStack() as stack:
        cores = cores_of(values)
        count = processes_for(script.people.sessions, processes)
        progress.stage("starting the server")
        deployment = stack.enter_context(deployment_of(values, cores))
        report = run_scenario(script, Stage(path.stem, deployment, cores, count, values["prefix"], progress))
    _write(report, report_file, html)
    _print(report, values["as_json"])
    exit_if_wrong(report)


def _print(report: Report, as_json: bool) -> None:
    """The timeline is for the files. On a terminal what is a paragraph stands under the table."""
    found, told = report["bottleneck"], {name: value for name, value in report.items() if name != "timeline"}
    if as_json:
        print_json(told)
        return
    print_table({name: value for name, value in told.items() if name not in ("about", "bottleneck")})
    click.echo(f"{found['text']}\n{found['rule']}")


def _write(report: Report, report_file: Path | None, html: Path | None) -> None:
    if report_file is not None:
        report_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if html is not None:
        html.write_text(page(report), encoding="utf-8")


@click.command()
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@JSON
def compare(first: Path, second: Path, as_json: bool) -> None:
    """The figures of two reports side by side, and the ratio of the SECOND to the FIRST."""
    try:
        rows = compared(read_report(first), read_report(second))
    except CompareError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json({"scenario": "compare", "first": str(first), "second": str(second), "figures": rows})
    else:
        print_comparison((first.stem, second.stem), rows)
