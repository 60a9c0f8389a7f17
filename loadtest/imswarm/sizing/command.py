"""`imswarm scaling`, `calibrate`, `capacity`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from imswarm.command import check_pairs, exit_if_wrong, failures_reported, pick, terminable
from imswarm.options import JSON, POSITIVE, SECONDS, numbers, option
from imswarm.processes import Cores, split_cores
from imswarm.report import Progress, Report, print_json, print_table, readable
from imswarm.shipped import shipped
from imswarm.sizing import scaling as scaling_runs
from imswarm.sizing.calibrate import CalibrateOptions
from imswarm.sizing.calibrate import calibrate as run_calibration
from imswarm.sizing.document import written
from imswarm.sizing.model import Coefficients, People, SizingError, errors, read_coefficients
from imswarm.sizing.plan import Plan, Prices, plan, read_prices
from imswarm.sizing.scaling import COLUMNS, ScalingOptions, run_scaling
from imswarm.stamps import STAMP_BYTES

FILE = click.Path(dir_okay=False, path_type=Path)
KNOWN = shipped("capacity")
"""The coefficients and prices that come with the project."""


@click.command()
@option("--workers", type=numbers(), default=(1, 2, 4, 8, 16), help="With the embedded store.")
@option("--shards", type=numbers(), default=(1, 2, 4, 8), help="Primaries of a cluster; '' for none.")
@option("--shard-workers", type=POSITIVE, default=2, help="Workers beside the cluster.")
@option("--pairs", type=POSITIVE, default=200, help="Pairs of sessions that talk.")
@option("--window", type=POSITIVE, default=1, help="Messages outstanding in each direction.")
@option("--rate", "rate_per_second", type=click.FloatRange(min=1.0), help="Open loop: messages a second in all.")
@option("--body-bytes", type=click.IntRange(STAMP_BYTES, 60_000), default=74)
@option("--seconds", type=SECONDS, default=6.0, help="How long to measure each.")
@option("--warm-up-seconds", type=SECONDS, default=2.0)
@option("--rounds", type=POSITIVE, default=3, help="All take turns so many times.")
@option("--processes", type=POSITIVE, default=1, help="Client processes.")
@option("--pin/--no-pin", default=True, help="Servers on the lower half of the cores, load on the upper half.")
@option("--html", type=FILE, help="Draw it into this file.")
@JSON
def scaling(pin: bool, html: Path | None, as_json: bool, **values: Any) -> None:
    """What a message costs in CPU with more and more workers, and with more and more shards."""
    progress = Progress()
    with failures_reported(progress), terminable():
        report = run_scaling(pick(ScalingOptions, values), split_cores() if pin else Cores(), progress)
    if html is not None:
        html.write_text(scaling_runs.page(report), encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        _print_scaling(report)
    exit_if_wrong(report)


def _print_scaling(report: Report) -> None:
    for name in ("by_workers", "by_shards"):
        shown = Table(title=f"imswarm scaling, {name.replace('_', ' ')}: CPU microseconds of a message")
        for column in COLUMNS:
            shown.add_column(column, justify="right")
        for row in report[name]:
            shown.add_row(*(readable(row[column]) for column in COLUMNS))
        Console().print(shown)


@click.command()
@option("--out", type=FILE, required=True, help="Write the coefficients into this file.")
@option("--sessions", type=click.IntRange(min=400), default=4000)
@option("--pairs", type=POSITIVE, default=100, help="Pairs of sessions that talk.")
@option("--seconds", type=SECONDS, default=10.0, help="How long to measure each thing.")
@option("--pin/--no-pin", default=True, help="Server on the lower half of the cores, load on the upper half.")
def calibrate(out: Path, pin: bool, **values: Any) -> None:
    """Measure what everything costs on this machine, which should do nothing else, for `imswarm capacity`."""
    check_pairs(values)
    progress = Progress()
    with failures_reported(progress), terminable():
        known = run_calibration(CalibrateOptions(**values), split_cores() if pin else Cores(), progress)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(known), indent=1) + b"\n")
    for check, error in zip(known.checks, errors(known), strict=True):
        click.echo(f"{check.what}, {check.sessions:,} sessions: the model is {error:+.0%} off")


_NUMBER = click.FloatRange(min=0.0)


@click.command()
@option("--users", type=POSITIVE, default=1_000_000, help="10_000_000 is understood, too.")
@option("--online", type=click.FloatRange(0.0, 1.0), default=0.2, help="Share of them in the busiest hour.")
@option("--messages-per-hour", type=_NUMBER, default=15.0, help="One to one; these rates are of one who is online.")
@option("--group-messages-per-hour", type=_NUMBER, default=4.0)
@option("--group-members-online", type=_NUMBER, default=10.0, help="Who get a group's message.")
@option("--presence-per-hour", type=_NUMBER, default=6.0, help="Changes.")
@option("--contacts-online", type=_NUMBER, default=12.0, help="Who are told of a change.")
@option("--logins-per-hour", type=_NUMBER, default=0.5)
@option("--ping-seconds", type=click.FloatRange(min=1.0), default=60.0)
@option("--kept-messages", type=_NUMBER, default=1000.0, help="Of each user, that the store keeps.")
@option("--coefficients", type=FILE, default=KNOWN / "coefficients.json", help="Made by `imswarm calibrate`.")
@option("--prices", type=FILE, default=KNOWN / "prices.toml")
@option("--write", type=FILE, help="Make the tables of this page (docs/capacity.md) anew, for its own numbers.")
@JSON
def capacity(coefficients: Path, prices: Path, write: Path | None, as_json: bool, **values: Any) -> None:
    """Hosts, shards, memory, network, HAProxy and dollars for so many users, by measured costs."""
    try:
        known, priced = read_coefficients(coefficients), read_prices(prices)
        if write is not None:
            write.write_text(written(write.read_text(encoding="utf-8"), known, priced), encoding="utf-8")
            return
    except SizingError as error:
        raise click.ClickException(str(error)) from error
    found = plan(pick(People, values), known, priced)
    report = _capacity_report(found, known, priced)
    (print_json if as_json else print_table)(report)


def _capacity_report(found: Plan, known: Coefficients, prices: Prices) -> Report:
    off = errors(known)
    return {
        "scenario": "capacity",
        "users": found.people.users,
        "sessions": found.needs.sessions,
        "per_second": found.needs.per_second,
        "server_cores": found.needs.server_cores,
        "redis_cores": found.needs.redis_cores,
        "server_gb": found.needs.server_bytes / 1e9,
        "redis_gb": found.needs.redis_bytes / 1e9,
        "network_mbit": found.network_mbit,
        "hosts": found.hosts,
        "workers": found.workers,
        "shards": found.shards,
        "store_machines": found.store_machines,
        "haproxy": found.balancers,
        "decided_by": dict(found.limits),
        "dollars_a_month": {**found.dollars, "total": found.dollars_total},
        "prices_of": prices.date,
        "measured": known.date,
        "model_error_percent": {"least": 100 * min(off), "most": 100 * max(off)} if off else None,
    }
